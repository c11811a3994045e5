//! The most memory one 10,000-row page needs, ours beside the plain handler. Fails when ours is above
//! the promise: 1.3 times the body plus what the plain handler needs. Run with
//! `cargo bench -p multicore-tests --bench memory`.

mod databases;
mod people;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use peak_alloc::PeakAlloc;
use people::Served;
use tokio::runtime::Runtime;
use tower::ServiceExt;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    println!("peak memory of one page of 10,000 rows, in MB above idle (largest of 5)");
    println!("| database, us a row | body | plain | ours | limit |");
    println!("|---|---|---|---|---|");
    let sqlite = runtime.block_on(people::sqlite());
    cells(&runtime, "SQLite", &sqlite);
    if let Some(postgres) = runtime.block_on(people::postgres()) {
        cells(&runtime, "PostgreSQL", &postgres);
        runtime.block_on(postgres.clean_up());
    }
}

fn cells(runtime: &Runtime, name: &str, served: &Served) {
    for us in [0, 20] {
        let query = format!("limit=10000&render_us={us}");
        let (plain, body) = peak(runtime, &served.router, &format!("/plain?{query}"));
        let (ours, _) = peak(runtime, &served.router, &format!("/ours?{query}"));
        let limit = 1.3 * body + plain;
        println!("| {name}, {us} | {body:.1} | {plain:.1} | {ours:.1} | {limit:.1} |");
        assert!(ours <= limit, "{ours:.1} MB is above {limit:.1} MB");
    }
}

/// The largest peak of a few requests, and the size of the body, in megabytes.
fn peak(runtime: &Runtime, router: &Router, uri: &str) -> (f64, f64) {
    let mut peak = 0.0_f64;
    let mut body = 0;
    for _ in 0..5 {
        let before = PEAK.current_usage_as_mb();
        PEAK.reset_peak_usage();
        let request = Request::get(uri).body(Body::empty()).expect("a request");
        let answer = runtime.spawn(router.clone().oneshot(request));
        body = runtime.block_on(async move {
            let response = answer.await.expect("no panic").expect("infallible");
            let mut body = response.into_body();
            let mut bytes = 0;
            // Piece by piece, as a socket takes it.
            while let Some(frame) = body.frame().await {
                bytes += frame.expect("a frame").into_data().map_or(0, |data| data.len());
            }
            bytes
        });
        peak = peak.max(f64::from(PEAK.peak_usage_as_mb() - before));
    }
    (peak, body as f64 / (1024.0 * 1024.0))
}
