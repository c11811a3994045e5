//! What a pool's handle, its workers and the owners of its jobs share. Only state and small questions
//! about it; starting and stopping is in `pool`, a worker's loop in `worker`.

use std::any::TypeId;
use std::hash::{Hash, Hasher};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio_util::sync::CancellationToken;

use crate::admission::cost::CostModel;
use crate::admission::load::Load;
use crate::admission::policy::Machine;
use crate::cursor_secret::CursorSecret;
use crate::db::{Control, Database};
use crate::job::Help;
use crate::job::registry::Registry;
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
use crate::list::shapes::Shapes;
use crate::mode::{Counters, Reason};
use crate::worker::Run;

/// The shared part of one pool.
pub(crate) struct Core<DB: Database> {
    pub(crate) name: String,
    pub(crate) registry: Registry<dyn Help<DB>, Arc<dyn Run<DB>>>,
    pub(crate) load: Arc<Load>,
    pub(crate) decisions: Counters,
    pub(crate) costs: Costs,
    pub(crate) source: DB::Pool,
    /// The connection to cancel over, and to ask what must not be asked on the one it is about.
    pub(crate) control: Control<DB>,
    /// Tells whether anybody wrote in between, where that is asked.
    pub(crate) sentinel: DB::Sentinel,
    /// Whether there is a pooler in transaction mode between here and the database.
    #[cfg_attr(
        not(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only lists need it")
    )]
    pub(crate) transaction_pooling: bool,
    /// Raised when a connection was lost: the workers' may have been lost with it, so each looks at its
    /// own before it next uses it.
    pub(crate) losses: AtomicUsize,
    #[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
    pub(crate) shapes: Shapes,
    /// The time limit of a list, a map, ranges or a task's `get`; none by default.
    pub(crate) timeout: Option<Duration>,
    /// What signs the cursors of lists.
    #[allow(dead_code, reason = "only lists need it")]
    pub(crate) cursors: CursorSecret,
    /// Cancelled when a shutdown's deadline has passed: whatever can stop, stops.
    pub(crate) halted: CancellationToken,
    /// Workers inside a run, which may take any time.
    pub(crate) running: AtomicUsize,
    /// Runs that a shutdown cut short or never let begin.
    pub(crate) cut: AtomicUsize,
    /// Whether an async thread's other tasks can move to another one; asked when first needed.
    pub(crate) can_move: OnceLock<bool>,
}

impl<DB: Database> Core<DB> {
    /// What the machine is doing now.
    pub(crate) fn machine(&self) -> Machine {
        self.load.machine(self.registry.awake(), self.running.load(Ordering::Relaxed))
    }

    /// What a veto is called.
    pub(crate) fn veto_reason(&self) -> Reason {
        if self.load.veto() { Reason::LoadAverage } else { Reason::Throttled }
    }

    /// A connection was lost.
    #[cfg_attr(
        not(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only lists need it")
    )]
    pub(crate) fn suspect(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether an async thread's other tasks can move to another thread while something takes long here.
    pub(crate) fn can_move(&self) -> bool {
        *self.can_move.get_or_init(|| {
            let multi_thread = Handle::try_current()
                .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
            // Tokio tells only by a panic that a task is on a `LocalSet`, which cannot move.
            multi_thread && catch_unwind(|| tokio::task::block_in_place(|| {})).is_ok()
        })
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halted.is_cancelled()
    }
}

/// How many chains of cost models there are: more than most programs have routes with work.
const CHAINS: usize = 128;

/// The cost models of the routes, by the type of the work done there: each closure of a program has a
/// type of its own. They are only ever added, so finding one takes no lock and writes nothing that other
/// cores read.
pub(crate) struct Costs([Link; CHAINS]);

/// The next of a chain, if there is one yet.
type Link = OnceLock<Box<Known>>;

struct Known {
    work: TypeId,
    model: Arc<CostModel>,
    next: Link,
}

impl Default for Costs {
    fn default() -> Self {
        Costs([const { Link::new() }; CHAINS])
    }
}

impl Costs {
    /// The model for work of type `W`.
    pub(crate) fn of<W: 'static>(&self) -> &Arc<CostModel> {
        let work = TypeId::of::<W>();
        let mut place = &self.0[chain(work)];
        loop {
            // Two threads may come with two new types: who is second finds the other's, and goes on.
            let known =
                place.get_or_init(|| Box::new(Known { work, model: Arc::default(), next: Link::new() }));
            if known.work == work {
                return &known.model;
            }
            place = &known.next;
        }
    }
}

/// A type's chain. Its identity is a hash already, so that its own bits spread well enough.
fn chain(work: TypeId) -> usize {
    struct Bits(u64);
    impl Hasher for Bits {
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
            }
        }
        fn write_u64(&mut self, bits: u64) {
            self.0 ^= bits;
        }
        fn finish(&self) -> u64 {
            self.0
        }
    }
    let mut bits = Bits(0);
    work.hash(&mut bits);
    (bits.finish() % CHAINS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Of<const N: usize>;

    #[test]
    fn every_type_of_work_has_one_model_of_its_own_also_when_a_chain_has_several() {
        let costs = Costs::default();
        macro_rules! models {
            ($($n:literal)*) => { [$(Arc::as_ptr(costs.of::<Of<$n>>())),*] };
        }
        // One chain's worth each: the second time around all are found again.
        let (first, again) = (models!(1 2 3 4 5 6 7 8), models!(1 2 3 4 5 6 7 8));
        assert_eq!(first, again);
        let different: std::collections::HashSet<_> = first.into_iter().collect();
        assert_eq!(different.len(), first.len());
    }

    #[test]
    fn types_that_share_a_chain_do_not_share_a_model() {
        let one = Known { work: TypeId::of::<Of<1>>(), model: Arc::default(), next: Link::new() };
        let costs = Costs::default();
        // As if another type had come first in the chain of `Of<2>`.
        assert!(costs.0[chain(TypeId::of::<Of<2>>())].set(Box::new(one)).is_ok());
        let model = costs.of::<Of<2>>();
        assert!(Arc::ptr_eq(model, costs.of::<Of<2>>()));
        let Some(first) = costs.0[chain(TypeId::of::<Of<2>>())].get() else { unreachable!("set above") };
        assert!(!Arc::ptr_eq(model, &first.model));
    }
}
