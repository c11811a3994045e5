//! What the tests share: gates in place of sleeps, names and threads of pools, computing that takes a
//! while. Databases are in `databases`. Nothing here asserts behaviour.

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use multicore_core::{Builder, Database, Multicore, SqlDatabase, Task};
use sqlx::Pool;
use tokio::sync::mpsc;

/// How long anything may take before a test gives up instead of hanging. Never a claim about speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// More cores than any test keeps busy, so that how many there really are changes nothing.
pub(crate) const PLENTY: usize = 16;

/// A door that threads wait at until it is opened; dropping the key opens it too, so that a test that
/// fails leaves nobody waiting.
#[derive(Clone)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

/// Opens the gate.
pub(crate) struct Key(Gate);

/// A closed gate and its key.
pub(crate) fn gate() -> (Key, Gate) {
    let gate = Gate(Arc::new((Mutex::new(false), Condvar::new())));
    (Key(gate.clone()), gate)
}

impl Gate {
    /// Blocks the thread until the gate is open.
    pub(crate) fn pass(&self) {
        let (open, opened) = &*self.0;
        let closed = opened.wait_timeout_while(open.lock().unwrap(), PATIENCE, |open| !*open).unwrap();
        assert!(!closed.1.timed_out(), "the gate never opened");
    }
}

impl Key {
    pub(crate) fn open(&self) {
        let (open, opened) = &*self.0.0;
        *open.lock().unwrap() = true;
        opened.notify_all();
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.open();
    }
}

/// A name for a pool that no other test of this process uses, short enough to be a thread's name.
pub(crate) fn unique() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("pool{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The threads of this process that belong to the pool of this name.
pub(crate) fn threads_of(pool: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a Linux with /proc");
    // A thread may end while its entry is read.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let prefix = format!("{pool}-");
    let mut names: Vec<_> =
        names.map(|name| name.trim_end().to_owned()).filter(|name| name.starts_with(&prefix)).collect();
    names.sort();
    names
}

/// Polls until `holds`, giving way to other tasks and threads in between.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
}

/// Waits until no thread of the pool is left.
pub(crate) async fn until_gone(pool: &str) {
    until(&format!("no thread of {pool} is left"), || threads_of(pool).is_empty()).await;
}

/// Waits until all workers are parked, so that each of them can be called.
pub(crate) async fn until_idle<DB: Database>(mc: &Multicore<DB>) {
    until("all workers are parked", || mc.stats().busy == 0).await;
}

/// The output of a future that must not hang.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

/// Settings for a pool without a database that counts on more cores than there are tests.
pub(crate) fn builder(workers: usize) -> Builder<()> {
    Multicore::builder().name(unique()).workers(workers).cores(PLENTY).load_source(|| None)
}

/// A pool without a database, all workers parked.
pub(crate) async fn pool(workers: usize) -> Multicore<()> {
    let mc = builder(workers).start().await.unwrap();
    until_idle(&mc).await;
    mc
}

/// A pool of so many workers over the application's database, all parked.
pub(crate) async fn over<DB: SqlDatabase>(app: &Pool<DB>, workers: usize) -> Multicore<DB> {
    let mc = Multicore::<DB>::builder().name(unique()).workers(workers).cores(PLENTY);
    let mc = mc.load_source(|| None).pool(app.clone()).start().await.unwrap();
    until_idle(&mc).await;
    mc
}

/// A run that never ends before its key is used, on a worker that is in it when this returns.
pub(crate) async fn occupy<DB: Database>(mc: &Multicore<DB>) -> (Task<()>, Key) {
    let (key, closed) = gate();
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut task = mc.task().unwrap();
    task.run(move || {
        arrived.send(()).unwrap();
        closed.pass();
    });
    // Not by waiting, which would let a paused clock run.
    until("the run has begun", || arrivals.try_recv().is_ok()).await;
    (task, key)
}

/// Computes for about so many microseconds.
pub(crate) fn burn(us: u64) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(us) {
        std::hint::spin_loop();
    }
}

/// Remembers which workers passed.
#[derive(Clone, Default)]
pub(crate) struct Visitors(Arc<Mutex<HashSet<ThreadId>>>);

impl Visitors {
    /// Notes the current thread if it is a worker of `pool`.
    pub(crate) fn note(&self, pool: &str) {
        if is_worker(pool) {
            self.0.lock().unwrap().insert(std::thread::current().id());
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Whether the current thread is a worker of `pool`.
pub(crate) fn is_worker(pool: &str) -> bool {
    std::thread::current().name().is_some_and(|name| name.starts_with(&format!("{pool}-")))
}
