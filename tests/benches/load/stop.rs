//! Ctrl-c and SIGTERM end a run after the turn that is under way, so that databases are dropped and what
//! was measured is kept.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

static ASKED: AtomicBool = AtomicBool::new(false);

pub(crate) fn listen(runtime: &Runtime) {
    runtime.spawn(async {
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        ASKED.store(true, Ordering::Relaxed);
    });
}

pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
