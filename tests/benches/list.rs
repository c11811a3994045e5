//! `parallel_list` beside the plain axum + sqlx handler (`fetch_all`, `Json`) and beside its own
//! sequential path, one request at a time, on SQLite and PostgreSQL. Run with
//! `cargo bench -p multicore-tests --bench list`.

mod databases;
mod people;
mod ratio;
mod turns;

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use people::Served;
use tokio::runtime::Runtime;
use tower::ServiceExt;
use turns::{faster, interleave};

const ROWS: [u32; 3] = [100, 1_000, 10_000];
const RENDER_US: [u32; 3] = [0, 20, 200];

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    println!("rows x us a row: how many times faster than the plain handler (middle half of the rounds)");
    let sqlite = runtime.block_on(people::sqlite());
    cells(&runtime, "SQLite", &sqlite);
    if let Some(postgres) = runtime.block_on(people::postgres()) {
        cells(&runtime, "PostgreSQL", &postgres);
        runtime.block_on(postgres.clean_up());
    }
}

fn cells(runtime: &Runtime, name: &str, served: &Served) {
    println!("\n{name}");
    println!("| rows x us | plain ms | ours | sequential path | ours / sequential path | mode |");
    println!("|---|---|---|---|---|---|");
    for rows in ROWS {
        for us in RENDER_US {
            if !wanted(rows, us) {
                continue;
            }
            // About a second and a half a contestant, at least nine rounds.
            let work = f64::from(rows) * (8.0 + f64::from(us)) / 1e6;
            let rounds = ((1.5 / work) as usize).clamp(9, 400) | 1;
            let query = format!("?limit={rows}&render_us={us}");
            let get = |path: &str| {
                let uri = format!("{path}{query}");
                let router = &served.router;
                move || request(runtime, router, &uri).0
            };
            let times = interleave(
                rounds,
                3,
                &mut [Box::new(get("/plain")), Box::new(get("/sequential")), Box::new(get("/ours"))],
            );
            let [plain, sequential, ours] = &times[..] else { unreachable!("three contestants") };
            let (_, mode) = request(runtime, &served.router, &format!("/ours{query}"));
            println!(
                "| {rows} x {us} | {:.2} | {} | {} | {} | {mode} |",
                plain.median().as_secs_f64() * 1e3,
                faster(plain, ours),
                faster(plain, sequential),
                faster(sequential, ours),
            );
        }
    }
}

/// Whether a cell is asked for: all are, or those named on the command line as `1000x20`.
fn wanted(rows: u32, us: u32) -> bool {
    let mut cells = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
    cells.peek().is_none() || cells.any(|cell| cell == format!("{rows}x{us}"))
}

/// One request as a server would run it, on a runtime thread, to the last byte of its body.
fn request(runtime: &Runtime, router: &Router, uri: &str) -> (Duration, String) {
    let request = Request::get(uri).body(Body::empty()).expect("a request");
    let router = router.clone();
    let task = runtime.spawn(async move {
        let start = Instant::now();
        let response = router.oneshot(request).await.expect("infallible");
        assert!(response.status().is_success(), "{}", response.status());
        let mode =
            response.headers().get("multicore").map(|mode| mode.to_str().unwrap_or_default().to_owned());
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert!(body.len() > 2);
        (start.elapsed(), mode.unwrap_or_default())
    });
    runtime.block_on(task).expect("no panic")
}
