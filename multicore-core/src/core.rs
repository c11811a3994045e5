//! What a pool's handle, its workers and the owners of its jobs share. Only state and small questions
//! about it; starting and stopping is in `pool`, a worker's loop in `worker`.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::admission::cost::CostModel;
use crate::admission::load::Load;
use crate::admission::policy::Machine;
use crate::cursor_secret::CursorSecret;
use crate::db::{Control, Database};
use crate::job::Help;
use crate::job::registry::Registry;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use crate::list::shape::Shapes;
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
    /// Whether there is a pooler in transaction mode between here and the database.
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only lists need it")
    )]
    pub(crate) transaction_pooling: bool,
    /// Raised when a connection was lost: the workers' may have been lost with it, so each looks at its
    /// own before it next uses it.
    pub(crate) losses: AtomicUsize,
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
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
        not(any(feature = "sqlite", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only lists need it")
    )]
    pub(crate) fn suspect(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halted.is_cancelled()
    }
}

/// The cost models of the routes, by the type of the work done there: each closure of a program has a
/// type of its own.
#[derive(Default)]
pub(crate) struct Costs(RwLock<HashMap<TypeId, Arc<CostModel>>>);

impl Costs {
    /// The model for work of type `W`.
    pub(crate) fn of<W: 'static>(&self) -> Arc<CostModel> {
        let key = TypeId::of::<W>();
        if let Some(model) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(model);
        }
        Arc::clone(self.0.write().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }
}
