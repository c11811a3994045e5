//! Many callers at once, two workers: how many short calls a second.

use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::peers;
use crate::turns::{faster, interleave};

const WORKERS: usize = 2;
const LEN: usize = 64;
/// Calls of a turn.
const CALLS: usize = 6_400;
const ROUNDS: usize = 21;

pub(crate) fn measure() {
    let runtime = Runtime::new().expect("a runtime");
    let mc = runtime.block_on(peers::ours(peers::tasks(), WORKERS));
    let pool = peers::procspawn(WORKERS);
    let ours = |callers: usize| {
        let (runtime, processes) = (&runtime, mc.processes());
        timed(move || {
            let callers = (0..callers).map(|_| {
                let processes = processes.clone();
                runtime.spawn(async move {
                    for _ in 0..CALLS / callers {
                        peers::ours_async(&processes, "bytes", LEN).await;
                    }
                })
            });
            for caller in callers.collect::<Vec<_>>() {
                runtime.block_on(caller).expect("no panic");
            }
        })
    };
    // It has no async interface: threads that wait, or one thread with many calls under way.
    let threads = |callers: usize| {
        let pool = &pool;
        timed(move || {
            thread::scope(|scope| {
                for _ in 0..callers {
                    scope.spawn(|| {
                        for _ in 0..CALLS / callers {
                            peers::procspawn_run(pool, LEN);
                        }
                    });
                }
            });
        })
    };
    let batches = |calls: usize| {
        let pool = &pool;
        timed(move || {
            for _ in 0..CALLS / calls {
                peers::procspawn_batch(pool, calls, LEN);
            }
        })
    };
    let blocking = |callers: usize| {
        let processes = mc.processes();
        timed(move || {
            thread::scope(|scope| {
                for _ in 0..callers {
                    scope.spawn(|| {
                        for _ in 0..CALLS / callers {
                            peers::ours_blocking(processes, "bytes", LEN);
                        }
                    });
                }
            });
        })
    };
    let mut contestants: Vec<Box<dyn FnMut() -> Duration + '_>> = vec![
        Box::new(|| ours(64)),
        Box::new(|| ours(8)),
        Box::new(|| blocking(8)),
        Box::new(|| blocking(2)),
        Box::new(|| threads(8)),
        Box::new(|| threads(2)),
        Box::new(|| batches(64)),
    ];
    let times = interleave(ROUNDS, 2, &mut contestants);
    drop(contestants);
    let names = [
        "ours, 64 tasks",
        "ours, 8 tasks",
        "ours, 8 threads",
        "ours, 2 threads",
        "`procspawn`, 8 threads",
        "`procspawn`, 2 threads",
        "`procspawn`, 64 calls at a time",
    ];
    println!("\nthroughput at {LEN} B, {WORKERS} workers: calls a second, median (p10 to p90)\n");
    println!("| | calls a second |\n|---|---|");
    for (name, times) in names.iter().zip(&times) {
        let rate = |part: f64| CALLS as f64 / times.at(part).as_secs_f64();
        println!("| {name} | {:.0} ({:.0} to {:.0}) |", rate(0.5), rate(0.9), rate(0.1));
    }
    let best = times[4..].iter().min_by_key(|times| times.median()).expect("three");
    println!(
        "\nours, 64 tasks, beside the best of `procspawn` (target: at least 3x): {}",
        faster(best, &times[0])
    );
    println!("ours, 8 tasks: {}", faster(best, &times[1]));
}

fn timed(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}
