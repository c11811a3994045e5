//! Worker processes beside other ways to get a result from elsewhere: round trips by the length of the
//! result, throughput, what an idle worker takes and how long one takes to start, and a result of 1 GB.
//! Run with `cargo bench -p multicore-tests --bench processes`, or some of it:
//! `-- 64 100k 1m 10m throughput start long`.
//!
//! Here is only what is run. The contestants are in `peers`.

#[cfg(target_os = "linux")]
mod footprint;
#[cfg(target_os = "linux")]
mod peers;
#[cfg(target_os = "linux")]
#[path = "../ratio.rs"]
mod ratio;
#[cfg(target_os = "linux")]
mod throughput;
#[cfg(target_os = "linux")]
mod trips;
#[cfg(target_os = "linux")]
#[path = "../turns.rs"]
mod turns;

#[cfg(target_os = "linux")]
fn main() {
    // First: every worker, ours and the peers', is this executable again.
    let tasks = peers::tasks();
    peers::become_peer();
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    let sizes: Vec<_> = trips::SIZES.iter().filter(|size| wanted(size.word)).collect();
    if !sizes.is_empty() {
        trips::measure(tasks, &sizes);
    }
    if wanted("throughput") {
        throughput::measure();
    }
    if wanted("start") {
        footprint::measure();
    }
    if wanted("long") {
        trips::long();
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("worker processes are for Linux");
}
