//! Ending in good order: the server says that it is not ready any more, stops accepting, and lets
//! requests under way finish within a deadline. Which signal asks for it, and what is closed
//! afterwards, is in [`server`](crate::server).

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Whether the server wants new requests. Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness(watch::Sender<bool>);

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(true))
    }
}

impl Readiness {
    /// False as soon as the server is about to stop.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.0.borrow()
    }

    fn end(&self) {
        self.0.send_replace(false);
    }

    /// Waits until the server is about to stop.
    pub async fn ended(&self) {
        let mut ready = self.0.subscribe();
        // It cannot be closed while this sender is there.
        let _ended = ready.wait_for(|ready| !ready).await;
    }
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All requests were finished.
    Finished,
    /// The deadline passed before.
    Cut,
}

/// Serves until `stop`; then goes on for `notice` while it says that it is not ready, then accepts
/// nothing more, and returns when the requests under way are finished, after `deadline` at the latest.
/// What is under way still is cut off when the runtime ends.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    readiness: &Readiness,
    stop: impl Future<Output = ()> + Send + 'static,
    notice: Duration,
    deadline: Duration,
) -> io::Result<Drained> {
    let stopping = {
        let readiness = readiness.clone();
        async move {
            stop.await;
            readiness.end();
            tracing::info!("draining: /health/ready says 503 from now on");
            tokio::time::sleep(notice).await;
            tracing::info!("accepting nothing more; requests under way have {deadline:?} to finish");
        }
    };
    // A page leaves in several writes, none of which should wait for the client's acknowledgement.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection does without TCP_NODELAY");
        }
    });
    let overdue = async {
        readiness.ended().await;
        tokio::time::sleep(notice + deadline).await;
    };
    tokio::select! {
        served = axum::serve(listener, app).with_graceful_shutdown(stopping) => served.map(|()| Drained::Finished),
        () = overdue => Ok(Drained::Cut),
    }
}
