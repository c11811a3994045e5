//! What a run is about: the machine, and who decides how many cores a request gets.

use crate::admission::policy::Nanos;

/// How cores are given to threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// All runnable threads at once, at equal speed.
    Fair,
    /// The same on cores with two siblings each, of which one thread alone gets more.
    Siblings,
    /// Three milliseconds a turn, and who wakes up comes last.
    RoundRobin,
}

/// A machine.
#[derive(Clone, Debug)]
pub struct World {
    /// The cores the program believes it has.
    pub cores: usize,
    /// How they are given to threads.
    pub scheduler: Scheduler,
    /// From when on how many threads of other programs compute without end.
    pub external: Vec<(Nanos, usize)>,
    /// The cores there are, and so many nanoseconds of them a period of so many.
    pub quota: Option<(usize, Nanos, Nanos)>,
}

impl World {
    /// So many cores for this program alone.
    pub fn new(cores: usize, scheduler: Scheduler) -> Self {
        World { cores, scheduler, external: Vec::new(), quota: None }
    }
}

/// Who decides how many cores a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Each request is its own thread's work alone.
    Sequential,
    /// Each is split into as many parts as there are cores, which queue for the workers.
    ForkAlways,
    /// The same while the 1-minute load average is below 0.85 a core.
    LoadGate,
    /// Each is split over the cores that are idle when its rows come, and stays so.
    IdleCount,
    /// Requests begin alone and get one more worker for every while they last, later if many run. After
    /// Haque et al., "Few-to-Many: Incremental Parallelism for Reducing Tail Latency in Interactive
    /// Services" (ASPLOS 2015), with intervals that grow with the requests in place of ones computed
    /// beforehand.
    FewToMany,
    /// All cores divided equally among the requests at any moment, at no cost whatever. Nobody can build
    /// it; it is what the others are measured against.
    EqualSharing,
    /// The pool's.
    Multicore,
}

impl Policy {
    /// All of them.
    pub const ALL: [Policy; 7] = [
        Policy::Sequential,
        Policy::ForkAlways,
        Policy::LoadGate,
        Policy::IdleCount,
        Policy::FewToMany,
        Policy::EqualSharing,
        Policy::Multicore,
    ];

    /// What tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Sequential => "sequential",
            Policy::ForkAlways => "fork always",
            Policy::LoadGate => "load-average gate",
            Policy::IdleCount => "idle count",
            Policy::FewToMany => "few-to-many",
            Policy::EqualSharing => "zero-cost equal sharing",
            Policy::Multicore => "Multicore",
        }
    }
}
