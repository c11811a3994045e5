//! One call at a time: how long until the result is there and read, by its length.

use std::time::{Duration, Instant};

use multicore_core::process::{Processes, Registered};
use tokio::runtime::Runtime;

use crate::peers::{self, Ipc, Stream, Thread};
use crate::ratio::Ratio;
use crate::turns::{Times, faster, interleave};

/// A length of results, and how often it is asked for.
pub(crate) struct Size {
    pub(crate) word: &'static str,
    name: &'static str,
    len: usize,
    /// Round trips of which a turn reports the median.
    trips: usize,
    rounds: usize,
}

pub(crate) const SIZES: [Size; 4] = [
    Size { word: "64", name: "64 B", len: 64, trips: 100, rounds: 61 },
    Size { word: "100k", name: "100 KB", len: 100_000, trips: 50, rounds: 41 },
    Size { word: "1m", name: "1 MB", len: 1_000_000, trips: 15, rounds: 31 },
    Size { word: "10m", name: "10 MB", len: 10_000_000, trips: 5, rounds: 21 },
];

const NAMES: [&str; 10] = [
    "ours, blocking",
    "ours, async",
    "ours, blocking, written in place",
    "ours, async, written in place",
    "thread + oneshot",
    "`ipc-channel`, `Vec<u8>`",
    "`ipc-channel`, bytes",
    "`ipc-channel`, shared memory",
    "`procspawn`",
    "Unix stream",
];

pub(crate) fn measure(tasks: Registered, sizes: &[&Size]) {
    let runtime = Runtime::new().expect("a runtime");
    let mc = runtime.block_on(peers::ours(tasks, 1));
    let processes = mc.processes();
    let thread = Thread::start();
    let (values, bytes, memory) = (Ipc::values(), Ipc::bytes(), Ipc::memory());
    let procspawn = peers::procspawn(1);
    let mut stream = Stream::start();
    println!("\nround trips in us: the median of rounds (p10 to p90 of them)\n");
    let mut table: Vec<Vec<String>> = NAMES.iter().map(|name| vec![(*name).to_owned()]).collect();
    let mut ratios = Vec::new();
    for size in sizes {
        let len = size.len;
        let times = interleave(
            size.rounds,
            3,
            &mut [
                Box::new(|| size.blocking(|| peers::ours_blocking(processes, "bytes", len))),
                Box::new(|| size.ours_async(&runtime, processes, "bytes")),
                Box::new(|| size.blocking(|| peers::ours_blocking(processes, "written", len))),
                Box::new(|| size.ours_async(&runtime, processes, "written")),
                Box::new(|| size.thread(&runtime, &thread)),
                Box::new(|| size.blocking(|| values.run(len))),
                Box::new(|| size.blocking(|| bytes.run(len))),
                Box::new(|| size.blocking(|| memory.run(len))),
                Box::new(|| size.blocking(|| peers::procspawn_run(&procspawn, len))),
                Box::new(|| size.blocking(|| stream.run(len))),
            ],
        );
        for (row, times) in table.iter_mut().zip(&times) {
            row.push(cell(times));
        }
        ratios.push((size, Targets::new(&times)));
    }
    println!("| | {} |", sizes.iter().map(|size| size.name).collect::<Vec<_>>().join(" | "));
    println!("|{}", "---|".repeat(sizes.len() + 1));
    for row in table {
        println!("| {} |", row.join(" | "));
    }
    println!("\n| | ours | target | measured |\n|---|---|---|---|");
    for (size, targets) in ratios {
        targets.print(size);
    }
}

fn cell(times: &Times) -> String {
    let us = |part: f64| times.at(part).as_secs_f64() * 1e6;
    let digits = if us(0.5) < 100.0 { 1 } else { 0 };
    format!("{:.digits$} ({:.digits$} to {:.digits$})", us(0.5), us(0.1), us(0.9))
}

impl Size {
    /// A turn: the median of some trips.
    fn blocking(&self, mut trip: impl FnMut()) -> Duration {
        let trips = (0..self.trips).map(|_| {
            let start = Instant::now();
            trip();
            start.elapsed()
        });
        median(trips.collect())
    }

    fn ours_async(&self, runtime: &Runtime, processes: &Processes, task: &'static str) -> Duration {
        let (processes, len) = (processes.clone(), self.len);
        self.spawned(runtime, move || {
            let processes = processes.clone();
            async move { peers::ours_async(&processes, task, len).await }
        })
    }

    fn thread(&self, runtime: &Runtime, thread: &Thread) -> Duration {
        let (thread, len) = (thread.clone(), self.len);
        self.spawned(runtime, move || {
            let thread = thread.clone();
            async move { thread.run(len).await }
        })
    }

    /// The same from a task on the runtime's threads, as a request is served.
    fn spawned<T>(&self, runtime: &Runtime, trip: impl Fn() -> T + Send + 'static) -> Duration
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let count = self.trips;
        let turn = runtime.spawn(async move {
            let mut trips = Vec::with_capacity(count);
            for _ in 0..count {
                let start = Instant::now();
                trip().await;
                trips.push(start.elapsed());
            }
            trips
        });
        median(runtime.block_on(turn).expect("no panic"))
    }
}

fn median(mut trips: Vec<Duration>) -> Duration {
    trips.sort_unstable();
    trips[trips.len() / 2]
}

/// Ours beside the others.
struct Targets {
    /// Above 1, ours is faster: blocking beside blocking.
    values: Ratio,
    bytes: Ratio,
    memory: Ratio,
    procspawn: Ratio,
    stream: Ratio,
    /// Ours over theirs: above 1, ours is slower.
    thread: Ratio,
    thread_blocking: Ratio,
    written: Ratio,
    written_blocking: Ratio,
}

impl Targets {
    fn new(times: &[Times]) -> Self {
        let [blocking, asynchronous, blocking_written, written, thread, peers @ ..] = times else {
            unreachable!("ten contestants")
        };
        let [values, bytes, memory, procspawn, stream] = peers else { unreachable!("ten contestants") };
        Targets {
            values: faster(values, blocking),
            bytes: faster(bytes, blocking),
            memory: faster(memory, blocking),
            procspawn: faster(procspawn, blocking),
            stream: faster(stream, blocking),
            thread: faster(asynchronous, thread),
            thread_blocking: faster(blocking, thread),
            written: faster(written, thread),
            written_blocking: faster(blocking_written, thread),
        }
    }

    fn print(&self, size: &Size) {
        let ten = if size.word == "1m" { "at least 10x" } else { "" };
        let four = if size.word == "64" { "at least 4x" } else { ten };
        let long = if size.word == "10m" { "at most 2x" } else { "" };
        let two = if matches!(size.word, "64" | "10m") { "at most 2x" } else { "" };
        for (what, target, ratio) in [
            ("blocking faster than `ipc-channel`, `Vec<u8>`", ten, &self.values),
            ("blocking faster than `ipc-channel`, bytes", "", &self.bytes),
            ("blocking faster than `ipc-channel`, shared memory", "", &self.memory),
            ("blocking faster than `procspawn`", four, &self.procspawn),
            ("blocking faster than Unix stream", "", &self.stream),
            ("async / thread + oneshot", two, &self.thread),
            ("blocking / thread + oneshot", long, &self.thread_blocking),
            ("async, written in place / thread + oneshot", long, &self.written),
            ("blocking, written in place / thread + oneshot", long, &self.written_blocking),
        ] {
            println!("| {} | {what} | {target} | {ratio} |", size.name);
        }
    }
}

/// A result of 1 GB, with the settings as they are by default.
pub(crate) fn long() {
    const LEN: usize = 1_000_000_000;
    const ROUNDS: usize = 3;
    let runtime = Runtime::new().expect("a runtime");
    let mc = runtime.block_on(peers::ours(peers::tasks(), 1));
    let thread = Thread::start();
    let mut stream = Stream::start();
    let times = interleave(
        ROUNDS,
        1,
        &mut [
            Box::new(|| once(|| peers::ours_blocking(mc.processes(), "bytes", LEN))),
            Box::new(|| once(|| peers::ours_blocking(mc.processes(), "written", LEN))),
            Box::new(|| once(|| runtime.block_on(thread.run(LEN)))),
            Box::new(|| once(|| stream.run(LEN))),
        ],
    );
    println!("\na result of 1 GB, in ms\n");
    println!("| ours | ours, written in place | thread + oneshot | Unix stream |\n|---|---|---|---|");
    let cells: Vec<_> = times.iter().map(|times| format!("{}", times.median().as_millis())).collect();
    println!("| {} |", cells.join(" | "));
}

fn once(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}
