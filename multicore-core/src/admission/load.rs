//! What the machine is doing now, gathered for `policy`: cores, who is busy, what a wake-up costs, the
//! load average. Reading is a handful of relaxed loads; what costs more is sampled by a thread of its
//! own and cached here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeMetrics};

use super::load_limit::LoadLimit;
use super::policy::{self, Machine, Nanos, WAKE_START};
use super::throttle::Throttle;
use super::turns::Turns;
use crate::error::panic_message;

/// The kernel renews its load averages every five seconds; one second keeps the delay small at
/// seven microseconds a second.
const LOAD_EVERY: Duration = Duration::from_secs(1);
/// Core counts change when a container is resized, and reading them takes 33 microseconds.
const CORES_EVERY: u32 = 10;

/// Where a 1-minute load average comes from; none where the system has no such thing.
pub(crate) type LoadSource = Box<dyn Fn() -> Option<f64> + Send + Sync>;

/// The system's own 1-minute load average.
pub(crate) fn system_load() -> Option<f64> {
    // Not every system has one (Windows has none).
    sysinfo::System::load_average().ok().map(|load| load.one)
}

fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The gauges of one pool.
pub(crate) struct Load {
    owners: AtomicUsize,
    /// The application's runtime, whose threads serve the neighbours.
    runtime: Option<RuntimeMetrics>,
    turns: Turns,
    cores: AtomicUsize,
    fixed_cores: Option<usize>,
    wake: AtomicU64,
    limit: Option<LoadLimit>,
    source: LoadSource,
    /// The last load average as bits of an `f64`; NaN where there is none.
    average: AtomicU64,
    veto: AtomicBool,
    throttled: AtomicBool,
}

impl Load {
    pub(crate) fn new(
        runtime: Option<Handle>,
        cores: Option<usize>,
        limit: Option<LoadLimit>,
        source: LoadSource,
    ) -> Self {
        let load = Load {
            owners: AtomicUsize::new(0),
            turns: Turns::new(runtime.as_ref()),
            runtime: runtime.map(|runtime| runtime.metrics()),
            cores: AtomicUsize::new(cores.unwrap_or_else(available_cores)),
            fixed_cores: cores,
            wake: AtomicU64::new(WAKE_START),
            limit,
            source,
            average: AtomicU64::new(f64::NAN.to_bits()),
            veto: AtomicBool::new(false),
            throttled: AtomicBool::new(false),
        };
        load.sample_average();
        load
    }

    /// Counts an owner until the guard is dropped.
    pub(crate) fn own(&self) -> Owning<'_> {
        self.owners.fetch_add(1, Ordering::Relaxed);
        Owning(self)
    }

    /// Whether owners on the current thread take turns now.
    pub(crate) fn takes_turns(&self) -> bool {
        self.turns.are_taken(self.owners.load(Ordering::Relaxed))
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// What the machine is doing now, with `awake` workers that are not parked, of which some are
    /// inside `runs`.
    pub(crate) fn machine(&self, awake: usize, runs: usize) -> Machine {
        let (busy_threads, threads) = self.runtime.as_ref().map_or((0, 0), |metrics| {
            let threads = metrics.num_workers();
            // A thread's count is odd while it is parked.
            let busy = |&worker: &usize| metrics.worker_park_unpark_count(worker).is_multiple_of(2);
            ((0..threads).filter(busy).count(), threads)
        });
        let owners = self.owners.load(Ordering::Relaxed);
        Machine {
            cores: self.cores(),
            busy: policy::busy(owners, busy_threads, awake),
            helpers: awake.saturating_sub(runs),
            wake: self.wake.load(Ordering::Relaxed),
            veto: self.veto() || self.is_throttled(),
            spare_thread: busy_threads < threads,
        }
    }

    pub(crate) fn cores(&self) -> usize {
        self.cores.load(Ordering::Relaxed)
    }

    /// Whether the load average is above the limit.
    pub(crate) fn veto(&self) -> bool {
        self.veto.load(Ordering::Relaxed)
    }

    /// Whether the CPU quota was used up within the last second.
    pub(crate) fn is_throttled(&self) -> bool {
        self.throttled.load(Ordering::Relaxed)
    }

    pub(crate) fn owners(&self) -> usize {
        self.owners.load(Ordering::Relaxed)
    }

    pub(crate) fn wake(&self) -> Nanos {
        self.wake.load(Ordering::Relaxed)
    }

    pub(crate) fn average(&self) -> Option<f64> {
        Some(f64::from_bits(self.average.load(Ordering::Relaxed))).filter(|load| !load.is_nan())
    }

    /// Takes in what one wake-up cost. Races lose a sample at most.
    pub(crate) fn woke(&self, cost: Duration) {
        let cost = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
        let old = self.wake.load(Ordering::Relaxed);
        self.wake.store(policy::learnt_wake(old, cost), Ordering::Relaxed);
    }

    pub(crate) fn sample_average(&self) {
        let average = catch_unwind(AssertUnwindSafe(&self.source)).unwrap_or_else(|payload| {
            tracing::error!(panic = panic_message(payload), "the source of the load average panicked");
            None
        });
        let average = average.filter(|load| load.is_finite());
        self.average.store(average.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
        let veto = match (self.limit, average) {
            (Some(limit), Some(average)) => average > limit.on(self.cores()),
            _ => false,
        };
        if self.veto.swap(veto, Ordering::Relaxed) != veto {
            tracing::info!(
                load_average = average,
                max = self.limit.map(|l| l.on(self.cores())),
                veto,
                "the load average crossed max-load-average"
            );
        }
    }

    /// Takes in whether the kernel stopped the process since the last time. Whoever says how many cores
    /// to count on has decided what they may be used for.
    pub(crate) fn sample_throttle(&self, throttle: &mut Throttle) {
        let throttled = throttle.sample() && self.fixed_cores.is_none();
        if self.throttled.swap(throttled, Ordering::Relaxed) != throttled {
            tracing::debug!(throttled, "the CPU quota was used up, or no longer is");
        }
    }

    pub(crate) fn sample_cores(&self) {
        if self.fixed_cores.is_none() {
            self.cores.store(available_cores(), Ordering::Relaxed);
        }
    }
}

/// An owner that is counted as busy while this lives.
pub(crate) struct Owning<'a>(&'a Load);

impl<'a> Owning<'a> {
    /// Does not count it until the guard is dropped: an owner that waits needs no core.
    pub(crate) fn wait(&self) -> Waiting<'a> {
        self.0.owners.fetch_sub(1, Ordering::Relaxed);
        Waiting(self.0)
    }
}

/// An owner that is not counted while this lives, which must not be longer than its `Owning`.
pub(crate) struct Waiting<'a>(&'a Load);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.owners.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Owning<'_> {
    fn drop(&mut self) {
        self.0.owners.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keeps the sampling thread alive; dropping it ends the thread at once.
pub(crate) struct Sampler {
    _stop: mpsc::Sender<()>,
}

impl Sampler {
    /// Starts the thread that samples for `load` until this, or `load`, is gone.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub(crate) fn start(name: &str, load: &Arc<Load>) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let load = Arc::downgrade(load);
        std::thread::Builder::new().name(format!("{name}-load")).spawn(move || sample(&load, &stopped))?;
        Ok(Sampler { _stop: stop })
    }
}

fn sample(load: &Weak<Load>, stopped: &mpsc::Receiver<()>) {
    let mut throttle = Throttle::of_this_process();
    for round in 1_u32.. {
        if stopped.recv_timeout(LOAD_EVERY) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let Some(load) = load.upgrade() else { return };
        if round % CORES_EVERY == 0 {
            load.sample_cores();
        }
        load.sample_average();
        load.sample_throttle(&mut throttle);
        load.turns.sample();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    use crate::admission::policy::WAKE_BOUNDS;

    #[test]
    fn the_veto_follows_the_load_average_per_core() {
        let now = Arc::new(Mutex::new(Some(0.0)));
        let source = Arc::clone(&now);
        let limit = LoadLimit::from_number(0.85).unwrap();
        let load = Load::new(None, Some(4), Some(limit), Box::new(move || *source.lock().unwrap()));
        for (average, veto) in [(Some(3.39), false), (Some(3.41), true), (Some(0.1), false), (None, false)] {
            *now.lock().unwrap() = average;
            load.sample_average();
            assert_eq!((load.veto(), load.average()), (veto, average), "{average:?}");
        }
    }

    #[test]
    fn a_used_up_quota_is_a_veto_until_a_second_passes_without_unless_the_cores_were_given() {
        let folder = std::env::temp_dir().join(format!("multicore-load-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let stat =
            |periods| std::fs::write(folder.join("cpu.stat"), format!("nr_throttled {periods}")).unwrap();
        for (cores, periods) in [(None, 0), (Some(4), 10)] {
            stat(periods);
            let load = Load::new(None, cores, None, Box::new(|| None));
            let mut throttle = Throttle::new("0::/", &folder);
            stat(periods + 1);
            load.sample_throttle(&mut throttle);
            assert_eq!(load.machine(0, 0).veto, cores.is_none());
            assert!(!load.veto(), "the load average is not to blame");
            load.sample_throttle(&mut throttle);
            assert!(!load.machine(0, 0).veto);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn without_a_limit_nothing_is_vetoed() {
        let load = Load::new(None, Some(1), None, Box::new(|| Some(1_000.0)));
        assert!(!load.veto());
        assert_eq!(load.average(), Some(1_000.0));
    }

    #[test]
    fn owners_count_as_busy_while_they_own_and_do_not_wait() {
        let load = Load::new(None, Some(4), None, Box::new(|| None));
        let first = load.own();
        let second = load.own();
        assert_eq!(load.machine(1, 0).busy, 3);
        let waiting = first.wait();
        assert_eq!(load.machine(1, 0).busy, 2);
        drop(waiting);
        assert_eq!(load.machine(1, 0).busy, 3);
        drop(first);
        assert_eq!(load.machine(0, 0).busy, 1);
        drop(second);
        assert_eq!(load.machine(0, 0).idle(), 4);
    }

    #[test]
    fn workers_inside_runs_are_busy_and_cannot_come_to_help() {
        let load = Load::new(None, Some(4), None, Box::new(|| None));
        assert_eq!((load.machine(3, 1).busy, load.machine(3, 1).helpers), (3, 2));
        assert_eq!(load.machine(1, 2).helpers, 0, "the two numbers are not read at one instant");
    }

    #[test]
    fn a_wake_up_is_learnt_slowly_and_within_bounds() {
        let load = Load::new(None, Some(4), None, Box::new(|| None));
        load.woke(Duration::from_secs(9));
        assert_eq!(load.wake(), (7 * WAKE_START + WAKE_BOUNDS.1) / 8);
        for _ in 0..200 {
            load.woke(Duration::ZERO);
        }
        assert!(load.wake() < 2 * WAKE_BOUNDS.0, "{}", load.wake());
    }
}
