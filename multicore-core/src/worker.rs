//! A worker: a named thread with a current-thread runtime and a database connection of its own, both
//! for as long as the pool lives. What it is given to do comes from the registry.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::admission::policy;
use crate::core::Core;
use crate::db::{Database, Guard};
use crate::error::{BoxError, StartStep};
use crate::job::registry::Next;
use crate::job::{Failure, guarded};

/// How long closing a connection in good order may take when the worker ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// After how long a worker tries again to connect, doubling from the first to the last. A use in
/// between fails at once, so that a database that is down holds up nobody.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// How long making a connection clean may take; one that is not by then is rebuilt.
const CLEAN_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may take to say that it is still there.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Something a worker does from beginning to end.
pub(crate) trait Run<DB: Database>: Send + Sync {
    /// Does it. Never unwinds.
    fn run(&self, worker: &mut Worker<DB>);

    /// Is told that nobody will.
    fn refuse(&self);

    /// Whether somebody is worse off when nobody does.
    fn is_wanted(&self) -> bool {
        true
    }
}

/// The state of one worker thread.
pub(crate) struct Worker<DB: Database> {
    pub(crate) index: usize,
    core: Arc<Core<DB>>,
    runtime: Runtime,
    /// None after a use that may have left it dirty, until it was rebuilt. With how its statements are
    /// stopped.
    connection: Option<(DB::Connection, Guard)>,
    /// How many losses of connections this worker has heard of.
    losses: usize,
    /// Whether the last run used the connection.
    used: bool,
    /// Until when not to try again to connect, and why.
    down: Option<Down>,
}

/// A database that could not be reached.
struct Down {
    until: Instant,
    pause: Duration,
    why: String,
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
        let mut worker =
            Worker { index, core, runtime, connection: None, losses: 0, used: false, down: None };
        worker.connect().map_err(|error| (StartStep::Connect, error))?;
        Ok(worker)
    }

    /// Opens the connection if there is none.
    fn connect(&mut self) -> Result<(), BoxError> {
        if self.connection.is_some() {
            return Ok(());
        }
        if let Some(down) = &self.down
            && Instant::now() < down.until
        {
            return Err(down.why.clone().into());
        }
        let source = &self.core.source;
        let limit = DB::connect_timeout(source);
        let halted = &self.core.halted;
        let connected = self.runtime.block_on(halted.run_until_cancelled(async {
            let connecting = tokio::time::timeout(limit, DB::connect(source));
            let connected = connecting.await;
            let mut connection =
                connected.unwrap_or_else(|_| Err(format!("no answer within {limit:?}").into()))?;
            let guard = DB::guard(&mut connection).await?;
            Ok::<_, BoxError>((connection, guard))
        }));
        match connected.unwrap_or_else(|| Err("the pool is stopping".into())) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.down = None;
                Ok(())
            }
            Err(error) => {
                let pause = self.down.take().map_or(RETRY_FIRST, |down| (2 * down.pause).min(RETRY_LAST));
                // With jitter, or the workers of all servers would come back at the same moment.
                let until = Instant::now() + pause / 2 + pause.mul_f64(0.5 * jitter());
                self.down = Some(Down { until, pause, why: error.to_string() });
                Err(error)
            }
        }
    }

    /// Lends the connection to `using` on this worker's runtime, with what its statements are stopped by. Unless it says that the connection is
    /// clean again, the connection is dropped, and rebuilt before the worker's next job.
    ///
    /// # Errors
    /// When there is no connection and none can be opened.
    pub(crate) fn with_connection<T>(
        &mut self,
        using: impl FnOnce(&Runtime, &mut DB::Connection, &Guard) -> (T, Condition),
    ) -> Result<T, BoxError> {
        self.used = true;
        self.look_after_losses();
        self.connect()?;
        let Some((mut connection, guard)) = self.connection.take() else {
            return Err("no connection".into());
        };
        let (result, condition) = using(&self.runtime, &mut connection, &guard);
        let keep = match condition {
            Condition::Clean => true,
            Condition::Dirty => false,
            Condition::Interrupted { in_transaction } => self.clean(&mut connection, &guard, in_transaction),
            Condition::Abandoned => {
                self.clean(&mut connection, &guard, false);
                false
            }
        };
        if keep {
            self.connection = Some((connection, guard));
        } else {
            // Entered, because drivers hand their sockets back to the runtime.
            let _runtime = self.runtime.enter();
            drop(connection);
        }
        Ok(result)
    }

    /// Cancels what may still run on the connection; whether it is as good as new then.
    fn clean(&self, connection: &mut DB::Connection, guard: &Guard, in_transaction: bool) -> bool {
        if !DB::RESUMES {
            self.runtime.block_on(self.core.control.cancel(guard));
            return false;
        }
        let cleaning = self.core.control.clean(connection, guard, in_transaction);
        let cleaned = self.runtime.block_on(async { tokio::time::timeout(CLEAN_WITHIN, cleaning).await });
        matches!(cleaned, Ok(Ok(())))
    }

    /// Gives up the connection if one was lost elsewhere since the last use, and this one does not answer.
    fn look_after_losses(&mut self) {
        let losses = self.core.losses.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.losses, losses) == losses {
            return;
        }
        if let Some((connection, _)) = &mut self.connection {
            let answers = self
                .runtime
                .block_on(async { tokio::time::timeout(ANSWER_WITHIN, DB::drain(connection)).await });
            if !matches!(answers, Ok(Ok(()))) {
                let _runtime = self.runtime.enter();
                self.connection = None;
            }
        }
    }

    /// Counts a run that a shutdown cut short.
    pub(crate) fn cut(&self) {
        self.core.cut.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a shutdown's deadline has passed.
    pub(crate) fn is_halted(&self) -> bool {
        self.core.is_halted()
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
                    survive(&core.name, || job.help(&core));
                }
                Next::Run(run) => {
                    core.running.fetch_add(1, Ordering::Relaxed);
                    survive(&core.name, || {
                        run.run(&mut self);
                        drop(run);
                    });
                    core.running.fetch_sub(1, Ordering::Relaxed);
                    self.mend();
                }
                Next::Exit => break,
            }
        }
        if let Some((connection, _)) = self.connection.take() {
            let closing = DB::close(connection);
            // One that hangs is closed by the end of the runtime all the same.
            let _closed = self.runtime.block_on(async { tokio::time::timeout(CLOSE_WITHIN, closing).await });
        }
    }

    /// Rebuilds a connection that was dropped. Should that fail, the next use tries again and reports.
    fn mend(&mut self) {
        if !std::mem::take(&mut self.used) {
            return;
        }
        if let Err(error) = self.connect() {
            tracing::warn!(worker = self.index, %error, "a worker's connection could not be rebuilt");
        }
    }
}

/// Runs work whose own panics are caught where they happen. What can still unwind is the user's drop
/// code, of results nobody waits for; it must not cost the pool a worker.
fn survive(pool: &str, run: impl FnOnce()) {
    let outcome = guarded(|| {
        run();
        Ok::<(), Infallible>(())
    });
    if let Err(Failure::Panicked(message)) = outcome {
        tracing::error!(pool, message, "dropping a result panicked");
    }
}

/// In what state a connection comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Its last statement ended.
    Clean,
    /// In a state that is not known: user code failed or unwound, or the connection is lost.
    Dirty,
    /// User code was dropped where it waited: a statement of its may still be under way, and the rest is
    /// not known.
    Abandoned,
    /// A statement of this library's own may still be under way, perhaps in a transaction.
    #[cfg_attr(
        not(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only lists need it")
    )]
    Interrupted { in_transaction: bool },
}

/// A number from 0 to 1 that differs from call to call.
fn jitter() -> f64 {
    crate::db::random() as f64 / u64::MAX as f64
}
