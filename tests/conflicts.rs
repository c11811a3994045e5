//! A standby's replay that is in conflict with a page that is read there in ranges.

use multicore_core::{ListQuery, Page, Strategy, asc};
use sqlx::{ConnectOptions, Executor};

use crate::clusters::{Cluster, holds};
use crate::support::{occupy, over, soon};

/// One row a block, which is full, so that whoever reads it next removes what was deleted in it. The function has the
/// name of one that has no effects; it waits at some rows while their number's lock is taken.
const WIDE: &str = "
CREATE TABLE wide (id bigint PRIMARY KEY, filler text NOT NULL) WITH (autovacuum_enabled = off);
ALTER TABLE wide ALTER filler SET STORAGE PLAIN;
INSERT INTO wide SELECT n, repeat('x', 7800) FROM generate_series(1, 1200) n;
CREATE TABLE other (n int);
CREATE FUNCTION lower(bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    IF $1 IN (10, 990) THEN
        PERFORM pg_advisory_lock_shared($1);
        PERFORM pg_advisory_unlock_shared($1);
    END IF;
    RETURN $1;
END $$;
";

/// A condition: somebody waits at the row of this number.
fn waits_at(row: i64) -> String {
    format!("SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = {row} AND NOT granted")
}

/// A standby that is to remove rows waits for the transactions that see them, but only for those that it finds when it
/// begins to. Who joins such a snapshot later is safe for as long as the transaction that it was shared by is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_does_not_count_if_what_its_snapshot_was_shared_by_ended_before_it() {
    let Some(primary) = Cluster::primary().await else { return };
    let writer = primary.pool(1);
    sqlx::raw_sql(WIDE).execute(&writer).await.unwrap();
    // It waits for as long as it has to.
    let standby = primary.standby_set_to("max_standby_streaming_delay = -1").await;
    standby.catch_up(&primary).await;
    let page = Page { limit: 1_000, offset: 0 };
    let query = || {
        let query = ListQuery::<(i64, i64)>::select("id, lower(id)").from("wide");
        query.order_by([asc("id")]).strategy(Strategy::Ranges)
    };
    let mc = over(&standby.pool(2), 1).await;
    let before = soon(mc.list(query(), page, |row| row)).await.unwrap();
    let rows = |rows: std::ops::RangeInclusive<i64>, without: &[i64]| {
        let rows: Vec<_> = rows.filter(|id| !without.contains(id)).map(|id| (id, id)).collect();
        serde_json::to_vec(&rows).unwrap()
    };
    assert_eq!(before.to_bytes(), rows(1..=1_000, &[]));
    assert_eq!(before.strategy(), Strategy::Ranges);

    let mut gates = standby.options().connect().await.unwrap();
    gates.execute("SELECT pg_advisory_lock(10), pg_advisory_lock(990)").await.unwrap();
    // The page's owner shares its snapshot, and waits in its range before anybody has joined.
    let (_task, key) = occupy(&mc).await;
    let list = tokio::spawn({
        let (mc, query) = (mc.clone(), query());
        async move { soon(mc.list(query, page, |row| row)).await }
    });
    holds(&mut gates, &waits_at(10)).await;
    // Two rows go, one that the owner has read and one in the other range. That one is to be removed.
    writer.execute("DELETE FROM wide WHERE id IN (5, 995)").await.unwrap();
    writer.execute("SELECT filler FROM wide WHERE id = 995").await.unwrap();
    // Whose commit sends what is before it.
    writer.execute("INSERT INTO other VALUES (1)").await.unwrap();
    let replay = "SELECT wait_event = 'RecoveryConflictSnapshot' FROM pg_stat_activity \
                  WHERE backend_type = 'startup'";
    holds(&mut gates, replay).await;
    // Now the worker joins.
    key.open();
    holds(&mut gates, &waits_at(990)).await;
    // The owner has read its range, and its connection is lost. Nothing else is in the way of the replay.
    gates.execute("SELECT pg_advisory_unlock(10)").await.unwrap();
    let ended = "SELECT count(pg_terminate_backend(pid)) = 1 FROM pg_stat_activity \
                 WHERE state = 'idle in transaction'";
    holds(&mut gates, ended).await;
    standby.catch_up(&primary).await;
    gates.execute("SELECT pg_advisory_unlock(990)").await.unwrap();

    let list = list.await.unwrap().unwrap();
    assert_eq!(list.to_bytes(), rows(1..=1_002, &[5, 995]), "by {:?}", list.strategy());
    assert_eq!(list.strategy(), Strategy::Single);
}
