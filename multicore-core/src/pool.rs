//! A pool's life: its threads, statistics, shutting down. Settings and start are in `builder`; what runs
//! on it is in `task`, `map`, `range_job` and `list`.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, watch};

use crate::admission::load::Sampler;
use crate::builder::Builder;
use crate::core::Core;
use crate::db::Database;
use crate::error::{BoxError, StartError, StartStep};
use crate::mode::Decisions;
#[cfg(feature = "process")]
use crate::process::{ProcessStats, Processes};
use crate::worker::{Exit, Worker};

/// How long cancelled work may take to unwind after a shutdown's deadline.
const UNWIND_WITHIN: Duration = Duration::from_secs(1);

/// The handle to a pool: cheap to clone, usable from any thread. When the last clone is dropped, the
/// workers finish what is queued and stop; [`shutdown`](Multicore::shutdown) also waits for them.
pub struct Multicore<DB: Database> {
    pub(crate) core: Arc<Core<DB>>,
    threads: Arc<Threads<DB>>,
}

impl<DB: Database> Clone for Multicore<DB> {
    fn clone(&self) -> Self {
        Multicore { core: Arc::clone(&self.core), threads: Arc::clone(&self.threads) }
    }
}

impl<DB: Database> fmt::Debug for Multicore<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multicore").field("database", &DB::NAME).field("stats", &self.stats()).finish()
    }
}

/// The threads of a pool. Workers hold the core, never this, so that the last handle's drop is seen.
pub(crate) struct Threads<DB: Database> {
    core: Arc<Core<DB>>,
    handles: Mutex<Vec<(String, JoinHandle<()>)>>,
    ended: watch::Receiver<usize>,
    _sampler: Sampler,
    /// They finish what waits and end when this is dropped.
    #[cfg(feature = "process")]
    pub(crate) processes: Processes,
}

impl<DB: Database> Drop for Threads<DB> {
    fn drop(&mut self) {
        // Not joined: this may run on an async thread.
        self.core.registry.drain();
    }
}

/// Halts the workers of a start that did not come to its end.
struct Unfinished<'a, DB: Database>(Option<&'a Core<DB>>);

impl<DB: Database> Drop for Unfinished<'_, DB> {
    fn drop(&mut self) {
        if let Some(core) = self.0 {
            core.halted.cancel();
            core.registry.halt();
        }
    }
}

/// Starts the threads; all workers are ready when this returns, or all have ended.
pub(crate) async fn start_workers<DB: Database>(
    workers: usize,
    core: &Arc<Core<DB>>,
    sampler: Sampler,
) -> Result<Threads<DB>, StartError> {
    let name = &*core.name;
    let (exit, mut ended) = watch::channel(0);
    let (report, mut reports) = mpsc::channel(workers);
    let mut unfinished = Unfinished(Some(&**core));
    let mut handles = Vec::with_capacity(workers);
    let mut failure = None;
    for index in 0..workers {
        let worker = format!("{name}-{index}");
        let (core, exit, report) = (Arc::clone(core), Exit(exit.clone()), report.clone());
        let spawned = std::thread::Builder::new().name(worker.clone()).spawn(move || {
            // Dropped last: the core and the connection are gone when the exit is counted.
            let _exit = exit;
            match Worker::start(index, core) {
                Ok(ready) => {
                    // A start that was given up has nobody to report to, and is halted.
                    let _reported = report.blocking_send(Ok(()));
                    drop(report);
                    ready.work();
                }
                Err((step, source)) => {
                    let _reported = report.blocking_send(Err((index, step, source)));
                }
            }
        });
        match spawned {
            Ok(handle) => handles.push((worker, handle)),
            Err(error) => {
                let source: BoxError = error.into();
                failure = Some((index, StartStep::Thread, source));
                break;
            }
        }
    }
    drop(report);
    let mut ready = 0;
    while failure.is_none() && ready < workers {
        match reports.recv().await {
            Some(Ok(())) => ready += 1,
            Some(Err(failed)) => failure = Some(failed),
            None => failure = Some((ready, StartStep::Runtime, "it ended without a report".into())),
        }
    }
    let Some((index, step, source)) = failure else {
        unfinished.0 = None;
        return Ok(Threads {
            core: Arc::clone(core),
            handles: Mutex::new(handles),
            ended,
            _sampler: sampler,
            #[cfg(feature = "process")]
            processes: Processes::default(),
        });
    };
    drop(unfinished);
    let started = handles.len();
    // The sender lives in the workers; that they are all gone is what is waited for.
    let _all = ended.wait_for(|ended| *ended == started).await;
    Err(StartError::Worker { worker: format!("{name}-{index}"), step, source })
}

impl<DB: Database> Multicore<DB> {
    pub(crate) fn new(core: Arc<Core<DB>>, threads: Threads<DB>) -> Self {
        Multicore { core, threads: Arc::new(threads) }
    }

    /// Settings for a new pool.
    pub fn builder() -> Builder<DB> {
        Builder::default()
    }

    /// What the pool is doing and has done.
    pub fn stats(&self) -> Stats {
        let core = &self.core;
        Stats {
            workers: core.registry.workers(),
            busy: core.registry.awake(),
            queue: core.registry.queued(),
            jobs: core.registry.open_jobs(),
            owners: core.load.owners(),
            cores: core.load.cores(),
            load_average: core.load.average(),
            vetoed: core.load.veto(),
            wake_nanos: core.load.wake(),
            decisions: core.decisions.read(),
            #[cfg(feature = "process")]
            processes: self.processes().stats(),
        }
    }

    /// The pool's worker processes. Without tasks on the builder there are none, and calls say so.
    #[cfg(feature = "process")]
    pub fn processes(&self) -> &Processes {
        &self.threads.processes
    }

    /// Reads the load average and the core count now instead of at the next second.
    pub fn sample_load(&self) {
        self.core.load.sample_cores();
        self.core.load.sample_average();
    }

    /// Stops the pool: nothing new is taken, what runs and what is queued is finished, the threads are
    /// joined. What is not done after `deadline` is cut: queued runs never begin and their callers are
    /// told, ranges are dropped where they wait. A closure that computes cannot be stopped from
    /// outside; a worker stuck in one after another second is named in the report and left behind.
    ///
    /// Lists and maps that are under way go on by themselves, sequentially. A second call reports that
    /// nothing was left to do.
    ///
    /// # Cancel safety
    /// Dropped early, the pool still takes nothing new and ends when its queue is empty.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let core = &self.core;
        core.registry.drain();
        #[cfg(feature = "process")]
        let processes = self.processes().shutdown(deadline);
        #[cfg(not(feature = "process"))]
        let processes = std::future::ready(0);
        // Both at once: the deadline is for all.
        let (mut report, cut) = tokio::join!(self.join(deadline), processes);
        report.cut += cut;
        report
    }

    async fn join(&self, deadline: Duration) -> ShutdownReport {
        let core = &self.core;
        let mut ended = self.threads.ended.clone();
        let workers = core.registry.workers();
        if tokio::time::timeout(deadline, ended.wait_for(|ended| *ended == workers)).await.is_err() {
            let never_begun = core.registry.halt();
            let wanted = never_begun.iter().filter(|run| run.is_wanted()).count();
            core.cut.fetch_add(wanted, Ordering::Relaxed);
            for run in never_begun {
                run.refuse();
            }
            core.halted.cancel();
            let _unwound =
                tokio::time::timeout(UNWIND_WITHIN, ended.wait_for(|ended| *ended == workers)).await;
        }
        // One that hangs is closed by the end of the runtime all the same.
        let _closed = tokio::time::timeout(UNWIND_WITHIN, core.control.close()).await;
        DB::unwatch(&core.sentinel);
        let all_ended = *ended.borrow() == workers;
        let cut = core.cut.swap(0, Ordering::Relaxed);
        let mut report = ShutdownReport { joined: 0, cut, stuck: Vec::new() };
        // Taken only now: a shutdown that was dropped while it waited leaves them to the next.
        let mut handles = self.threads.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let handles = std::mem::take(&mut *handles);
        for (name, handle) in handles {
            // Past its last line, a thread needs microseconds to end.
            if all_ended || handle.is_finished() {
                // Workers catch the panics of what they run; one of their own was reported by the hook.
                let _joined = handle.join();
                report.joined += 1;
            } else {
                report.stuck.push(name);
            }
        }
        report
    }
}

/// What a pool is doing and has done; numbers read one after the other, not at one instant.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case")]
pub struct Stats {
    /// Worker threads.
    pub workers: usize,
    /// Workers that are not parked.
    pub busy: usize,
    /// Runs that wait for a worker.
    pub queue: usize,
    /// Jobs that workers may help with now.
    pub jobs: usize,
    /// Requests that are working on a job of their own now, without those that wait for the database.
    pub owners: usize,
    /// Cores the pool counts on.
    pub cores: usize,
    /// The last 1-minute load average read, if the system has one.
    pub load_average: Option<f64>,
    /// Whether the load average is above `max-load-average` now.
    pub vetoed: bool,
    /// What waking a worker is estimated to cost, in nanoseconds.
    pub wake_nanos: u64,
    /// How often each decision was taken.
    pub decisions: Decisions,
    /// The worker processes; all zero where there are none.
    #[cfg(feature = "process")]
    pub processes: ProcessStats,
}

/// How a shutdown went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShutdownReport {
    /// Worker threads that ended and were joined.
    pub joined: usize,
    /// Queued runs that never began, ranges that were dropped where they waited, and calls to worker processes
    /// that were not answered.
    pub cut: usize,
    /// Workers that were still computing and had to be left behind.
    pub stuck: Vec<String>,
}

impl ShutdownReport {
    /// Whether everything was finished in time.
    pub fn is_clean(&self) -> bool {
        self.cut == 0 && self.stuck.is_empty()
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} workers joined, {} runs cut", self.joined, self.cut)?;
        if !self.stuck.is_empty() {
            write!(f, ", still computing: {}", self.stuck.join(", "))?;
        }
        Ok(())
    }
}
