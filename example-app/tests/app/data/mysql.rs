//! The data side on MySQL or MariaDB.

use example_app::database::AppDatabase;
use sqlx::{Executor, MySql};

use super::checks;
use crate::support::servers::with_mysql;

#[tokio::test]
async fn migrates_seeds_and_reads_back() {
    with_mysql(|pool, _| async move { checks::migrates_seeds_and_reads_back(&pool).await }).await;
}

#[tokio::test]
async fn an_update_leaves_the_timestamp_alone() {
    with_mysql(|pool, _| async move {
        MySql::migrate(&pool).await.unwrap();
        checks::seeded(&pool, checks::plan(1, 0)).await;
        let before = checks::users(&pool).await.remove(0).date_joined;
        pool.execute("UPDATE people_user SET first_name = 'Zoë' WHERE id = 1").await.unwrap();
        let row = checks::users(&pool).await.remove(0);
        assert_eq!((row.first_name.as_str(), row.date_joined), ("Zoë", before));
    })
    .await;
}
