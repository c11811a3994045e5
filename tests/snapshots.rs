//! Pages and cursors read while somebody inserts, deletes and moves rows, through every strategy: each
//! page is exactly what the table held at one moment. The long run reads as many pages as
//! `MULTICORE_TEST_PAGES` says:
//! `MULTICORE_TEST_PAGES=100000 cargo test --release -p multicore-tests -- --ignored snapshots`.

use std::path::Path;

use multicore_core::{
    Consistency, List, ListError, ListQuery, ListRow, Mode, Multicore, OrderBy, Page, Paging, SqlDatabase,
    Start, Strategy, asc, desc,
};
use sqlx::{PgConnection, Pool, Postgres, Sqlite};

use crate::clusters::{Cluster, one};
use crate::databases::{sqlite, with_postgres};
use crate::oracle::{Model, Table, Verdict};
use crate::pages::{Asked, Key, Order, Place, Seen};
use crate::support::{over, soon};
use crate::writers::{Rate, Writer};

/// Pages that each short test reads.
const PAGES: u64 = 400;

/// How the pages of a test came about.
#[derive(Debug, Default)]
struct Tally {
    right: u64,
    empty: u64,
    /// Pages that the database gave up.
    failed: u64,
    wrong: Vec<String>,
    /// Pages that were read in ranges, and those where a worker took one.
    ranges: u64,
    helped: u64,
}

fn keys(order: Order) -> Vec<OrderBy> {
    match order {
        Order::Id => vec![asc("id")],
        Order::IdDesc => vec![desc("id")],
        Order::K => vec![asc("k"), asc("id")],
        Order::KDesc => vec![desc("k"), asc("id")],
    }
}

pub(crate) async fn list<DB: SqlDatabase>(
    mc: &Multicore<DB>,
    order: Order,
    strategy: Strategy,
    page: impl Into<Paging>,
) -> List
where
    Seen: ListRow<DB>,
{
    try_list(mc, order, strategy, page).await.unwrap()
}

async fn try_list<DB: SqlDatabase>(
    mc: &Multicore<DB>,
    order: Order,
    strategy: Strategy,
    page: impl Into<Paging>,
) -> Result<List, ListError>
where
    Seen: ListRow<DB>,
{
    let query = ListQuery::<Seen>::select("id, k, note, (SELECT v FROM version) AS v").from("item");
    let query = query.order_by(keys(order)).strategy(strategy);
    soon(mc.list(query, page, |row| row)).await
}

/// Reads pages of all orders by offset and by cursor, forwards and back, with the strategies in turn.
async fn read<DB: SqlDatabase>(mc: &Multicore<DB>, table: Table, pages: u64) -> Tally
where
    Seen: ListRow<DB>,
{
    let mut model = table.model();
    let mut tally = Tally::default();
    let mut n = 0;
    let mut read = 0;
    while read < pages {
        n += 1;
        let asked = table.asked(n);
        let strategy = [Strategy::Ranges, Strategy::Single, Strategy::Ranges, Strategy::Auto][n as usize % 4];
        if let Place::Offset(offset) = asked.place {
            let page = Page { limit: asked.limit as u64, offset: offset as u64 };
            read += 1;
            if let Some(list) = tally.answered(try_list(mc, asked.order, strategy, page).await) {
                count(&mut model, &mut tally, asked, &list);
            }
            continue;
        }
        // A walk by cursor: some pages on, and then back again.
        let limit = asked.limit as u64;
        let mut page = Paging { limit, start: Start::First, look_ahead: true };
        let mut place = Place::Offset(0);
        for step in 0..6 {
            read += 1;
            let list = try_list(mc, asked.order, strategy, page.clone()).await;
            let Some(list) = tally.answered(list) else { break };
            let seen = count(&mut model, &mut tally, Asked { place, ..asked }, &list);
            let around = list.around().clone();
            let key = |row: &Seen| Key { k: row.k, id: row.id };
            let (start, next) = if step < 3 {
                let (Some(last), Some(token)) = (seen.last(), around.next_cursor) else { break };
                (Start::After(token), Place::After(key(last)))
            } else {
                let (Some(first), Some(token)) = (seen.first(), around.previous_cursor) else { break };
                (Start::Before(token), Place::Before(key(first)))
            };
            (page.start, place) = (start, next);
        }
    }
    tally
}

fn count(model: &mut Model, tally: &mut Tally, asked: Asked, list: &List) -> Vec<Seen> {
    let seen: Vec<Seen> = serde_json::from_slice(&list.to_bytes()).unwrap();
    match model.check(asked, &seen) {
        Ok(Verdict::Right { .. }) => tally.right += 1,
        Ok(Verdict::Empty) => tally.empty += 1,
        Err(why) => tally.wrong.push(format!("{asked:?} by {:?}: {why}", list.strategy())),
    }
    tally.ranges += u64::from(list.strategy() == Strategy::Ranges);
    tally.helped +=
        u64::from(list.strategy() == Strategy::Ranges && matches!(list.mode(), Mode::Parallel { .. }));
    seen
}

impl Tally {
    /// The page; none if the database gave it up, or ended the connection, which is all that may go wrong.
    fn answered(&mut self, list: Result<List, ListError>) -> Option<List> {
        let error = match list {
            Ok(list) => return Some(list),
            Err(error) => error,
        };
        let ListError::Database(source) = &error else { panic!("{error:?}") };
        match source.downcast_ref() {
            Some(sqlx::Error::Io(_)) => {}
            Some(sqlx::Error::Database(source)) if source.code().as_deref() == Some("40001") => {}
            _ => panic!("{error:?}"),
        }
        self.failed += 1;
        None
    }

    /// `gives_up` says that the database may give pages up.
    fn check(&self, pages: u64, gives_up: bool) {
        println!("{self:?}");
        assert!(gives_up || self.failed == 0, "{self:?}");
        assert!(self.wrong.is_empty(), "{} wrong, such as {}", self.wrong.len(), self.wrong[0]);
        assert!(self.right >= pages * 9 / 10, "too few pages say anything: {self:?}");
        assert!(self.ranges > 0, "no page was read in ranges: {self:?}");
    }
}

async fn over_sqlite(pages: u64, seed: u64, writer: impl FnOnce(Table, &Pool<Sqlite>, &Path) -> Writer) {
    let (folder, app) = sqlite().await;
    let table = Table { seed, rows: 2_000 };
    table.create_sqlite(&app).await;
    let mc = over(&app, 2).await;
    let writer = writer(table, &app, &folder.path().join("test.db"));
    let tally = read(&mc, table, pages).await;
    assert!(writer.stop() > 0);
    tally.check(pages, false);
}

async fn over_postgres(app: Pool<Postgres>, pages: u64, seed: u64, rate: Rate) {
    let table = Table { seed, rows: 2_000 };
    table.create_postgres(&app).await;
    let mc = over(&app, 2).await;
    let writer = Writer::postgres(table, (*app.connect_options()).clone(), rate);
    writer.at_least(1).await;
    let tally = read(&mc, table, pages).await;
    assert!(writer.stop() > 0);
    tally.check(pages, false);
    assert!(tally.helped > 0, "no worker ever took a range: {tally:?}");
    if rate.is_some() {
        let expected = soon(mc.parallel_ranges(100, async |connection: &mut PgConnection, _| {
            let sql = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%0) = $%'";
            Ok::<_, sqlx::Error>(vec![sqlx::query_scalar::<_, i64>(sql).fetch_one(connection).await?])
        }));
        let expected: i64 = expected.await.unwrap().into_iter().sum();
        assert!(expected > 0, "no worker was ever told which snapshot to expect");
    }
}

async fn over_standby(pages: u64, seed: u64, settings: &str) {
    let Some(primary) = Cluster::primary().await else { return };
    let table = Table { seed, rows: 2_000 };
    table.create_postgres(&primary.pool(1)).await;
    let standby = primary.standby_set_to(settings).await;
    standby.catch_up(&primary).await;
    let mc = over(&standby.pool(4), 2).await;
    let writer = Writer::postgres(table, primary.options(), None);
    let tally = read(&mc, table, pages).await;
    assert!(writer.stop() > 0);
    let gives_up = !settings.is_empty();
    tally.check(pages, gives_up);
    let sql = "SELECT confl_snapshot + confl_bufferpin FROM pg_stat_database_conflicts \
               WHERE datname = current_database()";
    let conflicts: i64 = one(&standby.pool(1), sql).await;
    println!("{conflicts} conflicts");
    // Nearly each that met a page once is made good.
    assert!(
        if gives_up { conflicts as u64 > 2 * tally.failed } else { conflicts == 0 },
        "{conflicts}: {tally:?}"
    );
    assert!(tally.helped > 0, "no worker ever took a range: {tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_pages_are_whole_under_a_writer_of_this_process() {
    over_sqlite(PAGES, 1, |table, app, _| Writer::sqlite(table, (*app.connect_options()).clone(), None))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_pages_are_whole_under_a_writer_that_pauses() {
    // So that ranges, which a busy writer keeps apart, come to one snapshot again and again.
    over_sqlite(PAGES, 2, |table, app, _| Writer::sqlite(table, (*app.connect_options()).clone(), Some(500)))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_pages_are_whole_under_a_writer_of_another_process() {
    over_sqlite(PAGES, 3, |table, _, path| Writer::sqlite_process(table, path, Some(2_000))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_pages_are_whole_under_a_writer() {
    with_postgres(async |app| over_postgres(app, PAGES, 4, None).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_pages_are_whole_under_a_writer_that_pauses() {
    // So that what is expected of a snapshot comes true and fails again and again.
    with_postgres(async |app| over_postgres(app, PAGES, 7, Some(50)).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_standby_are_whole_while_it_replays() {
    over_standby(PAGES, 5, "").await;
}

/// One that waits for no reader: what is in the way of the replay is ended, mostly in the middle of a page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_standby_that_ends_what_is_in_its_way_are_whole() {
    over_standby(PAGES, 8, "max_standby_streaming_delay = 0").await;
}

/// Without the snapshot the same readers see pages that never were: the tests above can fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_without_a_snapshot_do_tear_pages() {
    with_postgres(async |app| {
        let table = Table { seed: 6, rows: 2_000 };
        table.create_postgres(&app).await;
        let mc = over(&app, 2).await;
        let writer = Writer::postgres(table, (*app.connect_options()).clone(), None);
        writer.at_least(1).await;
        let mut torn = false;
        for _ in 0..5_000 {
            let query = ListQuery::<Seen>::select("id, k, note, (SELECT v FROM version) AS v").from("item");
            let query = query.order_by(keys(Order::K)).strategy(Strategy::Ranges);
            let query = query.consistency(Consistency::PerRange);
            let list = soon(mc.list(query, Page { limit: 1_000, offset: 0 }, |row| row)).await.unwrap();
            let seen: Vec<Seen> = serde_json::from_slice(&list.to_bytes()).unwrap();
            if seen.iter().any(|row| row.v != seen[0].v) {
                torn = true;
                break;
            }
        }
        drop(writer);
        assert!(torn, "5,000 pages without a snapshot, and none was torn");
    })
    .await;
}

/// The long run: `MULTICORE_TEST_PAGES` pages, 100,000 if that is not set, over all six.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; run by hand before a release"]
async fn a_hundred_thousand_pages_are_whole() {
    let pages = std::env::var("MULTICORE_TEST_PAGES").map_or(100_000, |pages| pages.parse().unwrap()) / 6;
    over_sqlite(pages, 11, |table, app, _| Writer::sqlite(table, (*app.connect_options()).clone(), None))
        .await;
    over_sqlite(pages, 12, |table, app, _| {
        Writer::sqlite(table, (*app.connect_options()).clone(), Some(500))
    })
    .await;
    over_sqlite(pages, 13, |table, _, path| Writer::sqlite_process(table, path, Some(20_000))).await;
    with_postgres(async move |app| over_postgres(app, pages, 14, None).await).await;
    with_postgres(async move |app| over_postgres(app, pages, 16, Some(50)).await).await;
    over_standby(pages, 15, "").await;
}
