//! What a worker takes: memory while it is idle, and time until it is ready.

use std::fs;
use std::time::{Duration, Instant};

use multicore_core::Multicore;
use tokio::runtime::Runtime;

use crate::peers;
use crate::turns::{Times, interleave};

const ROUNDS: usize = 41;
const STARTS: [&str; 4] = [
    "a pool with a worker process",
    "a pool without",
    "`procspawn`, a pool of one, until it has answered",
    "a process of this executable that does nothing, until its end",
];

pub(crate) fn measure() {
    let runtime = Runtime::new().expect("a runtime");
    start(&runtime);
    memory(&runtime);
}

fn start(runtime: &Runtime) {
    let times = interleave(
        ROUNDS,
        3,
        &mut [
            Box::new(|| started(runtime, || runtime.block_on(peers::ours(peers::tasks(), 1)))),
            Box::new(|| {
                let pool = || runtime.block_on(Multicore::<()>::builder().workers(1).start());
                started(runtime, || pool().expect("a pool"))
            }),
            Box::new(|| {
                let start = Instant::now();
                let _pool = peers::procspawn(1);
                start.elapsed()
            }),
            Box::new(|| {
                let start = Instant::now();
                peers::start_nothing();
                start.elapsed()
            }),
        ],
    );
    println!("\nstart, in ms: median (p10 to p90)\n\n| | ms |\n|---|---|");
    for (name, times) in STARTS.iter().zip(&times) {
        let ms = |part: f64| times.at(part).as_secs_f64() * 1e3;
        println!("| {name} | {:.2} ({:.2} to {:.2}) |", ms(0.5), ms(0.1), ms(0.9));
    }
    let [with, without, ..] = &times[..] else { unreachable!("four contestants") };
    println!("\nthe worker's part: {:.2} ms", difference(with, without) * 1e3);
}

/// The median of what the first take longer than the second, in seconds.
fn difference(longer: &Times, shorter: &Times) -> f64 {
    let pairs = longer.rounds.iter().zip(&shorter.rounds);
    let mut differences: Vec<f64> =
        pairs.map(|(longer, shorter)| longer.as_secs_f64() - shorter.as_secs_f64()).collect();
    differences.sort_unstable_by(f64::total_cmp);
    differences[differences.len() / 2]
}

fn started(runtime: &Runtime, pool: impl FnOnce() -> Multicore<()>) -> Duration {
    let start = Instant::now();
    let pool = pool();
    let took = start.elapsed();
    runtime.block_on(pool.shutdown(Duration::from_secs(10)));
    took
}

fn memory(runtime: &Runtime) {
    println!(
        "\nmemory of a worker process, in KB\n\n| | resident | its own | shared fairly |\n|---|---|---|---|"
    );
    let mc = runtime.block_on(peers::ours(peers::tasks(), 1));
    let [worker] = children()[..] else { panic!("one process was started") };
    print("ours, just started", worker);
    for (name, len) in [("ours, after a call of 64 B", 64), ("after one of 10 MB", 10_000_000)] {
        peers::ours_blocking(mc.processes(), "bytes", len);
        print(name, worker);
    }
    runtime.block_on(mc.shutdown(Duration::from_secs(10)));
    let _pool = peers::procspawn(1);
    let [worker] = children()[..] else { panic!("one process was started") };
    print("`procspawn`, after a call of 1 B", worker);
}

fn print(name: &str, worker: u32) {
    let text = fs::read_to_string(format!("/proc/{worker}/smaps_rollup")).expect("a worker");
    let field = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0)
    };
    let own = field("Private_Clean:") + field("Private_Dirty:");
    println!("| {name} | {} | {own} | {} |", field("Rss:"), field("Pss:"));
}

/// The processes that this one has started.
fn children() -> Vec<u32> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task").expect("threads").flatten() {
        let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(text.split_whitespace().filter_map(|number| number.parse::<u32>().ok()));
    }
    children
}
