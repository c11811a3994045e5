//! Pages deep in a list that begin at a place an earlier page has seen: they are those of the list's start, and
//! nothing of an earlier snapshot is ever used.

use multicore_core::{
    Execution, List, ListQuery, ListRow, Multicore, OrderBy, Page, SqlDatabase, Strategy, asc, desc,
};
use sqlx::{AssertSqlSafe, Executor, PgPool, Pool};

use crate::clusters::Cluster;
use crate::databases::{sqlite, with_postgres};
use crate::oracle::Table;
use crate::pages::{Asked, Order, Place, Seen};
use crate::snapshots::list;
use crate::support::{PATIENCE, over, soon};
use crate::writers::Writer;

type Row = (i64, Option<i64>, String);

const ROWS: u64 = 4_000;

/// Ties and NULLs in `k`, ties in `name`.
async fn fill<DB>(app: &Pool<DB>)
where
    DB: SqlDatabase,
    for<'c> &'c mut <DB as sqlx::Database>::Connection: Executor<'c, Database = DB>,
{
    let rows = (1..=ROWS).map(|n| match n % 5 {
        0 => format!("({n}, NULL, {}, 'ä{}', {n}.5)", n % 31, n % 7),
        _ => format!("({n}, {}, {}, 'name {}', {n}.5)", n * 7_919 % 101, n % 31, n % 7),
    });
    let rows: Vec<_> = rows.collect();
    let mut connection = app.acquire().await.unwrap();
    for sql in [
        "CREATE TABLE sample (id bigint NOT NULL PRIMARY KEY, k bigint, m integer NOT NULL,
         name varchar(20) NOT NULL, x double precision NOT NULL UNIQUE)"
            .to_owned(),
        format!("INSERT INTO sample VALUES {}", rows.join(", ")),
        "CREATE INDEX sample_k ON sample (k, id)".to_owned(),
        "CREATE INDEX sample_m ON sample (m, id)".to_owned(),
        "CREATE INDEX sample_name ON sample (name DESC, id DESC)".to_owned(),
    ] {
        (&mut *connection).execute(AssertSqlSafe(sql)).await.unwrap();
    }
}

/// Orders that an index serves and in which a row can be found.
fn orders() -> Vec<Vec<OrderBy>> {
    vec![vec![asc("id")], vec![desc("id")], vec![asc("m"), asc("id")], vec![desc("name"), desc("id")]]
}

fn query<DB: SqlDatabase>(order: Vec<OrderBy>) -> ListQuery<Row, DB>
where
    Row: ListRow<DB>,
{
    ListQuery::<Row>::select("id, k, name").from("sample").order_by(order)
}

/// The page by the library's own choice, which is the page of the sequential path.
async fn page<DB: SqlDatabase>(
    mc: &Multicore<DB>,
    query: impl Fn() -> ListQuery<Row, DB>,
    limit: u64,
    offset: u64,
) -> List
where
    Row: ListRow<DB>,
{
    let page = Page { limit, offset };
    let list = soon(mc.list(query(), page, |row| row)).await.unwrap();
    let oracle = soon(mc.list(query().execution(Execution::Sequential), page, |row| row)).await.unwrap();
    assert!(!oracle.is_from_known_place());
    assert!(list.to_bytes() == oracle.to_bytes(), "{page:?}");
    assert_eq!(list.rows(), oracle.rows());
    list
}

/// Reads a page until it begins at a known place: at first there is none, and a lock or a connection must be
/// come by.
async fn known<DB: SqlDatabase>(mc: &Multicore<DB>, query: impl Fn() -> ListQuery<Row, DB>, offset: u64)
where
    Row: ListRow<DB>,
{
    let start = std::time::Instant::now();
    while !page(mc, &query, 10, offset).await.is_from_known_place() {
        assert!(start.elapsed() < PATIENCE, "no place is ever known");
        tokio::task::yield_now().await;
    }
}

/// While nobody writes.
async fn pages_begin_at_places<DB>(app: Pool<DB>)
where
    DB: SqlDatabase,
    Row: ListRow<DB>,
    i64: sqlx::Type<DB> + for<'e> sqlx::Encode<'e, DB>,
    for<'c> &'c mut <DB as sqlx::Database>::Connection: Executor<'c, Database = DB>,
{
    fill(&app).await;
    let mc = over(&app, 2).await;
    for order in 0..orders().len() {
        let query = || query(orders().swap_remove(order));
        known(&mc, query, 1_500).await;
        // Behind it, at it, where it ends, far behind it, and across the last row.
        for (limit, offset) in [
            (10, 1_501),
            (95, 1_500),
            (10, 1_509),
            (10, 1_510),
            (1, 3_999),
            (100, 3_950),
            (5, 3_949),
            (90, 1_600),
        ] {
            let list = page(&mc, query, limit, offset).await;
            assert!(list.is_from_known_place(), "order {order}, {limit} rows at {offset}");
        }
        // A walk, page by page.
        for offset in (2_000..ROWS).step_by(50) {
            assert!(page(&mc, query, 50, offset).await.is_from_known_place(), "order {order}, {offset}");
        }
        // The walk had more places than are kept.
        known(&mc, query, 1_500).await;
        // Before every place, and behind the end, which leaves what is known as it was.
        for (offset, rows) in [(0, 10), (900, 10), (1_400, 10), (ROWS, 0), (ROWS + 1, 0), (1 << 40, 0)] {
            assert_eq!(page(&mc, query, 10, offset).await.rows(), rows);
            assert!(page(&mc, query, 10, 1_500).await.is_from_known_place(), "order {order}, {offset}");
        }
        // Long ones may be read in ranges, which a place near the start does not make up for.
        let long = page(&mc, query, 1_000, 1_700).await;
        assert!(!long.is_from_known_place());
        // Values in filters are others with each page.
        for above in [0, 500, 1_000] {
            let query = || {
                query().filter(|q| {
                    q.push("id > ").push_bind(above);
                })
            };
            for _ in 0..3 {
                assert!(!page(&mc, query, 10, 1_500).await.is_from_known_place());
            }
        }
        // And what is written in the text is another list.
        for _ in 0..3 {
            known(
                &mc,
                || {
                    query().filter(|q| {
                        q.push("name <> 'ä3'");
                    })
                },
                1_500,
            )
            .await;
            known(&mc, query, 1_500).await;
        }
        // Nor where the program says how to read.
        for strategy in [Strategy::Single, Strategy::Ranges] {
            for _ in 0..3 {
                let list = page(&mc, || query().strategy(strategy), 10, 1_500).await;
                assert!(!list.is_from_known_place());
            }
        }
    }
}

/// Pages long enough for ranges leave places too, though one of the two ways to read them does not.
async fn long_pages_leave_places<DB>(app: Pool<DB>)
where
    DB: SqlDatabase,
    Row: ListRow<DB>,
    for<'c> &'c mut <DB as sqlx::Database>::Connection: Executor<'c, Database = DB>,
{
    fill(&app).await;
    let run = async |sql: &str| {
        app.acquire().await.unwrap().execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    };
    run("INSERT INTO sample SELECT id + 4000, k, m, name, x + 4000 FROM sample WHERE id <= 3000").await;
    let mc = over(&app, 2).await;
    let query = || query(vec![asc("id")]);
    known(&mc, query, 1_500).await;
    for n in 0..8 {
        run("UPDATE sample SET k = k WHERE id = 1").await;
        assert!(!page(&mc, query, 1_000, 4_000).await.is_from_known_place());
        for offset in [5_000, 6_000, 4_000] {
            assert!(page(&mc, query, 1_000, offset).await.is_from_known_place(), "{n}: {offset}");
        }
    }
}

/// Each write makes all places unknown.
async fn writes_make_places_unknown<DB>(app: Pool<DB>)
where
    DB: SqlDatabase,
    Row: ListRow<DB>,
    for<'c> &'c mut <DB as sqlx::Database>::Connection: Executor<'c, Database = DB>,
{
    fill(&app).await;
    let mc = over(&app, 2).await;
    let query = || query(vec![asc("id")]);
    for sql in [
        "DELETE FROM sample WHERE id = 10",
        "INSERT INTO sample VALUES (10, 1, 1, 'back', 10.5)",
        "UPDATE sample SET id = 9000, x = 9000.5 WHERE id = 20",
        "DELETE FROM sample WHERE id < 100",
        "CREATE TABLE another (id integer)",
    ] {
        known(&mc, query, 1_500).await;
        app.acquire().await.unwrap().execute(sql).await.unwrap();
        assert!(!page(&mc, query, 10, 1_500).await.is_from_known_place(), "{sql}");
        assert!(page(&mc, query, 10, 1_500).await.is_from_known_place(), "{sql}: the next one");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_pages_of_sqlite_begin_at_places_that_others_have_seen() {
    let (_folder, app) = sqlite().await;
    pages_begin_at_places(app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_to_sqlite_make_all_places_unknown() {
    let (_folder, app) = sqlite().await;
    writes_make_places_unknown(app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_pages_of_sqlite_leave_places() {
    let (_folder, app) = sqlite().await;
    long_pages_leave_places(app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_pages_of_postgres_leave_places() {
    let Some(primary) = Cluster::primary().await else { return };
    long_pages_leave_places(primary.pool(4)).await;
}

/// On a server of its own: who writes anywhere in one moves its snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_pages_of_postgres_begin_at_places_that_others_have_seen() {
    let Some(primary) = Cluster::primary().await else { return };
    pages_begin_at_places(primary.pool(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_to_postgres_make_all_places_unknown() {
    let Some(primary) = Cluster::primary().await else { return };
    writes_make_places_unknown(primary.pool(4)).await;
}

/// How many advisory locks others hold for good.
const HELD: &str = "FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted";

async fn held(app: &PgPool) -> i64 {
    let sql = AssertSqlSafe(format!("SELECT count(*) {HELD}"));
    sqlx::query_scalar(sql).fetch_one(app).await.unwrap()
}

/// After a crash of the server its snapshots may be numbered as before. That its sessions have gone tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_unknown_once_the_session_that_vouches_for_the_server_is_gone() {
    let Some(primary) = Cluster::primary().await else { return };
    let app = primary.pool(4);
    fill(&app).await;
    let mc = over(&app, 2).await;
    let query = || query(vec![asc("id")]);
    for _ in 0..3 {
        known(&mc, query, 1_500).await;
        assert_eq!(held(&app).await, 1);
        let sql = AssertSqlSafe(format!("SELECT pg_terminate_backend(pid, 10000) {HELD}"));
        assert!(sqlx::query_scalar::<_, bool>(sql).fetch_one(&app).await.unwrap());
        assert_eq!(held(&app).await, 0);
        assert!(!page(&mc, query, 10, 1_500).await.is_from_known_place());
    }
}

/// There equal snapshots do not mean equal rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_has_no_places() {
    let Some(primary) = Cluster::primary().await else { return };
    fill(&primary.pool(1)).await;
    let standby = primary.standby().await;
    standby.catch_up(&primary).await;
    let app = standby.pool(4);
    let mc = over(&app, 2).await;
    let query = || query(vec![asc("id")]);
    let start = std::time::Instant::now();
    while held(&app).await == 0 {
        page(&mc, query, 10, 1_500).await;
        assert!(start.elapsed() < PATIENCE, "the lock is never taken");
    }
    for _ in 0..10 {
        assert!(!page(&mc, query, 10, 1_500).await.is_from_known_place());
    }
}

/// What tells about snapshots is a connection too, was closed with the others, and is not opened again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_shutdown_there_are_no_places() {
    let (_folder, app) = sqlite().await;
    fill(&app).await;
    let mc = over(&app, 2).await;
    let query = || query(vec![asc("id")]);
    known(&mc, query, 1_500).await;
    assert!(soon(mc.shutdown(PATIENCE)).await.is_clean());
    for _ in 0..5 {
        assert!(!page(&mc, query, 10, 1_500).await.is_from_known_place());
    }
}

/// What a key's text is cast back to was asked for once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_whose_type_changes_have_no_places_any_more() {
    let Some(primary) = Cluster::primary().await else { return };
    for (before, after, fill) in [
        // Cut off, two rows of a day would be one.
        ("date", "timestamp", "UPDATE event SET at = at + id * interval '1 minute'"),
        // No number of the old type any more.
        ("integer", "bigint", "UPDATE event SET at = at + 3000000000"),
        // No operator between the two.
        ("integer", "text", "UPDATE event SET at = lpad(at, 9, '0')"),
    ] {
        let app = primary.pool(1);
        let value = if before == "date" { "date '2025-01-01' + n / 100" } else { "n" };
        for sql in [
            format!("CREATE TABLE event (id bigint PRIMARY KEY, at {before} NOT NULL)"),
            format!("INSERT INTO event SELECT n, {value} FROM generate_series(1, {ROWS}) AS n"),
            "CREATE INDEX event_at ON event (at, id)".to_owned(),
            "ANALYZE event".to_owned(),
        ] {
            app.execute(AssertSqlSafe(sql)).await.unwrap();
        }
        let mc = over(&app, 2).await;
        let list = async |offset: u64, execution| {
            let query = ListQuery::<(i64,)>::select("id").from("event").order_by([asc("at"), asc("id")]);
            let page = Page { limit: 10, offset };
            soon(mc.list(query.execution(execution), page, |row| row)).await.unwrap()
        };
        let start = std::time::Instant::now();
        while !list(1_550, Execution::Auto).await.is_from_known_place() {
            assert!(start.elapsed() < PATIENCE, "no place is ever known");
        }
        let mut writer = primary.pool(1).acquire().await.unwrap();
        for sql in [&*format!("ALTER TABLE event ALTER at TYPE {after} USING at::{after}"), fill] {
            (&mut *writer).execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
        }
        // The driver's own statements do not outlive a type.
        app.acquire().await.unwrap().close().await.unwrap();
        for offset in [1_550, 1_560, 1_555, 2_000, 1_550] {
            let oracle = list(offset, Execution::Sequential).await.to_bytes();
            let ours = list(offset, Execution::Auto).await;
            assert!(ours.to_bytes() == oracle, "{before} to {after} at {offset}");
            assert!(!ours.is_from_known_place(), "{before} to {after} at {offset}");
        }
        app.execute("DROP TABLE event").await.unwrap();
    }
}

/// No cursor could be made of it, and none is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deep_page_whose_keys_cannot_be_decoded_is_read_as_ever() {
    let (_folder, app) = sqlite().await;
    fill(&app).await;
    app.execute("UPDATE sample SET name = CAST(x'ff41' AS TEXT) WHERE id % 2 = 0").await.unwrap();
    let mc = over(&app, 2).await;
    for execution in [Execution::Auto, Execution::Sequential] {
        for _ in 0..3 {
            let query = ListQuery::<(i64,)>::select("id").from("sample").order_by([desc("name"), desc("id")]);
            let page = Page { limit: 10, offset: 1_500 };
            let list = soon(mc.list(query.execution(execution), page, |row| row)).await.unwrap();
            assert_eq!((list.rows(), list.is_from_known_place()), (10, false));
        }
    }
}

/// Where the first key may be NULL, no index starts at a row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_in_which_no_row_can_be_found_have_no_places() {
    let (_folder, app) = sqlite().await;
    fill(&app).await;
    let mc = over(&app, 2).await;
    for _ in 0..5 {
        let query = || query(vec![asc("k").nulls_first(), asc("id")]);
        assert!(!page(&mc, query, 10, 1_500).await.is_from_known_place());
    }
}

/// Text does not say exactly which number of floating point it was, by some settings of a session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_floating_point_have_no_places_on_postgres() {
    with_postgres(async |app| {
        fill(&app).await;
        let mc = over(&app, 2).await;
        for _ in 0..10 {
            assert!(!page(&mc, || query(vec![asc("x")]), 10, 1_500).await.is_from_known_place());
        }
    })
    .await;
}

/// Reads so many pages deep in the list while somebody writes now and then. Each is what the table held at one moment,
/// and places were both used and forgotten.
async fn pages_are_whole<DB: SqlDatabase>(mc: &Multicore<DB>, table: Table, least: u64)
where
    Seen: ListRow<DB>,
{
    let mut model = table.model();
    let (mut from_places, mut versions, mut pages) = (0, 0, 0);
    let start = std::time::Instant::now();
    while from_places < least / 4 || versions < 20 || pages < least {
        let patience = start.elapsed() < PATIENCE || pages < least;
        assert!(patience, "{from_places} of {pages} pages from places, {versions} versions");
        let asked = table.asked(pages);
        let order = [Order::K, Order::IdDesc][pages as usize % 2];
        let offset = 1_000 + (pages * 7_919 % 850) as usize;
        let asked = Asked { order, place: Place::Offset(offset), ..asked };
        let page = Page { limit: asked.limit as u64, offset: offset as u64 };
        let list = list(mc, order, Strategy::Auto, page).await;
        let seen: Vec<Seen> = serde_json::from_slice(&list.to_bytes()).unwrap();
        let before = model.v();
        if let Err(why) = model.check(asked, &seen) {
            panic!("{asked:?}, from a place: {}: {why}", list.is_from_known_place());
        }
        versions += u64::from(model.v() > before);
        from_places += u64::from(list.is_from_known_place());
        pages += 1;
    }
    println!("{pages} pages, {from_places} from places, {versions} versions seen");
}

async fn over_sqlite(pages: u64, rate: u32, of_this_process: bool) {
    let (folder, app) = sqlite().await;
    let table = Table { seed: 21, rows: 2_000 };
    table.create_sqlite(&app).await;
    let mc = over(&app, 2).await;
    let writer = match of_this_process {
        true => Writer::sqlite(table, (*app.connect_options()).clone(), Some(rate)),
        false => Writer::sqlite_process(table, &folder.path().join("test.db"), Some(rate)),
    };
    pages_are_whole(&mc, table, pages).await;
    writer.stop();
}

async fn over_postgres(pages: u64, rate: u32) {
    let Some(primary) = Cluster::primary().await else { return };
    let app = primary.pool(4);
    let table = Table { seed: 22, rows: 2_000 };
    table.create_postgres(&app).await;
    let mc = over(&app, 2).await;
    let writer = Writer::postgres(table, primary.options(), Some(rate));
    writer.at_least(1).await;
    pages_are_whole(&mc, table, pages).await;
    writer.stop();
}

/// So many writes a second let some pages come between two of them.
const RATE: u32 = 20;
const PAGES: u64 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_from_places_are_whole_under_a_writer_of_sqlite() {
    over_sqlite(PAGES, RATE, true).await;
    over_sqlite(PAGES, RATE, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_from_places_are_whole_under_a_writer_of_postgres() {
    over_postgres(PAGES, RATE).await;
}

/// As in `snapshots`: `MULTICORE_TEST_PAGES` pages, 100,000 if that is not set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; run by hand before a release"]
async fn a_hundred_thousand_pages_from_places_are_whole() {
    let pages = std::env::var("MULTICORE_TEST_PAGES").map_or(100_000, |pages| pages.parse().unwrap()) / 3;
    // In release a page takes a tenth of what it takes in debug.
    over_sqlite(pages, 10 * RATE, true).await;
    over_sqlite(pages, 10 * RATE, false).await;
    over_postgres(pages, 5 * RATE).await;
}
