//! A worker: a named thread with a current-thread runtime and a database connection of its own, both
//! for as long as the pool lives. What it is given to do comes from the registry.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::admission::policy;
use crate::core::Core;
use crate::db::Database;
use crate::error::{BoxError, StartStep};
use crate::job::registry::Next;

/// How long closing a connection in good order may take when the worker ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Something a worker does from beginning to end.
pub(crate) trait Run<DB: Database>: Send + Sync {
    /// Does it. Never unwinds.
    fn run(&self, worker: &mut Worker<DB>);

    /// Is told that nobody will.
    fn refuse(&self);
}

/// The state of one worker thread.
pub(crate) struct Worker<DB: Database> {
    pub(crate) index: usize,
    core: Arc<Core<DB>>,
    runtime: Runtime,
    /// None after a use that may have left it dirty, until it was rebuilt.
    connection: Option<DB::Connection>,
}

/// Counts a worker out when its thread ends, however it ends.
pub(crate) struct Exit(pub(crate) watch::Sender<usize>);

impl Drop for Exit {
    fn drop(&mut self) {
        self.0.send_modify(|ended| *ended += 1);
    }
}

impl<DB: Database> Worker<DB> {
    /// Builds the runtime and opens the connection.
    ///
    /// # Errors
    /// With the step that failed.
    pub(crate) fn start(index: usize, core: Arc<Core<DB>>) -> Result<Self, (StartStep, BoxError)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| (StartStep::Runtime, error.into()))?;
        let mut worker = Worker { index, core, runtime, connection: None };
        worker.connect().map_err(|error| (StartStep::Connect, error))?;
        Ok(worker)
    }

    /// Opens the connection if there is none.
    fn connect(&mut self) -> Result<(), BoxError> {
        if self.connection.is_some() {
            return Ok(());
        }
        let source = &self.core.source;
        let limit = DB::connect_timeout(source);
        let halted = &self.core.halted;
        let connected = self.runtime.block_on(halted.run_until_cancelled(async {
            let connecting = tokio::time::timeout(limit, DB::connect(source));
            connecting.await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}").into()))
        }));
        self.connection = Some(connected.unwrap_or_else(|| Err("the pool is stopping".into()))?);
        Ok(())
    }

    /// Lends the connection to `using` on this worker's runtime. Unless it says that the connection is
    /// clean again, the connection is dropped, and rebuilt before the worker's next job.
    ///
    /// # Errors
    /// When there is no connection and none can be opened.
    pub(crate) fn with_connection<T>(
        &mut self,
        using: impl FnOnce(&Runtime, &mut DB::Connection) -> (T, Condition),
    ) -> Result<T, BoxError> {
        self.connect()?;
        let Some(mut connection) = self.connection.take() else {
            return Err("no connection".into());
        };
        let (result, condition) = using(&self.runtime, &mut connection);
        match condition {
            Condition::Clean => self.connection = Some(connection),
            // Entered, because drivers hand their sockets back to the runtime.
            Condition::Dirty => {
                let _runtime = self.runtime.enter();
                drop(connection);
            }
        }
        Ok(result)
    }

    /// Does what comes until the pool ends.
    pub(crate) fn work(mut self) {
        let core = Arc::clone(&self.core);
        loop {
            let linger = Duration::from_nanos(policy::linger(core.machine()));
            let next = core.registry.next(self.index, linger, |jobs| {
                if jobs.is_empty() {
                    return None;
                }
                let machine = core.machine();
                if policy::must_retire(machine) {
                    return None;
                }
                policy::pick(jobs.iter().map(|job| job.open(machine)))
            });
            match next {
                Next::Help(job, woken) => {
                    if let Some(woken) = woken {
                        core.load.woke(Instant::now().saturating_duration_since(woken));
                    }
                    job.help(&core);
                }
                Next::Run(run) => {
                    run.run(&mut self);
                    drop(run);
                    self.mend();
                }
                Next::Exit => break,
            }
        }
        if let Some(connection) = self.connection.take() {
            let closing = DB::close(connection);
            // One that hangs is closed by the end of the runtime all the same.
            let _closed = self.runtime.block_on(async { tokio::time::timeout(CLOSE_WITHIN, closing).await });
        }
    }

    /// Rebuilds a connection that was dropped. Should that fail, the next use tries again and reports.
    fn mend(&mut self) {
        if let Err(error) = self.connect() {
            tracing::warn!(worker = self.index, %error, "a worker's connection could not be rebuilt");
        }
    }
}

/// In what state a connection comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Its last statement ended.
    Clean,
    /// A statement may still be under way, or user code unwound.
    Dirty,
}
