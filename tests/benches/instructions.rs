//! Instructions of the inline path beside the plain code, as callgrind counts them: a regression shows
//! without a clock. Only the calling thread's count, so what SQLite does on sqlx's own thread does not.
//! Run with `cargo bench -p multicore-tests --bench instructions`, which fails where one of ours needs more than
//! what is stored in `instructions.txt` and `TOLERANCE` allow; `-- store` stores what it finds instead, and
//! writes it into `BENCHMARKS.md`. Needs `valgrind`.

#[expect(dead_code, reason = "only the SQLite half is used")]
mod databases;
mod documents;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use axum::body::Body;
use axum::http::{Request, Response};
use multicore_axum::{Config, LimitOffset, MulticoreLayer};
use multicore_core::{ListQuery, ListRow, Multicore, Page, SqlDatabase, asc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow, Sqlite, SqlitePool};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, service_fn};

/// Of a stored count: what other compilers' code differs by, and what callgrind's slow clock moves. Ours alone is
/// held to it: what the driver does to wait for its thread differs by a tenth from run to run.
const TOLERANCE: f64 = 0.05;
/// Counts below this differ by more than they mean.
const FEW: f64 = 40.0;
/// The same of an item's: one function more or less that the compiler took in, which the rest of the program
/// decides too.
const FEW_AN_ITEM: f64 = 12.0;
/// Calls of each case, of which the mean is taken; as many go before them uncounted.
const CALLS: usize = 15;
/// Runs of each case, of which the one with the fewest counts: what a driver's thread or the clock add differs from
/// run to run, and from machine to machine.
const RUNS: usize = 5;
/// What callgrind knows the counted function by, mangled or not.
const COUNTED: &str = "*counted_by_callgrind*";

/// A case by its name, and the numbers of items whose difference is the cost of one.
const CASES: [(&str, [usize; 2]); 8] = [
    ("map plain", [1, 1_001]),
    ("map ours", [1, 1_001]),
    ("map ours, 16 async threads", [1, 1_001]),
    ("list plain", [10, 210]),
    ("list ours", [10, 210]),
    ("list ours, to a response", [10, 210]),
    ("layer none", [0, 1]),
    ("layer ours", [0, 1]),
];

/// The function whose instructions are counted.
#[inline(never)]
fn counted_by_callgrind(work: &mut dyn FnMut()) {
    work();
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match (args.next().as_deref(), args.next(), args.next()) {
        (Some("case"), Some(case), Some(items)) => {
            run(&case, items.parse().expect("a number"));
            ExitCode::SUCCESS
        }
        (Some("store"), ..) => report(true),
        _ => report(false),
    }
}

fn baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

/// Counts all cases, prints them beside what is stored, and stores them, or fails where ours have grown.
fn report(store: bool) -> ExitCode {
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("valgrind is missing; it counts the instructions (on Debian: apt-get install valgrind)");
        return ExitCode::FAILURE;
    }
    let stored = std::fs::read_to_string(baseline()).unwrap_or_default();
    let stored: BTreeMap<&str, f64> = stored
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter_map(|(name, count)| Some((name, count.parse().ok()?)))
        .collect();
    println!("| instructions | stored | now |\n|---|---|---|");
    let (mut text, mut table) = (String::new(), String::new());
    let mut grown = Vec::new();
    for (case, [few, many]) in CASES {
        let (at_few, at_many) = (count(case, few), count(case, many));
        let per_item = (at_many - at_few) / (many - few) as f64;
        let fixed = at_few - per_item * few as f64;
        let rows = if few == 0 {
            let _infallible = writeln!(table, "| {case} | {at_many:.0} | |");
            vec![("", at_many, FEW)]
        } else {
            let _infallible = writeln!(table, "| {case} | {fixed:.0} | {per_item:.1} |");
            vec![(", fixed", fixed, FEW), (", an item", per_item, FEW_AN_ITEM)]
        };
        for (what, now, few) in rows {
            let name = format!("{case}{what}");
            let _infallible = writeln!(text, "{name}: {now:.1}");
            let Some(before) = stored.get(&*name).copied() else {
                println!("| {name} | - | {now:.1} |");
                grown.push(format!("{name} is not stored"));
                continue;
            };
            println!("| {name} | {before:.1} | {now:.1} |");
            if case.contains("ours") && now - before > (TOLERANCE * before).max(few) {
                let percent = (now / before - 1.0) * 100.0;
                grown.push(format!("{name}: {before:.1} stored, {now:.1} now ({percent:+.1}%)"));
            }
        }
    }
    if store {
        return match keep(&text, &table) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    for line in &grown {
        eprintln!("GROWN: {line}");
    }
    if grown.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes the counts down, to be compared with and to be read.
fn keep(text: &str, table: &str) -> Result<(), String> {
    let put = |path: &Path, text: &str| {
        std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../BENCHMARKS.md");
    let document = std::fs::read_to_string(&path).map_err(|error| format!("no BENCHMARKS.md: {error}"))?;
    let table = format!("At {}.\n\n| | a call | an item |\n|---|---|---|\n{table}", documents::commit());
    let document = documents::section(&document, "instructions", &table)?;
    put(&baseline(), text)?;
    put(&path, &document)
}

/// The instructions of one call of a case, in the run with the fewest.
fn count(case: &str, items: usize) -> f64 {
    (0..RUNS).map(|_| count_once(case, items)).fold(f64::INFINITY, f64::min)
}

fn count_once(case: &str, items: usize) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--dump-instr=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("this program"))
        .args(["case", case, &items.to_string()])
        .output()
        .expect("valgrind runs");
    assert!(run.status.success(), "{case}: {}", String::from_utf8_lossy(&run.stderr));
    let counted = std::fs::read_to_string(&out).expect("callgrind's counts");
    let sum = counted.lines().find_map(|line| line.strip_prefix("summary: ")).expect("a sum");
    sum.trim().parse::<f64>().expect("a number") / CALLS as f64
}

/// One async thread, this one, or several beside it.
fn runtime(threads: usize) -> Runtime {
    let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(threads).enable_all().build().expect("a runtime")
}

fn run(case: &str, items: usize) {
    let runtime = runtime(if case.ends_with("16 async threads") { 16 } else { 1 });
    let call = |work: &mut dyn FnMut()| {
        // What is found out at the first calls is not part of any other.
        for _ in 0..CALLS {
            work();
        }
        for _ in 0..CALLS {
            counted_by_callgrind(work);
        }
    };
    match case.split_once([' ', ',']).expect("two words") {
        ("map", "plain") => call(&mut || {
            let items: Vec<u64> = (0..items as u64).collect();
            black_box(black_box(items).into_iter().map(mix).collect::<Vec<u64>>());
        }),
        ("map", _) => {
            let mc =
                runtime.block_on(Multicore::<()>::builder().workers(1).cores(1).start()).expect("a pool");
            call(&mut || {
                let items: Vec<u64> = (0..items as u64).collect();
                black_box(runtime.block_on(mc.parallel_map(black_box(items), mix)).expect("results"));
            });
        }
        ("list", how) => {
            let (_folder, pool) = runtime.block_on(people());
            if how == "plain" {
                call(&mut || drop(black_box(runtime.block_on(plain(&pool, items)))));
                return;
            }
            let layer = MulticoreLayer::<Sqlite>::builder().cores(1).pool(pool);
            let config = Config::default().workers(1);
            let layer = runtime.block_on(layer.config(config).start()).expect("a pool");
            let mc = layer.handle();
            if how == "ours" {
                call(&mut || {
                    let page = Page { limit: items as u64, offset: 0 };
                    let list = runtime.block_on(mc.list(query(), page, View::from)).expect("a page");
                    drop(black_box(list.into_chunks()));
                });
            } else {
                call(&mut || {
                    let page = LimitOffset::new(Some(items as u64), 0);
                    let listing =
                        runtime.block_on(mc.parallel_list(query(), page, View::from)).expect("a page");
                    drop(black_box(axum::response::IntoResponse::into_response(listing)));
                });
            }
        }
        (_, how) => {
            let inner = service_fn(async |request: Request<Body>| {
                drop(black_box(request));
                Ok::<_, Infallible>(Response::new(Body::empty()))
            });
            let layer = runtime.block_on(MulticoreLayer::<()>::builder().start()).expect("a pool");
            let mut with = layer.layer(inner);
            let mut without = inner;
            call(&mut || {
                for _ in 0..items {
                    let request = Request::new(Body::empty());
                    if how == "none" {
                        drop(runtime.block_on(without.call(request)));
                    } else {
                        drop(runtime.block_on(with.call(request)));
                    }
                }
            });
        }
    }
}

/// Some computing, of a handful of instructions.
fn mix(item: u64) -> u64 {
    (item ^ (item >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[derive(FromRow)]
struct Person {
    id: i64,
    name: String,
    bio: String,
}

#[derive(Serialize)]
struct View {
    id: i64,
    name: String,
    bio: String,
}

impl From<Person> for View {
    fn from(Person { id, name, bio }: Person) -> Self {
        View { id, name, bio }
    }
}

const COLUMNS: &str = "id, name, bio";

fn query<DB: SqlDatabase>() -> ListQuery<Person, DB>
where
    Person: ListRow<DB>,
{
    ListQuery::<Person>::select(COLUMNS).from("person").order_by([asc("id")])
}

async fn people() -> (tempfile::TempDir, SqlitePool) {
    let (folder, pool) = databases::sqlite().await;
    let tables = "CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, bio TEXT NOT NULL);
        WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n LIMIT 1000)
        INSERT INTO person SELECT id, 'user ' || id, printf('%.400c', 'b') FROM n";
    sqlx::raw_sql(tables).execute(&pool).await.expect("rows");
    (folder, pool)
}

/// As one would write it without this library.
async fn plain(pool: &SqlitePool, rows: usize) -> Vec<u8> {
    let sql = AssertSqlSafe(format!("SELECT {COLUMNS} FROM person ORDER BY id LIMIT ? OFFSET ?"));
    let rows: Vec<Person> =
        sqlx::query_as(sql).bind(rows as i64).bind(0).fetch_all(pool).await.expect("rows");
    let views: Vec<View> = rows.into_iter().map(View::from).collect();
    serde_json::to_vec(&views).expect("encoded")
}
