//! Pages of a table of 300,000 rows of about 1 kB, ours beside `SELECT … ORDER BY … LIMIT … OFFSET` with
//! sqlx's `fetch_all` and serde_json: pages deep in the table, pages long enough to be read in ranges, what
//! ranges pay for one snapshot, and pages that the database has to sort. On SQLite and PostgreSQL; the snapshot on
//! a server of the benchmark's own and its standby, where it is exported, over TCP and over a socket. Run with `cargo bench -p multicore-tests --bench pages`; what
//! follows `--` picks some of the parts `deep`, `long`, `snapshot` and `sort`, or one of the databases `sqlite`
//! and `postgres`.

mod choice;
#[path = "../clusters.rs"]
#[allow(dead_code, unused_imports, reason = "its tests, and what they need, run with the tests")]
mod clusters;
mod databases;
mod items;
mod ratio;
mod turns;

/// What `clusters` takes from the tests.
mod support {
    pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
}

use std::cell::Cell;
use std::time::{Duration, Instant};

use choice::{DATABASES, wanted};
use clusters::Cluster;
use databases::{CONNECTIONS, PostgresDatabase};
use items::{Item, Peer, fill_postgres, fill_sqlite};
use multicore_core::{
    Builder, Consistency, Execution, List, ListQuery, Multicore, Page, Paging, Start, Strategy, asc,
};
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool, Pool};
use tokio::runtime::Runtime;
use turns::{Times, faster, interleave};

const LIMIT: u64 = 1_000;
const LONG: u64 = 10_000;
/// Rows of the table on servers of the benchmark's own.
const ROWS_TO_SHARE: u32 = 20_000;
const DEPTHS: [u64; 3] = [0, 10_000, 100_000];
/// About how long one contestant of a cell takes, in seconds.
const TURNS: f64 = 3.0;
/// Rounds of what is told in microseconds.
const FINE_ROUNDS: usize = 1_501;

/// The parts, as they are named on the command line.
const PARTS: &[&str] = &["deep", "long", "snapshot", "sort"];

/// Keys of an order. The first two come off an index, `r` has none.
const BY_K: &[&str] = &["k", "id"];
const BY_ID: &[&str] = &["id"];
const BY_R: &[&str] = &["r", "id"];

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    println!("how many times faster than the plain handler (middle half of the rounds)");
    if wanted("sqlite", DATABASES) {
        let (_folder, pool) = runtime.block_on(databases::sqlite());
        runtime.block_on(fill_sqlite(&pool));
        all(&runtime, "SQLite", &pool);
        if wanted("snapshot", PARTS) {
            snapshot(&runtime, "SQLite", &pool);
        }
    }
    if !wanted("postgres", DATABASES) {
        return;
    }
    if let Some(database) = runtime.block_on(PostgresDatabase::new()) {
        runtime.block_on(fill_postgres(&database.pool, 300_000));
        all(&runtime, "PostgreSQL", &database.pool);
        runtime.block_on(database.clean_up());
    }
    if wanted("snapshot", PARTS) {
        on_own_servers(&runtime);
    }
}

/// What a snapshot costs on servers where nobody else writes, who would move it: on a primary, and on a standby,
/// whose snapshots can only be shared by name.
fn on_own_servers(runtime: &Runtime) {
    let Some(primary) = runtime.block_on(Cluster::primary()) else { return };
    let standby = runtime.block_on(async {
        fill_postgres(&primary.pool(1), ROWS_TO_SHARE).await;
        let standby = primary.standby().await;
        standby.catch_up(&primary).await;
        standby
    });
    for (name, server, over_socket) in [
        ("PostgreSQL", &primary, false),
        ("PostgreSQL, a standby", &standby, false),
        ("PostgreSQL, a standby, over its socket and not TCP", &standby, true),
    ] {
        let pool = runtime.block_on(async {
            let pool = server.pool(CONNECTIONS);
            if over_socket {
                let folder = sqlx::query_scalar("SHOW unix_socket_directories").fetch_one(&pool);
                let folder: String = folder.await.expect("a folder");
                pool.set_connect_options(server.options().socket(folder));
                // Those that are open are over TCP.
                pool.acquire().await.expect("a connection").close().await.expect("closed");
            }
            pool
        });
        snapshot(runtime, name, &pool);
        runtime.block_on(exported(&pool));
        runtime.block_on(pool.close());
    }
}

fn all<DB: Peer>(runtime: &Runtime, name: &str, pool: &Pool<DB>) {
    if wanted("deep", PARTS) {
        println!("\n{name}: {LIMIT} rows, deep");
        // Over one connection: SQLite's share their memory for pages unevenly, so that one may have all that a
        // deep page walks over while another reads it from the file each time, and contestants that take
        // turns would always meet the same one.
        let pool = runtime.block_on(async {
            let options = (*pool.connect_options()).clone();
            PoolOptions::<DB>::new().max_connections(1).connect_lazy_with(options)
        });
        // Where somebody always writes in between, places are of no use; nobody shall learn that from the other.
        deep(&Served::new(runtime, &pool), &Served::new(runtime, &pool));
    }
    if wanted("long", PARTS) {
        println!("\n{name}: {LONG} rows from the start");
        // What one way of reading has taught must not help the other.
        long(&Served::new(runtime, pool), &Served::new(runtime, pool));
    }
    if wanted("sort", PARTS) {
        println!("\n{name}: {LIMIT} rows in an order without an index");
        sort(&Served::new(runtime, pool));
    }
}

fn deep<DB: Peer>(served: &Served<'_, DB>, written: &Served<'_, DB>) {
    println!(
        "| order, offset | plain ms | ours, by offset | the next page, by offset | ours, by cursor | in ranges |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, order) in [("k, id", BY_K), ("id", BY_ID)] {
        for offset in DEPTHS {
            let page = Page { limit: LIMIT, offset };
            let start = match offset {
                0 => Start::First,
                _ => Start::After(served.cursor(order, offset)),
            };
            let by_cursor = Paging { limit: LIMIT, start, look_ahead: true };
            let before = Page { limit: LIMIT, offset: offset.saturating_sub(LIMIT) };
            let offsets = written.ours(order, page.into(), |q| q);
            let [cursors, before, next] =
                [by_cursor, before.into(), page.into()].map(|page| served.ours(order, page, |q| q));
            served.check(order, page, &[&offsets, &cursors, &next]);
            let times = served.race(vec![
                Box::new(|| served.plain(order, page)),
                // Somebody has written since the last page.
                Box::new(|| {
                    served.runtime.block_on(DB::write(&served.pool));
                    offsets.run()
                }),
                // Nobody has.
                Box::new(|| {
                    before.list();
                    next.run()
                }),
                Box::new(|| cursors.run()),
            ]);
            let [plain, by_offset, by_next, by_cursor] = &times[..] else { unreachable!("four contestants") };
            println!(
                "| {name}, {offset} | {:.1} | {} | {} | {} | {}, {}, {} |",
                millis(plain),
                faster(plain, by_offset),
                faster(plain, by_next),
                faster(plain, by_cursor),
                offsets.ranged(),
                next.ranged(),
                cursors.ranged(),
            );
        }
    }
}

fn long<DB: Peer>(free: &Served<'_, DB>, forced: &Served<'_, DB>) {
    println!("| order | plain ms | ours | one statement | ranges | ours in ranges |");
    println!("|---|---|---|---|---|---|");
    for (name, order) in [("k, id", BY_K), ("id", BY_ID)] {
        let page = Page { limit: LONG, offset: 0 };
        let auto = free.ours(order, page.into(), |q| q);
        let single = forced.ours(order, page.into(), |q| q.strategy(Strategy::Single));
        let ranges = forced.ours(order, page.into(), |q| q.strategy(Strategy::Ranges));
        free.check(order, page, &[&auto, &single, &ranges]);
        let times = free.race(vec![
            Box::new(|| free.plain(order, page)),
            Box::new(|| auto.run()),
            Box::new(|| single.run()),
            Box::new(|| ranges.run()),
        ]);
        let [plain, by_auto, by_single, by_ranges] = &times[..] else { unreachable!("four contestants") };
        println!(
            "| {name} | {:.1} | {} | {} | {} | {} |",
            millis(plain),
            faster(plain, by_auto),
            faster(plain, by_single),
            faster(plain, by_ranges),
            auto.ranged(),
        );
    }
}

/// What a page in two ranges, which is what one of its length gets, pays for one snapshot while nobody writes.
/// What comes behind the answer, such as the end of a transaction, is not in it.
fn snapshot<DB: Peer>(runtime: &Runtime, name: &str, pool: &Pool<DB>) {
    println!("\n{name}: {LIMIT} small rows in two ranges, on one snapshot and on any");
    let served = &Served::with(runtime, pool, |builder| builder.workers(1));
    let page = Page { limit: LIMIT, offset: 0 };
    let small = |consistency: Consistency| {
        move || {
            let query = DB::smalls().from("item").order_by([asc("id")]);
            let query = query.strategy(Strategy::Ranges).consistency(consistency);
            let (took, list) = served
                .runtime
                .block_on(served.runtime.spawn({
                    let mc = served.mc.clone();
                    async move {
                        let start = Instant::now();
                        let list = DB::small(&mc, query, page.into()).await;
                        (start.elapsed(), list)
                    }
                }))
                .expect("no panic");
            assert_eq!(list.strategy(), Strategy::Ranges);
            took
        }
    };
    let times = interleave(
        FINE_ROUNDS,
        20,
        &mut [Box::new(small(Consistency::PerRange)), Box::new(small(Consistency::Snapshot))],
    );
    let [any, one] = &times[..] else { unreachable!("two contestants") };
    let micros = |took: &Duration| took.as_secs_f64() * 1e6;
    let differences = any.rounds.iter().zip(&one.rounds).map(|(any, one)| micros(one) - micros(any));
    println!("any snapshot {:.2} ms, one snapshot {:.2} ms", millis(any), millis(one));
    println!("difference: {}", spread(differences.collect()));
}

/// What sharing a snapshot by its name takes by itself, beginning and ending the transactions included.
async fn exported(pool: &PgPool) {
    let options = pool.connect_options();
    let connect = || sqlx::ConnectOptions::connect(&*options);
    let (mut owner, mut worker): (PgConnection, PgConnection) =
        (connect().await.expect("a connection"), connect().await.expect("a connection"));
    let measured = tokio::spawn(async move {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let (mut times, mut trips) = (Vec::with_capacity(FINE_ROUNDS), Vec::with_capacity(FINE_ROUNDS));
        for _ in 0..FINE_ROUNDS {
            let start = Instant::now();
            let export = AssertSqlSafe(format!("{begin}; SELECT pg_export_snapshot()"));
            let row = owner.fetch_one(sqlx::raw_sql(export)).await.expect("a snapshot");
            let name: String = sqlx::Row::get(&row, 0);
            let join = AssertSqlSafe(format!("{begin}; SET TRANSACTION SNAPSHOT '{name}'"));
            worker.execute(sqlx::raw_sql(join)).await.expect("joined");
            for connection in [&mut worker, &mut owner] {
                connection.execute(sqlx::raw_sql("COMMIT")).await.expect("ended");
            }
            times.push(start.elapsed().as_secs_f64() * 1e6);
            let start = Instant::now();
            owner.execute(sqlx::raw_sql("SELECT 1")).await.expect("an answer");
            trips.push(start.elapsed().as_secs_f64() * 1e6);
        }
        (times, trips)
    });
    let (times, trips) = measured.await.expect("no panic");
    println!("an exported snapshot, in four round trips of bare statements: {}", spread(times));
    println!("one round trip: {}", spread(trips));
}

fn sort<DB: Peer>(served: &Served<'_, DB>) {
    println!("| order | plain ms | ours | ours on one core | ours / ours on one core | in ranges |");
    println!("|---|---|---|---|---|---|");
    let page = Page { limit: LIMIT, offset: 0 };
    let auto = served.ours(BY_R, page.into(), |q| q);
    let sequential = served.ours(BY_R, page.into(), |q| q.execution(Execution::Sequential));
    served.check(BY_R, page, &[&auto, &sequential]);
    let times = served.race(vec![
        Box::new(|| served.plain(BY_R, page)),
        Box::new(|| sequential.run()),
        Box::new(|| auto.run()),
    ]);
    let [plain, by_one, by_auto] = &times[..] else { unreachable!("three contestants") };
    println!(
        "| r, id | {:.1} | {} | {} | {} | {} |",
        millis(plain),
        faster(plain, by_auto),
        faster(plain, by_one),
        faster(by_one, by_auto),
        auto.ranged(),
    );
}

fn millis(times: &Times) -> f64 {
    times.median().as_secs_f64() * 1e3
}

/// The median of microseconds, and the middle half.
fn spread(mut micros: Vec<f64>) -> String {
    micros.sort_unstable_by(f64::total_cmp);
    let at = |quarter: usize| micros[(micros.len() - 1) * quarter / 4];
    format!("{:.0} µs ({:.0} to {:.0})", at(2), at(1), at(3))
}

/// A table, with a pool beside the application's.
struct Served<'r, DB: Peer> {
    runtime: &'r Runtime,
    pool: Pool<DB>,
    mc: Multicore<DB>,
}

impl<'r, DB: Peer> Served<'r, DB> {
    fn new(runtime: &'r Runtime, pool: &Pool<DB>) -> Self {
        Self::with(runtime, pool, |builder| builder)
    }

    fn with(runtime: &'r Runtime, pool: &Pool<DB>, set: fn(Builder<DB>) -> Builder<DB>) -> Self {
        let builder = set(Multicore::builder().pool(pool.clone()));
        let mc = runtime.block_on(builder.start()).expect("a pool");
        Served { runtime, pool: pool.clone(), mc }
    }

    /// A page of ours, read in a way that `set` chooses.
    fn ours<'s>(
        &'s self,
        order: &'static [&'static str],
        page: Paging,
        set: fn(ListQuery<Item, DB>) -> ListQuery<Item, DB>,
    ) -> Ours<'s, DB> {
        Ours { served: self, order, page, set, pages: Cell::new(0), ranges: Cell::new(0) }
    }

    /// The cursor to the rows after the first `depth`.
    fn cursor(&self, order: &'static [&'static str], depth: u64) -> String {
        let page = Paging { limit: depth, start: Start::First, look_ahead: true };
        let (_, list) = self.ours(order, page, |q| q.strategy(Strategy::Single)).list();
        list.around().next_cursor.clone().expect("rows after it")
    }

    /// The plain handler's page, and its time as on a server's thread, to the last byte of the body.
    fn plain_body(&self, order: &[&str], page: Page) -> (Duration, Vec<u8>) {
        let sql = format!("SELECT id, k, text FROM item ORDER BY {} {}", order.join(", "), DB::PAGE);
        let pool = self.pool.clone();
        let task = self.runtime.spawn(async move {
            let start = Instant::now();
            let rows = DB::plain(&pool, sql, page).await;
            let body = serde_json::to_vec(&rows).expect("JSON");
            drop(rows);
            (start.elapsed(), body)
        });
        self.runtime.block_on(task).expect("no panic")
    }

    fn plain(&self, order: &[&str], page: Page) -> Duration {
        self.plain_body(order, page).0
    }

    /// Holds each of ours against the plain handler's bytes.
    fn check(&self, order: &[&str], page: Page, ours: &[&Ours<'_, DB>]) {
        let (_, body) = self.plain_body(order, page);
        for ours in ours {
            assert!(ours.list().1.to_bytes() == body, "not the plain handler's rows");
        }
    }

    /// Lets the contestants take turns for as many rounds as their time allows.
    fn race(&self, mut contestants: Vec<Box<dyn FnMut() -> Duration + '_>>) -> Vec<Times> {
        let once = contestants.iter_mut().map(|contestant| contestant()).max();
        let once = once.unwrap_or_default().as_secs_f64();
        let rounds = ((TURNS / once) as usize).clamp(9, 401) | 1;
        interleave(rounds, 4, &mut contestants)
    }
}

/// A page of ours as a contestant.
struct Ours<'s, DB: Peer> {
    served: &'s Served<'s, DB>,
    order: &'static [&'static str],
    page: Paging,
    set: fn(ListQuery<Item, DB>) -> ListQuery<Item, DB>,
    /// How many pages were read, and how many of them in ranges.
    pages: Cell<u32>,
    ranges: Cell<u32>,
}

impl<DB: Peer> Ours<'_, DB> {
    fn run(&self) -> Duration {
        let (took, list) = self.list();
        self.pages.set(self.pages.get() + 1);
        self.ranges.set(self.ranges.get() + u32::from(list.strategy() == Strategy::Ranges));
        took
    }

    fn list(&self) -> (Duration, List) {
        let query = DB::items().from("item");
        let query = (self.set)(query.order_by(self.order.iter().map(|key| asc(*key))));
        let (mc, page) = (self.served.mc.clone(), self.page.clone());
        let task = self.served.runtime.spawn(async move {
            let start = Instant::now();
            let list = DB::ours(&mc, query, page).await;
            (start.elapsed(), list)
        });
        self.served.runtime.block_on(task).expect("no panic")
    }

    /// Which share of its pages was read in ranges.
    fn ranged(&self) -> String {
        format!("{:.0}%", 100.0 * f64::from(self.ranges.get()) / f64::from(self.pages.get().max(1)))
    }
}
