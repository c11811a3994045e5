//! The data side on PostgreSQL.

use super::checks;
use crate::support::servers::with_postgres;

#[tokio::test]
async fn migrates_seeds_and_reads_back() {
    with_postgres(|pool, _| async move { checks::migrates_seeds_and_reads_back(&pool).await }).await;
}
