//! A server with more work than cores: 4 x cores clients that ask again as soon as they are answered,
//! and a light neighbour that is asked every two milliseconds. Throughput of the lists, and the
//! neighbour's 99th percentile, for the plain handler, a `JoinSet` over the pool, and ours. Then the same
//! with more clients than the pool has connections, and a neighbour that asks the database. Run with
//! `cargo bench -p multicore-tests --bench saturation`.

mod databases;
mod people;
mod ratio;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use people::Served;
use ratio::ratio;
use tokio::runtime::Runtime;
use tower::ServiceExt;

const ROUNDS: usize = 7;
/// About how long one contestant's turn takes.
const WINDOW: f64 = 0.8;
const PROBE_EVERY: Duration = Duration::from_millis(2);
const CELLS: [(u32, u32); 6] = [(100, 0), (100, 20), (100, 200), (1_000, 0), (1_000, 20), (1_000, 200)];
/// Those with more clients than connections.
const CROWDED_CELLS: [(u32, u32); 3] = [(1_000, 0), (1_000, 20), (1_000, 200)];
const CONTESTANTS: [&str; 3] = ["plain", "joinset", "ours"];

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    println!("throughput of lists and the 99th percentile of a light neighbour;");
    println!("ratios to the plain handler, median of {ROUNDS} rounds (middle half)");
    let sqlite = runtime.block_on(people::sqlite());
    cells(&runtime, "SQLite", &sqlite);
    if let Some(postgres) = runtime.block_on(people::postgres()) {
        cells(&runtime, "PostgreSQL", &postgres);
        runtime.block_on(postgres.clean_up());
    }
}

fn cells(runtime: &Runtime, name: &str, served: &Served) {
    let few = Crowd { clients: 4 * cores(), neighbour: "/light" };
    table(runtime, served, &few, &CELLS, &format!("{name}, {} clients", few.clients));
    let many = Crowd { clients: databases::CONNECTIONS as usize + 4, neighbour: "/asks" };
    let title = format!(
        "{name}, {} clients over {} connections, and a neighbour that asks the database",
        many.clients,
        databases::CONNECTIONS
    );
    table(runtime, served, &many, &CROWDED_CELLS, &title);
}

/// Who asks, and whom.
struct Crowd {
    clients: usize,
    neighbour: &'static str,
}

fn table(runtime: &Runtime, served: &Served, crowd: &Crowd, cells: &[(u32, u32)], title: &str) {
    println!("\n{title}");
    println!(
        "| rows x us | lists/s plain | lists/s ours/plain | joinset/plain | light p99 plain ms | plain/ours | joinset/ours |"
    );
    println!("|---|---|---|---|---|---|---|");
    for &(rows, us) in cells {
        if !wanted(rows, us) {
            continue;
        }
        let list = f64::from(rows) * (8.0 + f64::from(us)) / 1e6;
        // At least three a client, so that the end, when clients run out, weighs little.
        let turn = ((WINDOW * cores() as f64 / list) as usize).max(3 * crowd.clients);
        let mut lists = [const { Vec::new() }; 3];
        let mut light = [const { Vec::new() }; 3];
        for round in 0..=ROUNDS {
            for place in 0..CONTESTANTS.len() {
                let index = if round % 2 == 0 { place } else { CONTESTANTS.len() - 1 - place };
                let uri = format!("/{}?limit={rows}&render_us={us}", CONTESTANTS[index]);
                let (throughput, p99) = window(runtime, &served.router, crowd, &uri, turn);
                // The first round warms up.
                if round > 0 {
                    lists[index].push(throughput);
                    light[index].push(p99);
                }
            }
        }
        let [plain, joinset, ours] = &lists;
        let [plain_p99, joinset_p99, ours_p99] = &light;
        println!(
            "| {rows} x {us} | {:.0} | {} | {} | {:.2} | {} | {} |",
            median(plain),
            ratio(ours, plain),
            ratio(joinset, plain),
            median(plain_p99) * 1e3,
            ratio(plain_p99, ours_p99),
            ratio(joinset_p99, ours_p99),
        );
    }
}

/// Whether a cell is asked for: all are, or those named on the command line as `1000x20`.
fn wanted(rows: u32, us: u32) -> bool {
    let mut cells = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
    cells.peek().is_none() || cells.any(|cell| cell == format!("{rows}x{us}"))
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Lists per second and the neighbour's 99th percentile in seconds, over a fixed number of lists, so
/// that lists made one after the other and lists made side by side count alike.
fn window(runtime: &Runtime, router: &Router, crowd: &Crowd, uri: &str, lists: usize) -> (f64, f64) {
    let left = Arc::new(AtomicUsize::new(lists));
    let start = Instant::now();
    let tasks: Vec<_> = (0..crowd.clients)
        .map(|_| {
            let (router, uri, left) = (router.clone(), uri.to_owned(), Arc::clone(&left));
            runtime.spawn(async move {
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    get(&router, &uri).await;
                    // A connection's next request comes through the I/O driver, behind its neighbours.
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let mut latencies = Vec::new();
    while left.load(Ordering::Relaxed) > 0 {
        std::thread::sleep(PROBE_EVERY);
        let (router, neighbour) = (router.clone(), crowd.neighbour);
        let asked = Instant::now();
        runtime.block_on(runtime.spawn(async move { get(&router, neighbour).await })).expect("no panic");
        latencies.push(asked.elapsed().as_secs_f64());
    }
    for task in tasks {
        runtime.block_on(task).expect("no panic");
    }
    let throughput = lists as f64 / start.elapsed().as_secs_f64();
    latencies.sort_unstable_by(f64::total_cmp);
    (throughput, latencies[(latencies.len() - 1) * 99 / 100])
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

async fn get(router: &Router, uri: &str) {
    let request = Request::get(uri).body(Body::empty()).expect("a request");
    let response = router.clone().oneshot(request).await.expect("infallible");
    assert!(response.status().is_success(), "{}", response.status());
    response.into_body().collect().await.expect("a body");
}
