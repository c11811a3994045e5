//! What the layer costs a route that does not ask for it: nanoseconds and allocations of a request, with
//! no layer, with one that does nothing, and with ours. In turns, by calls of the service, without a
//! network. Run with `cargo bench -p multicore-tests --bench layer`.

mod ratio;
mod turns;

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use futures_util::FutureExt;
use multicore_axum::MulticoreLayer;
use tokio::runtime::Runtime;
use tower::ServiceExt;
use tower::layer::util::Identity;
use turns::{faster, interleave};

const ROUNDS: usize = 101;
const WARM_UP: usize = 5;
/// Requests of a turn.
const REQUESTS: u32 = 1_000;
const PROMISE: f64 = 50.0;

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let multicore = runtime.block_on(MulticoreLayer::<()>::builder().start()).expect("workers");
    let routes = || Router::new().route("/light", get(async || "ok"));
    // With their state, as `serve` gives it: before that, axum layers routes anew for every request.
    let routers = [routes(), routes().layer(Identity::new()), routes().layer(multicore)]
        .map(|router: Router| router.with_state::<()>(()));
    let mut contestants: Vec<Box<dyn FnMut() -> Duration + '_>> = Vec::new();
    for router in &routers {
        contestants.push(Box::new(|| {
            let start = Instant::now();
            for _ in 0..REQUESTS {
                send(router);
            }
            start.elapsed() / REQUESTS
        }));
    }
    let times = interleave(ROUNDS, WARM_UP, &mut contestants);
    drop(contestants);
    println!("a request to a route that answers `ok`; {ROUNDS} rounds of {REQUESTS} requests each");
    println!("| layer | ns | no layer / this | allocations |");
    println!("|---|---|---|---|");
    for (index, name) in ["none", "one that does nothing", "ours"].into_iter().enumerate() {
        let allocations = allocation_counter::measure(|| send(&routers[index])).count_total;
        let (ns, ratio) = (times[index].median().as_nanos(), faster(&times[0], &times[index]));
        println!("| {name} | {ns} | {ratio} | {allocations} |");
    }
    let mut over: Vec<f64> = times[2]
        .rounds
        .iter()
        .zip(&times[1].rounds)
        .map(|(ours, nothing)| ours.as_secs_f64() * 1e9 - nothing.as_secs_f64() * 1e9)
        .collect();
    over.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| over[((over.len() - 1) as f64 * part).round() as usize];
    println!(
        "ours over one that does nothing, in the same round: {:.0} ns ({:.0} to {:.0}); promise {PROMISE}: {}",
        at(0.5),
        at(0.25),
        at(0.75),
        if at(0.5) <= PROMISE { "met" } else { "missed" }
    );
}

fn send(router: &Router) {
    let request = Request::get("/light").body(Body::empty()).expect("a request");
    let response = router.clone().oneshot(request).now_or_never().expect("it waits for nothing");
    std::hint::black_box(response.expect("infallible"));
}
