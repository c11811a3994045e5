//! The data side on SQLite, in a file of a temporary folder; also what needs only one database to
//! be shown: interrupted and refused seedings, adopted tables.

use example_app::database::AppDatabase;
use example_app::dataset::user_row;
use example_app::progress::{Progress, Quiet};
use example_app::seed::{SeedError, seed};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Executor, Sqlite, SqlitePool};
use tempfile::TempDir;

use super::checks::{self, plan, seeded, users};

/// An empty database; it goes with the folder.
async fn database() -> (TempDir, SqlitePool) {
    let folder = tempfile::tempdir().unwrap();
    let options =
        SqliteConnectOptions::new().filename(folder.path().join("people.db")).create_if_missing(true);
    let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
    (folder, pool)
}

async fn migrated() -> (TempDir, SqlitePool) {
    let (folder, pool) = database().await;
    Sqlite::migrate(&pool).await.unwrap();
    (folder, pool)
}

async fn integer(pool: &SqlitePool, sql: &'static str) -> Option<i32> {
    Sqlite::integer(&mut pool.acquire().await.unwrap(), sql).await.unwrap()
}

#[tokio::test]
async fn migrates_seeds_and_reads_back() {
    let (_folder, pool) = database().await;
    checks::migrates_seeds_and_reads_back(&pool).await;
}

#[tokio::test]
async fn values_are_stored_in_the_text_form_of_the_data_set() {
    let (_folder, pool) = migrated().await;
    seeded(&pool, plan(1, 0)).await;
    let row: (String, String, String, String) = sqlx::query_as(
        "SELECT typeof(is_active) || is_active, typeof(date_joined), date_joined || '', \
         birth_date || '' FROM people_user u JOIN people_profile p ON p.user_id = u.id",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    let (is_active, kind, joined, born) = row;
    assert_eq!([is_active.as_str(), &kind], ["integer1", "text"]);
    assert_eq!([joined.as_str(), &born], ["2017-01-09 02:49:30", "1950-09-18"]);
}

#[tokio::test]
async fn tables_of_another_program_are_adopted_and_their_rows_kept() {
    let (_folder, pool) = database().await;
    pool.execute(
        "CREATE TABLE people_user (
           id integer PRIMARY KEY, username varchar(150) NOT NULL UNIQUE,
           first_name varchar(150) NOT NULL, last_name varchar(150) NOT NULL,
           email varchar(254) NOT NULL, is_active bool NOT NULL, is_staff bool NOT NULL,
           date_joined datetime NOT NULL);
         CREATE TABLE people_profile (
           id integer PRIMARY KEY, user_id integer NOT NULL UNIQUE REFERENCES people_user(id),
           location varchar(100) NOT NULL, birth_date date NOT NULL, karma integer NOT NULL,
           website varchar(200) NOT NULL, bio text NOT NULL);
         INSERT INTO people_user VALUES (1, 'ada', 'Ada', 'L', 'ada@example.com', 1, 0,
           '2010-12-10 00:00:00.250000');
         INSERT INTO people_profile VALUES (1, 1, 'London', '1815-12-10', 3, '', 'Countess.');",
    )
    .await
    .unwrap();
    Sqlite::migrate(&pool).await.unwrap();
    assert_eq!(seeded(&pool, plan(3, 0)).await[0], (2, 1));
    let rows = users(&pool).await;
    assert_eq!((rows[0].username.as_str(), rows[0].karma), ("ada", 3));
    assert_eq!(rows[0].date_joined.to_string(), "2010-12-10T00:00:00Z");
    assert_eq!(rows[0].birth_date.to_string(), "1815-12-10");
    assert_eq!(rows[1..], [user_row(2), user_row(3)]);
}

#[tokio::test]
async fn a_failed_transaction_leaves_no_user_without_a_profile() {
    let (_folder, pool) = migrated().await;
    pool.execute(
        "CREATE TRIGGER stop BEFORE INSERT ON people_profile WHEN NEW.id = 1200
         BEGIN SELECT RAISE(ABORT, 'stop'); END",
    )
    .await
    .unwrap();
    let error = seed(&pool, plan(1_500, 0), &mut Quiet).await.unwrap_err();
    assert!(matches!(error, SeedError::Insert { first: 1_001, last: 1_500, .. }), "{error:?}");
    assert_eq!(error.to_string(), "cannot insert the users 1001 to 1500");
    assert_eq!(integer(&pool, "SELECT MAX(id) FROM people_user").await, Some(1_000));
    assert_eq!(integer(&pool, "SELECT MAX(id) FROM people_profile").await, Some(1_000));

    pool.execute("DROP TRIGGER stop").await.unwrap();
    assert_eq!(seeded(&pool, plan(1_500, 0)).await[0], (500, 1_000));
    assert_eq!(users(&pool).await, (1..=1_500).map(user_row).collect::<Vec<_>>());
}

/// Remembers the calls; panics at the first advance if so told.
#[derive(Default)]
struct Recorder {
    calls: Vec<String>,
    panics: bool,
}

impl Progress for Recorder {
    fn begin(&mut self, what: &'static str, done: u64, total: u64) {
        self.calls.push(format!("{what} {done}/{total}"));
    }

    fn advance(&mut self, rows: u64) {
        assert!(!self.panics, "interrupted on purpose");
        self.calls.push(format!("+{rows}"));
    }

    fn end(&mut self) {
        self.calls.push("end".to_owned());
    }
}

#[tokio::test]
async fn an_interrupted_seeding_is_taken_up_where_it_stopped() {
    let (_folder, pool) = migrated().await;
    let interrupted = tokio::spawn({
        let pool = pool.clone();
        async move {
            let mut progress = Recorder { panics: true, ..Recorder::default() };
            seed(&pool, plan(1_500, 101), &mut progress).await
        }
    });
    assert!(interrupted.await.unwrap_err().is_panic());

    let mut progress = Recorder::default();
    let report = seed(&pool, plan(1_500, 101), &mut progress).await.unwrap();
    assert_eq!((report.users.inserted, report.users.already_there), (500, 1_000));
    assert_eq!(progress.calls, ["users 1000/1500", "+500", "end", "articles 0/101", "+100", "+1", "end"]);
    assert_eq!(users(&pool).await, (1..=1_500).map(user_row).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_complete_database_reports_no_progress() {
    let (_folder, pool) = migrated().await;
    seeded(&pool, plan(5, 5)).await;
    let mut progress = Recorder::default();
    seed(&pool, plan(5, 4), &mut progress).await.unwrap();
    assert!(progress.calls.is_empty(), "{:?}", progress.calls);
}

#[tokio::test]
async fn rows_that_exist_are_never_touched() {
    let (_folder, pool) = migrated().await;
    seeded(&pool, plan(3, 0)).await;
    pool.execute("UPDATE people_user SET first_name = 'Changed' WHERE id = 2").await.unwrap();
    seeded(&pool, plan(6, 0)).await;
    let rows = users(&pool).await;
    assert_eq!((rows.len(), rows[1].first_name.as_str()), (6, "Changed"));
}

#[tokio::test]
async fn seeding_refreshes_the_statistics() {
    let (_folder, pool) = migrated().await;
    seeded(&pool, plan(50, 10)).await;
    let tables =
        integer(&pool, "SELECT count(DISTINCT tbl) FROM sqlite_stat1 WHERE tbl LIKE '%\\_%' ESCAPE '\\'")
            .await;
    assert!(tables >= Some(3), "{tables:?}");
}

#[tokio::test]
async fn what_cannot_be_seeded_is_an_error_that_says_why() {
    let (_folder, pool) = database().await;
    let error = seed(&pool, plan(1, 1), &mut Quiet).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot see how many users there are");

    let error = seed(&pool, plan(3_000_000_000, 1), &mut Quiet).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot seed 3000000000 users: ids are 32-bit, so at most 2147483647");
}
