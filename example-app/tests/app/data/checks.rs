//! The checks that every database must pass, generic over it.

use example_app::articles::{ARTICLE_COLUMNS, ARTICLE_TABLES, ArticleRow, article};
use example_app::database::AppDatabase;
use example_app::dataset::user_row;
use example_app::progress::Quiet;
use example_app::seed::{SeedPlan, SeedReport, seed};
use example_app::users::{USER_COLUMNS, USER_TABLES, UserRow, UserView};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Executor, FromRow, IntoArguments, Pool};

/// The answer of the first 100 people, by the data set.
const FIRST_100: &str = "31d9baa504ef6e053d6a78e4e105c01faf38cee57ff8f115793dbfdfe40c5834";

pub(crate) fn plan(users: u32, articles: u32) -> SeedPlan {
    SeedPlan { users, articles }
}

/// Seeds quietly, and gives (inserted, already there) for users and for articles.
pub(crate) async fn seeded<DB: AppDatabase>(pool: &Pool<DB>, plan: SeedPlan) -> [(u32, u32); 2] {
    let SeedReport { users, articles, .. } = seed(pool, plan, &mut Quiet).await.unwrap();
    [users, articles].map(|seeded| (seeded.inserted, seeded.already_there))
}

pub(crate) async fn users<DB: AppDatabase>(pool: &Pool<DB>) -> Vec<UserRow>
where
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c Pool<DB>: Executor<'c, Database = DB>,
    for<'r> UserRow: FromRow<'r, DB::Row>,
{
    let sql = format!("SELECT {USER_COLUMNS} FROM {USER_TABLES} ORDER BY u.id");
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
}

pub(crate) async fn articles<DB: AppDatabase>(pool: &Pool<DB>) -> Vec<ArticleRow>
where
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c Pool<DB>: Executor<'c, Database = DB>,
    for<'r> ArticleRow: FromRow<'r, DB::Row>,
{
    let sql = format!("SELECT {ARTICLE_COLUMNS} FROM {ARTICLE_TABLES} ORDER BY a.id");
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
}

/// From an empty database to rows that equal the rules; migrating and seeding again do nothing,
/// seeding more goes on, seeding less leaves all as it is.
pub(crate) async fn migrates_seeds_and_reads_back<DB: AppDatabase>(pool: &Pool<DB>)
where
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c Pool<DB>: Executor<'c, Database = DB>,
    for<'r> UserRow: FromRow<'r, DB::Row>,
    for<'r> ArticleRow: FromRow<'r, DB::Row>,
{
    DB::migrate(pool).await.unwrap();
    DB::migrate(pool).await.unwrap();
    assert_eq!(seeded(pool, plan(0, 0)).await, [(0, 0), (0, 0)]);
    assert_eq!(seeded(pool, plan(37, 3)).await, [(37, 0), (3, 0)]);
    assert_eq!(seeded(pool, plan(100, 20)).await, [(63, 37), (17, 3)]);
    assert_eq!(seeded(pool, plan(100, 20)).await, [(0, 100), (0, 20)]);

    let report = seed(pool, plan(10, 20), &mut Quiet).await.unwrap();
    assert_eq!((report.users.inserted, report.users.surplus()), (0, 90));
    assert_eq!(report.articles.surplus(), 0);

    let rows = users(pool).await;
    assert_eq!(rows, (1..=100).map(user_row).collect::<Vec<_>>());
    let views: Vec<_> = rows.into_iter().map(UserView::from).collect();
    let digest = Sha256::digest(serde_json::to_vec(&views).unwrap());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, FIRST_100);
    assert_eq!(articles(pool).await, (1..=20).map(article).collect::<Vec<_>>());

    // More than a transaction, and statements that are not full.
    assert_eq!(seeded(pool, plan(2_345, 120)).await, [(2_245, 100), (100, 20)]);
    assert_eq!(users(pool).await, (1..=2_345).map(user_row).collect::<Vec<_>>());
    assert_eq!(articles(pool).await.len(), 120);
}
