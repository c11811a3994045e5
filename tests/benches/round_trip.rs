//! One closure to a worker thread and its result back to an async task: ours beside rayon with a
//! oneshot channel and beside Tokio's `spawn_blocking`. Run with
//! `cargo bench -p multicore-tests --bench round_trip`.

mod ratio;
mod turns;

use std::hint::black_box;
use std::time::{Duration, Instant};

use multicore_core::Multicore;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use turns::{faster, interleave};

/// Round trips of which a round reports the median.
const TRIPS: usize = 200;
const ROUNDS: usize = 101;

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let mc = runtime.block_on(Multicore::<()>::builder().start()).expect("a pool");
    let rayon = rayon::ThreadPoolBuilder::new().build().expect("a rayon pool");

    println!("round trip of one closure, median of {TRIPS}: how many times the peer's time ours takes");
    for (name, spin) in [("nothing to do", Duration::ZERO), ("100 us to do", Duration::from_micros(100))] {
        let times = interleave(
            ROUNDS,
            5,
            &mut [
                Box::new(|| {
                    median(&runtime, async || {
                        let (reply, result) = oneshot::channel();
                        rayon.spawn(move || reply.send(work(spin)).expect("a listener"));
                        result.await.expect("a result")
                    })
                }),
                Box::new(|| {
                    median(&runtime, async || {
                        tokio::task::spawn_blocking(move || work(spin)).await.expect("a result")
                    })
                }),
                Box::new(|| {
                    median(&runtime, async || {
                        let mut task = mc.task().expect("no veto");
                        task.run(move || work(spin));
                        task.get().await.expect("a result")[0]
                    })
                }),
            ],
        );
        let [rayon, blocking, ours] = &times[..] else { unreachable!("three contestants") };
        println!("\n{name}");
        for (who, times) in [("rayon + oneshot", rayon), ("spawn_blocking", blocking), ("ours", ours)] {
            println!("  {who:<16} {:>8.1} us", times.median().as_secs_f64() * 1e6);
        }
        println!("  ours / rayon + oneshot: {}", faster(ours, rayon));
        println!("  ours / spawn_blocking:  {}", faster(ours, blocking));
    }
}

fn work(spin: Duration) -> u64 {
    let start = Instant::now();
    while start.elapsed() < spin {}
    black_box(42)
}

/// The median of `TRIPS` round trips, made one after the other from a task on the runtime's threads.
fn median(runtime: &Runtime, trip: impl AsyncFn() -> u64) -> Duration {
    // Not spawned, so that contestants can borrow; driven by a thread of its own either way.
    let mut times: Vec<Duration> = runtime.block_on(async {
        let mut times = Vec::with_capacity(TRIPS);
        for _ in 0..TRIPS {
            let start = Instant::now();
            assert_eq!(trip().await, 42);
            times.push(start.elapsed());
        }
        times
    });
    times.sort_unstable();
    times[TRIPS / 2]
}
