//! A lock that the pool's control connection holds from when it is first wanted (PostgreSQL). While another session finds
//! it held, the server has not lost its memory since it was taken: a crash ends all sessions. Snapshots are numbered
//! by the server's memory, and after a crash that lost what was not on disk yet, their numbers may come again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use crate::core::Core;
use crate::db::{Ask, Guard, SqlDatabase};

/// After a failure it is tried again when it was wanted so many times.
const TRY_AGAIN: u32 = 64;

/// The lock's number; zero while there is none.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    number: AtomicI64,
    asking: AtomicBool,
    rest: AtomicU32,
}

impl Hold {
    /// The number of the lock that is held. Never waits: where none is, one is taken meanwhile, for a later page.
    pub(super) fn number<DB: SqlDatabase>(core: &Arc<Core<DB>>) -> Option<i64> {
        let hold = &core.shapes.hold;
        let number = hold.number.load(Ordering::Acquire);
        if number != 0 {
            return Some(number);
        }
        let rests = |rest: u32| rest.checked_sub(1);
        let rests = hold.rest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rests).is_ok();
        let home = core.control.home().filter(|_| !rests)?;
        if !hold.asking.swap(true, Ordering::Acquire) {
            home.spawn(Self::take(Arc::clone(core)));
        }
        None
    }

    async fn take<DB: SqlDatabase>(core: Arc<Core<DB>>) {
        let hold = &core.shapes.hold;
        let Some(number) = Guard::lock().tag() else { return };
        match core.control.ask(Ask::Hold(number)).await {
            Ok(1) => hold.number.store(number, Ordering::Release),
            Ok(_) => hold.rest.store(TRY_AGAIN, Ordering::Relaxed),
            Err(error) => {
                tracing::debug!(%error, "no lock tells whether the server was restarted");
                hold.rest.store(TRY_AGAIN, Ordering::Relaxed);
            }
        }
        hold.asking.store(false, Ordering::Release);
    }

    /// The lock of this number may be held no more.
    pub(super) fn is_in_doubt(&self, number: i64) {
        // Another one may have been taken by now.
        let _is_another = self.number.compare_exchange(number, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}
