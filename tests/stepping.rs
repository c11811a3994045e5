//! SQLite's statements, stepped where their rows are used: the same answers as by sqlx's driver, whoever does
//! it, and connections that sqlx can go on with.

use std::path::Path;
use std::sync::Mutex;

use futures_util::StreamExt;
use multicore_core::sqlite::Direct;
use multicore_core::{
    Consistency, Execution, Format, List, ListError, ListQuery, Multicore, Page, Paging, Start, Strategy,
    asc, desc,
};
use serde::Serialize;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteJournalMode, SqliteRow};
use sqlx::{Connection, Database, Decode, Executor, FromRow, Row, Sqlite, SqlitePool, Type};

use crate::databases::{people, sqlite, sqlite_of};
use crate::support::{over, soon, until_idle};

/// A number that knows by whom its row was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
struct Witness {
    number: i64,
    #[serde(skip)]
    by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Driver,
    Here,
}

macro_rules! witness {
    ($database:ty, $by:ident) => {
        impl Type<$database> for Witness {
            fn type_info() -> <$database as Database>::TypeInfo {
                <i64 as Type<$database>>::type_info()
            }
        }

        impl<'r> Decode<'r, $database> for Witness {
            fn decode(value: <$database as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
                Ok(Witness { number: <i64 as Decode<$database>>::decode(value)?, by: By::$by })
            }
        }
    };
}

witness!(Sqlite, Driver);
witness!(Direct, Here);

#[derive(Clone, Debug, FromRow, Serialize)]
struct Person {
    id: Witness,
    name: String,
}

fn persons() -> ListQuery<Person, Sqlite> {
    ListQuery::<Person>::select("id, name").from("person").order_by([asc("id")])
}

fn persons_by_driver() -> ListQuery<Person, Sqlite> {
    ListQuery::<Person>::select_by_driver("id, name").from("person").order_by([asc("id")])
}

/// A page, and how many of its rows were read by the driver and how many here.
async fn read(
    mc: &Multicore<Sqlite>,
    query: ListQuery<Person, Sqlite>,
    page: impl Into<Paging>,
) -> Result<(List, [usize; 2]), ListError> {
    let seen = std::sync::Arc::new(Mutex::new([0; 2]));
    let counter = std::sync::Arc::clone(&seen);
    let list = soon(mc.list(query, page, move |person: Person| {
        counter.lock().unwrap()[usize::from(person.id.by == By::Here)] += 1;
        person
    }))
    .await?;
    let seen = *seen.lock().unwrap();
    Ok((list, seen))
}

async fn served(rows: u32) -> (tempfile::TempDir, SqlitePool, Multicore<Sqlite>) {
    let (folder, pool) = sqlite().await;
    people(&pool, rows).await;
    let mc = over(&pool, 2).await;
    (folder, pool, mc)
}

/// What keeps a statement from being counted as prompt, with a value of each kind; true of all but the first.
fn filtered(query: ListQuery<Person, Sqlite>) -> ListQuery<Person, Sqlite> {
    query
        .filter(|q| {
            q.push("id > ").push_bind(0).push(" AND name <> ").push_bind("nobody's ?");
        })
        .filter(|q| {
            q.push("(name = ").push_bind(None::<String>).push(") IS NULL AND id > ").push_bind(1.5);
        })
        .filter(|q| {
            q.push("name <> ").push_bind(vec![1_u8, 2]).push(" AND id >= ").push_bind(true);
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_ranges_and_cursors_are_those_of_the_driver_and_not_read_by_it() {
    let (_folder, _pool, mc) = served(3_000).await;
    type Filter = fn(ListQuery<Person, Sqlite>) -> ListQuery<Person, Sqlite>;
    let ways: [Filter; 2] = [|query| query, filtered];
    for (way, filter) in ways.into_iter().enumerate() {
        for (limit, offset) in
            [(0, 0), (1, 0), (10, 5), (1_000, 0), (1_000, 1_500), (500, 2_800), (10, 5_000)]
        {
            let page = Page { limit, offset };
            let (oracle, by) =
                read(&mc, filter(persons_by_driver()).execution(Execution::Sequential), page).await.unwrap();
            assert_eq!(by[1], 0);
            for strategy in [Strategy::Single, Strategy::Ranges] {
                for execution in [Execution::Auto, Execution::Parallel, Execution::Sequential] {
                    for consistency in [Consistency::Snapshot, Consistency::PerRange] {
                        let query = filter(persons()).strategy(strategy).execution(execution);
                        let (list, by) = read(&mc, query.consistency(consistency), page).await.unwrap();
                        let case =
                            format!("{way} {page:?} {strategy:?} {execution:?} {consistency:?} {by:?}");
                        assert_eq!(list.to_bytes(), oracle.to_bytes(), "{case}");
                        assert_eq!(list.around(), oracle.around(), "{case}");
                        assert_eq!(by, [0, oracle.rows()], "{case}");
                    }
                }
            }
        }
        // Walks over cursors, forth and back.
        for strategy in [Strategy::Single, Strategy::Ranges] {
            let mut at = Start::First;
            let mut ids = 0;
            loop {
                let paging = Paging { start: at, ..Paging::from(Page { limit: 700, offset: 0 }) };
                let (list, by) =
                    read(&mc, filter(persons()).strategy(strategy), paging.clone()).await.unwrap();
                let (oracle, _) = read(&mc, filter(persons_by_driver()), paging).await.unwrap();
                assert_eq!((list.to_bytes(), list.around()), (oracle.to_bytes(), oracle.around()));
                assert_eq!(by, [0, list.rows()]);
                ids += list.rows();
                match list.around().next_cursor.clone() {
                    Some(next) => at = Start::After(next),
                    None => break,
                }
            }
            assert_eq!(ids, if way == 0 { 3_000 } else { 2_999 });
        }
        let (second, _) = read(
            &mc,
            filter(persons()),
            Paging { start: Start::First, ..Paging::from(Page { limit: 50, offset: 0 }) },
        )
        .await
        .unwrap();
        let next = second.around().next_cursor.clone().unwrap();
        let (third, _) = read(
            &mc,
            filter(persons()),
            Paging { start: Start::After(next), ..Paging::from(Page { limit: 50, offset: 0 }) },
        )
        .await
        .unwrap();
        let before = Start::Before(third.around().previous_cursor.clone().unwrap());
        let (back, by) = read(
            &mc,
            filter(persons()),
            Paging { start: before, ..Paging::from(Page { limit: 50, offset: 0 }) },
        )
        .await
        .unwrap();
        assert_eq!((back.to_bytes(), by), (second.to_bytes(), [0, 50]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_are_those_of_the_driver() {
    let (_folder, _pool, mc) = served(5_000).await;
    for query in [persons, || filtered(persons())] {
        let by = std::sync::Arc::new(Mutex::new([0; 2]));
        let counter = std::sync::Arc::clone(&by);
        let count = move |person: Person| {
            counter.lock().unwrap()[usize::from(person.id.by == By::Here)] += 1;
            person
        };
        let mut export = soon(mc.stream(query(), count, Format::Ndjson)).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = soon(export.next()).await {
            bytes.extend(chunk.unwrap());
        }
        let first = 1 + usize::from(!bytes.starts_with(b"{\"id\":1,"));
        let lines: Vec<String> =
            (first..=5_000).map(|id| format!("{{\"id\":{id},\"name\":\"user {id}\"}}\n")).collect();
        assert!(String::from_utf8(bytes).unwrap() == lines.concat());
        assert_eq!(*by.lock().unwrap(), [0, lines.len()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_take_long_or_wait_is_left_to_the_driver() {
    let (folder, pool, mc) = served(100).await;
    let page = Page { limit: 10, offset: 0 };
    // Sorted first.
    let sorted = ListQuery::<Person>::select("id, name").from("person").order_by([desc("name"), asc("id")]);
    assert_eq!(read(&mc, sorted, page).await.unwrap().1, [10, 0]);
    // Not understood.
    let windowed = ListQuery::<Person>::select("id, max(name) OVER () AS name").from("person");
    assert_eq!(read(&mc, windowed.order_by([asc("id").unique()]), page).await.unwrap().1, [10, 0]);
    drop(mc);
    // Without a write-ahead log a reader waits for a writer.
    let options = (*pool.connect_options()).clone().filename(folder.path().join("other.db"));
    let other = SqlitePool::connect_with(options.journal_mode(SqliteJournalMode::Delete)).await.unwrap();
    people(&other, 100).await;
    let mc = over(&other, 1).await;
    assert_eq!(read(&mc, persons(), page).await.unwrap().1, [10, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_stalls_is_gone_on_with_by_the_driver_on_the_same_snapshot() {
    let (_folder, pool, mc) = served(200_000).await;
    let page = Page { limit: 100, offset: 0 };
    // Forty rows, then a desert, then forty more.
    let query = |query: ListQuery<Person, Sqlite>| {
        query.filter(|q| {
            q.push("(id <= ").push_bind(40).push(" OR id > ").push_bind(199_960).push(")");
        })
    };
    let (oracle, _) = read(&mc, query(persons_by_driver()), page).await.unwrap();
    assert_eq!(oracle.rows(), 80);
    for strategy in [Strategy::Single, Strategy::Ranges] {
        let mc = over(&pool, 2).await;
        let writer = pool.clone();
        let wrote = std::sync::Arc::new(Mutex::new(false));
        let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
        let (once, counter) = (std::sync::Arc::clone(&wrote), std::sync::Arc::clone(&seen));
        let runtime = tokio::runtime::Handle::current();
        let list = soon(mc.list(query(persons()).strategy(strategy), page, move |person: Person| {
            counter.lock().unwrap().push(person.id.by);
            // (Ranges that stall are read again as a whole, which may see it.)
            if strategy == Strategy::Single && !std::mem::replace(&mut *once.lock().unwrap(), true) {
                // Somebody commits while the page is half read, and takes it back for the next round.
                let writer = writer.clone();
                let written = std::thread::spawn({
                    let runtime = runtime.clone();
                    move || {
                        runtime.block_on(async {
                            writer.execute("UPDATE person SET name = 'changed'").await.unwrap();
                            writer.execute("UPDATE person SET name = 'user ' || id").await.unwrap();
                            writer.execute("DELETE FROM person WHERE id = 199999").await.unwrap();
                        });
                    }
                });
                written.join().unwrap();
            }
            person
        }))
        .await
        .unwrap();
        assert!(list.to_bytes() == oracle.to_bytes(), "{strategy:?}");
        pool.execute("INSERT OR IGNORE INTO person VALUES (199999, 'user 199999')").await.unwrap();
        let by = seen.lock().unwrap().clone();
        if strategy == Strategy::Single {
            assert_eq!(by, [vec![By::Here; 40], vec![By::Driver; 40]].concat());
        }
        if strategy == Strategy::Ranges {
            // Workers may take their time.
            continue;
        }
        // It is remembered.
        assert_eq!(read(&mc, query(persons()), page).await.unwrap().1, [80, 0]);
        assert_eq!(read(&mc, persons(), page).await.unwrap().1, [0, 100]);
        mc.shutdown(crate::support::PATIENCE).await;
    }
}

/// Decodes from the driver's rows alone.
struct ByHand(i64);

impl FromRow<'_, SqliteRow> for ByHand {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(ByHand(row.try_get::<i64, _>("id")? * 2))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_that_only_the_drivers_rows_decode_into_is_read_by_the_driver() {
    let (_folder, _pool, mc) = served(2_000).await;
    for strategy in [Strategy::Single, Strategy::Ranges] {
        let query = ListQuery::<ByHand>::select_by_driver("id").from("person").order_by([asc("id")]);
        let page = Page { limit: 1_500, offset: 100 };
        let list = soon(mc.list(query.strategy(strategy), page, |ByHand(twice)| twice)).await.unwrap();
        let want: Vec<i64> = (101..=1_600).map(|id| 2 * id).collect();
        assert_eq!(list.to_bytes(), serde_json::to_vec(&want).unwrap());
        assert_eq!(list.strategy(), strategy);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_clean_after_pages_that_failed_or_were_left_and_close_in_good_order() {
    let (_folder, pool) = sqlite_of(1).await;
    people(&pool, 3_000).await;
    let mc = over(&pool, 2).await;
    until_idle(&mc).await;
    let page = Page { limit: 2_000, offset: 0 };
    for round in 0..30 {
        let strategy = if round % 2 == 0 { Strategy::Single } else { Strategy::Ranges };
        match round % 5 {
            0 => {
                let failing = ListQuery::<Person>::select(
                    "id, iif(id = 1500, abs(-9223372036854775808), name) AS name",
                );
                let failing = failing.from("person").order_by([asc("id")]).strategy(strategy);
                let error = read(&mc, failing, page).await.unwrap_err();
                assert!(matches!(error, ListError::Statement(_)), "{error:?}");
            }
            1 => {
                let undecodable = ListQuery::<Person>::select("id, iif(id = 1500, 7, name) AS name");
                let undecodable = undecodable.from("person").order_by([asc("id")]).strategy(strategy);
                let error = read(&mc, undecodable, page).await.unwrap_err();
                assert!(matches!(error, ListError::Decode(_)), "{error:?}");
            }
            2 => {
                let query = filtered(persons()).strategy(strategy);
                let list = mc.list(query, page, |person: Person| {
                    if person.id.number == 1_500 {
                        std::panic::resume_unwind(Box::new("a row"));
                    }
                    person
                });
                assert!(matches!(soon(list).await, Err(ListError::Panicked { .. })));
            }
            3 => {
                // Left in the middle, wherever that is.
                let query = filtered(persons()).strategy(strategy);
                let mut list = Box::pin(mc.list(query, page, |person: Person| person));
                for _ in 0..round {
                    let _pending = futures_util::poll!(list.as_mut());
                    if _pending.is_ready() {
                        break;
                    }
                }
            }
            _ => {
                let export = soon(mc.stream(persons(), |person: Person| person, Format::Csv)).await.unwrap();
                drop(export);
            }
        }
        // sqlx's own, on the pool's only connection: outside any transaction, with nothing running.
        let mut connection = soon(pool.acquire()).await.unwrap();
        sqlx::query("UPDATE person SET name = name WHERE id = ?")
            .bind(1)
            .execute(&mut *connection)
            .await
            .unwrap();
        let begun = connection.begin().await.unwrap();
        begun.rollback().await.unwrap();
        drop(connection);
        assert_eq!(read(&mc, persons(), page).await.unwrap().1, [0, 2_000]);
    }
    // sqlx's thread panics when it closes a connection that has statements.
    soon(pool.acquire()).await.unwrap().detach().close().await.unwrap();
    let report = soon(mc.shutdown(crate::support::PATIENCE)).await;
    assert!(report.stuck.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_changes_between_pages_is_seen() {
    let (_folder, pool, mc) = served(50).await;
    let page = Page { limit: 3, offset: 0 };
    let query = || ListQuery::<Person>::select("person.*").from("person").order_by([asc("id")]);
    for change in [
        "ALTER TABLE person ADD COLUMN wage INTEGER",
        "ALTER TABLE person RENAME COLUMN wage TO salary",
        "CREATE INDEX person_name ON person (name)",
        "ALTER TABLE person DROP COLUMN salary",
    ] {
        let (list, by) = read(&mc, query(), page).await.unwrap();
        assert_eq!(
            list.to_bytes(),
            br#"[{"id":1,"name":"user 1"},{"id":2,"name":"user 2"},{"id":3,"name":"user 3"}]"#
        );
        assert_eq!(by[0] + by[1], 3);
        pool.execute(change).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_in_the_middle_of_its_transaction_holds_nobody_up() {
    let (_folder, pool, mc) = served(2_000).await;
    let mut writer = pool.begin().await.unwrap();
    writer.execute("UPDATE person SET name = 'changed'").await.unwrap();
    for strategy in [Strategy::Single, Strategy::Ranges] {
        let page = Page { limit: 2_000, offset: 0 };
        let (list, by) = read(&mc, persons().strategy(strategy), page).await.unwrap();
        assert_eq!((list.rows(), by), (2_000, [0, 2_000]));
        assert!(!String::from_utf8(list.to_bytes().to_vec()).unwrap().contains("changed"));
    }
    writer.rollback().await.unwrap();
}

/// The workspace denies unsafe code; a file can allow it, and only these do.
#[test]
fn two_files_have_unsafe_code() {
    fn look(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                look(&path, found);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                // In two pieces, or this file would be found.
                if text.contains(concat!("allow(unsafe", "_code"))
                    || text.contains(concat!("expect(unsafe", "_code"))
                {
                    found.push(name);
                }
            }
        }
    }
    let mut found = Vec::new();
    look(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut found);
    found.sort();
    assert_eq!(found, ["memory.rs", "statement.rs"]);
}
