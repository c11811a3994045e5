//! The signals that end the program: SIGTERM, as service managers send it, and SIGINT, which is
//! ctrl-c. What happens then is in [`drain`](crate::drain).

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the program. From the time it is made, they no longer do so by themselves.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over. Must be called on a Tokio runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn install() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt })
    }

    /// Waits for the next one, and gives its name.
    ///
    /// # Cancel safety
    /// No signal is lost.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
