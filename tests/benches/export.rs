//! A table of a million rows as lines of JSON, ours beside a plain streaming handler (sqlx's `fetch`, chunks
//! of 64 kB): rows a second, and the most memory that either needs. Fails when ours needs more than it
//! promises. Run with `cargo bench -p multicore-tests --bench export`; what follows
//! `--` picks a database, `sqlite` or `postgres`, or `quick`: a tenth of the rows, for the promise alone.

mod choice;
mod databases;
mod ratio;
mod turns;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::mem;
use std::pin::Pin;
use std::time::{Duration, Instant};

use choice::{DATABASES, wanted};
use databases::PostgresDatabase;
use example_app::render_cost::render_us;
use futures_util::{Stream, TryStreamExt};
use multicore_core::{Format, ListQuery, Multicore, SqlDatabase, asc};
use peak_alloc::PeakAlloc;
use serde::Serialize;
use sqlx::{AssertSqlSafe, Executor, FromRow, PgPool, Pool, Postgres, Sqlite, SqlitePool};
use tokio::runtime::Runtime;
use turns::{faster, interleave};

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

/// What an export may need above idle, in megabytes.
const PROMISE: f64 = 64.0;
/// Bytes that the plain handler gives at a time.
const CHUNK: usize = 64 * 1024;

#[derive(FromRow, Serialize)]
struct Item {
    id: i64,
    number: i32,
    text: String,
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Plan {
    rows: u64,
    rounds: usize,
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "quick");
    let plan = if quick { Plan { rows: 100_000, rounds: 1 } } else { Plan { rows: 1_000_000, rounds: 5 } };
    let runtime = Runtime::new().expect("a runtime");
    println!("{} rows as lines of JSON: memory in MB above idle, the largest of {}", plan.rows, plan.rounds);
    println!("| database, us a row | plain rows/s | ours / plain | MB plain | MB ours | promise |");
    println!("|---|---|---|---|---|---|");
    if wanted("sqlite", DATABASES) {
        let (_folder, pool) = runtime.block_on(databases::sqlite());
        runtime.block_on(fill_sqlite(&pool, plan.rows));
        cells(&runtime, "SQLite", &pool, plan);
    }
    if !wanted("postgres", DATABASES) {
        return;
    }
    if let Some(database) = runtime.block_on(PostgresDatabase::new()) {
        runtime.block_on(fill_postgres(&database.pool, plan.rows));
        cells(&runtime, "PostgreSQL", &database.pool, plan);
        runtime.block_on(database.clean_up());
    }
}

fn cells<DB: Peer>(runtime: &Runtime, name: &str, pool: &Pool<DB>, plan: Plan) {
    let mc = runtime.block_on(Multicore::builder().pool(pool.clone()).start()).expect("a pool");
    for us in [0, 5] {
        let (plain_peak, ours_peak) = (Cell::new(0.0), Cell::new(0.0));
        let times = interleave(
            plan.rounds,
            // In the quick run too, so that what is kept from then on does not count as an export's.
            1,
            &mut [
                Box::new(|| {
                    let pool = pool.clone();
                    measure(runtime, plan, &plain_peak, async move { DB::plain(&pool, us).await })
                }),
                Box::new(|| {
                    let mc = mc.clone();
                    measure(runtime, plan, &ours_peak, async move { DB::ours(&mc, us).await })
                }),
            ],
        );
        let [plain, ours] = &times[..] else { unreachable!("two contestants") };
        println!(
            "| {name}, {us} | {:.0} | {} | {:.1} | {:.1} | {PROMISE} |",
            plan.rows as f64 / plain.median().as_secs_f64(),
            faster(plain, ours),
            plain_peak.get(),
            ours_peak.get(),
        );
        assert!(ours_peak.get() <= PROMISE, "{:.1} MB is above {PROMISE} MB", ours_peak.get());
    }
}

/// Runs an export as on a server's thread; its lines are counted. Raises `peak` to the memory it needed.
fn measure(
    runtime: &Runtime,
    plan: Plan,
    peak: &Cell<f64>,
    export: impl Future<Output = u64> + Send + 'static,
) -> Duration {
    let before = PEAK.current_usage_as_mb();
    PEAK.reset_peak_usage();
    let task = runtime.spawn(async move {
        let start = Instant::now();
        let lines = export.await;
        (start.elapsed(), lines)
    });
    let (took, lines) = runtime.block_on(task).expect("no panic");
    assert_eq!(lines, plan.rows);
    peak.set(f64::max(peak.get(), f64::from(PEAK.peak_usage_as_mb() - before)));
    took
}

/// Takes a piece, as a socket does, and counts its lines.
fn take(piece: &[u8]) -> u64 {
    black_box(piece).iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// What cannot be said of a database in generic code.
trait Peer: SqlDatabase {
    fn plain(pool: &Pool<Self>, us: u64) -> impl Future<Output = u64> + Send;

    fn ours(mc: &Multicore<Self>, us: u64) -> impl Future<Output = u64> + Send;
}

macro_rules! peer {
    ($database:ty) => {
        impl Peer for $database {
            async fn plain(pool: &Pool<Self>, us: u64) -> u64 {
                let mut rows =
                    sqlx::query_as("SELECT id, number, text FROM item ORDER BY id ASC").fetch(pool);
                let (mut lines, mut chunk) = (0, Vec::with_capacity(CHUNK + CHUNK / 8));
                while let Some(row) = rows.try_next().await.expect("rows") {
                    let row: Item = row;
                    render_us(us);
                    serde_json::to_writer(&mut chunk, &row).expect("JSON");
                    chunk.push(b'\n');
                    if chunk.len() >= CHUNK {
                        lines += take(&mem::replace(&mut chunk, Vec::with_capacity(CHUNK + CHUNK / 8)));
                    }
                }
                lines + take(&chunk)
            }

            async fn ours(mc: &Multicore<Self>, us: u64) -> u64 {
                let query = ListQuery::select("id, number, text").from("item").order_by([asc("id")]);
                let render = move |row: Item| {
                    render_us(us);
                    row
                };
                let mut export = mc.stream(query, render, Format::Ndjson).await.expect("an export");
                let mut lines = 0;
                while let Some(piece) = poll_fn(|context| Pin::new(&mut export).poll_next(context)).await {
                    lines += take(&piece.expect("no error"));
                }
                lines
            }
        }
    };
}

peer!(Sqlite);
peer!(Postgres);

/// Rows of about 200 bytes.
async fn fill_sqlite(pool: &SqlitePool, rows: u64) {
    pool.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, number INTEGER NOT NULL, text TEXT NOT NULL)")
        .await
        .expect("a table");
    let sql = format!(
        "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {rows})
         INSERT INTO item SELECT id, id * 7919 % 10000,
             replace(printf('%5s', ''), ' ', printf('%032d', id * 7919)) FROM n"
    );
    pool.execute(AssertSqlSafe(sql)).await.expect("rows");
    pool.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.expect("one file");
}

async fn fill_postgres(pool: &PgPool, rows: u64) {
    pool.execute("CREATE TABLE item (id BIGINT PRIMARY KEY, number INTEGER NOT NULL, text TEXT NOT NULL)")
        .await
        .expect("a table");
    let sql = format!(
        "INSERT INTO item SELECT n, n * 7919 % 10000, repeat(md5(n::text), 5)
         FROM generate_series(1::bigint, {rows}) AS n"
    );
    pool.execute(AssertSqlSafe(sql)).await.expect("rows");
    // As autovacuum leaves it.
    pool.execute("VACUUM ANALYZE item").await.expect("statistics");
}
