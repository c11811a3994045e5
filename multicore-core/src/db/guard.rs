//! How a running statement is stopped, and a connection made clean again after it. A future that is
//! dropped does not stop a statement: the database goes on, and whoever uses the connection next waits
//! for it.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard as StdMutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;

use super::Database;
use crate::error::BoxError;

/// What a statement, or the connection it runs on, is known by to whoever wants to stop it.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub enum Guard {
    /// By nothing: it ends soon by itself.
    #[default]
    None,
    /// By an advisory lock that it holds while it runs (PostgreSQL). Costs no round trip, and cannot be
    /// mistaken for a later statement.
    Lock(i64),
    /// By the number of its connection's backend.
    Backend(i64),
    /// By a flag that it looks at (SQLite).
    Flag(Arc<AtomicBool>),
}

impl Guard {
    /// The number of the lock that the statement is to hold.
    #[cfg_attr(
        not(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only lists need it")
    )]
    pub(crate) fn tag(&self) -> Option<i64> {
        if let Guard::Lock(number) = self { Some(*number) } else { None }
    }

    /// A lock that nobody else takes: numbers from a random start, so that neither another server nor the
    /// application's own advisory locks meet them.
    #[cfg_attr(
        not(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only lists need it")
    )]
    pub(crate) fn lock() -> Self {
        static NEXT: OnceLock<AtomicU64> = OnceLock::new();
        let next = NEXT.get_or_init(|| AtomicU64::new(random()));
        Guard::Lock(next.fetch_add(1, Ordering::Relaxed).cast_signed())
    }
}

/// A number that differs from process to process.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// After how long a statement that goes on is cancelled again, doubling from the first to the last: a cancel
/// that comes before the statement has begun is lost.
const CANCEL_AGAIN_FIRST: Duration = Duration::from_millis(1);
const CANCEL_AGAIN_LAST: Duration = Duration::from_millis(4);

/// How long the control connection may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What the control connection is asked.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub enum Ask {
    /// To cancel what is guarded, if it runs. The answer is how many it cancelled, where that is known.
    Cancel(Vec<Guard>),
    /// A number that changes whenever another connection has written to the database (SQLite).
    DataVersion,
    /// To hold the advisory lock of this number from now on, and no other; 1 if it does (PostgreSQL).
    Hold(i64),
    /// How many connections the server takes from applications; negative where it has no such limit.
    ServerLimit,
}

/// The pool's connection for what cannot be done on the connection it is about: cancelling, and telling
/// whether somebody wrote to an SQLite file. It lives on the runtime that started the pool, whoever
/// asks.
pub(crate) struct Control<DB: Database> {
    inner: Arc<Inner<DB>>,
    home: Option<Handle>,
}

struct Inner<DB: Database> {
    source: DB::Pool,
    connection: Mutex<Option<DB::Connection>>,
    /// What waits to be cancelled: whoever gets the connection next cancels it all, so that a thousand
    /// clients that leave at once do not stand in line.
    waiting: StdMutex<Vec<Guard>>,
    /// How many connections there were: versions of two of them say nothing about each other.
    opened: AtomicU64,
}

impl<DB: Database> Control<DB> {
    pub(crate) fn new(source: DB::Pool, home: Option<Handle>) -> Self {
        Control {
            inner: Arc::new(Inner {
                source,
                connection: Mutex::new(None),
                waiting: StdMutex::default(),
                opened: AtomicU64::new(0),
            }),
            home,
        }
    }

    /// The runtime that started the pool.
    pub(crate) fn home(&self) -> Option<&Handle> {
        self.home.as_ref()
    }

    /// Opens the connection now rather than when it is first needed.
    pub(crate) async fn open(&self) -> Result<(), BoxError> {
        let mut connection = self.inner.connection.lock().await;
        *connection = Some(self.inner.connect().await?);
        Ok(())
    }

    /// Closes the connection; the next use opens another.
    pub(crate) async fn close(&self) {
        let connection = self.inner.connection.lock().await.take();
        if let Some(connection) = connection {
            DB::close(connection).await;
        }
    }

    /// Asks, on the runtime where the connection lives. Done to its end even if the caller is dropped.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<i64, BoxError> {
        let home = self.home.as_ref().ok_or("the pool was not started on a Tokio runtime")?;
        let inner = Arc::clone(&self.inner);
        home.spawn(async move { inner.ask(&ask).await }).await?
    }

    /// Makes a connection clean on which a statement may still run: cancels it, reads what is left, and
    /// ends a transaction if there may be one. Nobody may use the connection before this has returned,
    /// so a cancel that comes late meets nothing.
    ///
    /// # Errors
    /// When the connection is lost. It must be closed then.
    pub(crate) async fn clean(
        &self,
        connection: &mut DB::Connection,
        guard: &Guard,
        in_transaction: bool,
    ) -> Result<(), BoxError> {
        match guard {
            Guard::None => DB::drain(connection).await?,
            Guard::Flag(flag) => {
                flag.store(true, Ordering::Relaxed);
                let drained = DB::drain(connection).await;
                flag.store(false, Ordering::Relaxed);
                drained?;
            }
            Guard::Lock(_) | Guard::Backend(_) => {
                let stopping = self.stop(guard.clone());
                stopping.begun().await;
                let drained = DB::drain(connection).await;
                stopping.end().await;
                drained?;
                // A cancel that came after the statement's end is taken up, and lost, by this round trip.
                DB::drain(connection).await?;
            }
        }
        if in_transaction {
            DB::rollback(connection).await?;
        }
        Ok(())
    }

    /// Cancels what is guarded, once.
    pub(crate) async fn cancel(&self, guard: &Guard) {
        if let (Guard::Lock(_) | Guard::Backend(_), Some(home)) = (guard, &self.home) {
            let (inner, guard) = (Arc::clone(&self.inner), guard.clone());
            let cancelled = home.spawn(async move { inner.cancel(guard).await }).await;
            if let Ok(Err(error)) = cancelled {
                tracing::warn!(%error, "a statement could not be cancelled");
            }
        }
    }

    /// Cancels what is guarded, and again until told that it has ended. On a task of its own: a driver
    /// that reads a flood of rows does not let others run beside it. On that runtime the first cancel is sent before this
    /// returns, if the control connection is there and nobody else has it: a task waits for its turn on a machine
    /// that is busy, perhaps with the very statement.
    fn stop(&self, guard: Guard) -> Stopping {
        let state = Arc::new(StopState::default());
        let shared = Arc::clone(&state);
        let inner = Arc::clone(&self.inner);
        let Some(home) = &self.home else {
            state.begun.notify_one();
            return Stopping { state, task: None };
        };
        let mut cancelling = Box::pin(async move {
            let mut pause = CANCEL_AGAIN_FIRST;
            while !shared.ended.load(Ordering::Relaxed) {
                let cancelled = inner.cancel(guard.clone()).await;
                shared.begun.notify_one();
                if let Err(error) = cancelled {
                    tracing::warn!(%error, "a statement could not be cancelled; it is waited for");
                    return;
                }
                let _again = tokio::time::timeout(pause, shared.end.notified()).await;
                pause = (2 * pause).min(CANCEL_AGAIN_LAST);
            }
            shared.begun.notify_one();
        });
        // Elsewhere it may have ended, and then must not be asked.
        let at_home = Handle::try_current().is_ok_and(|here| here.id() == home.id());
        let sent = at_home && {
            let first = pin!(tokio::task::unconstrained(cancelling.as_mut()));
            first.poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        let task = (!sent).then(|| home.spawn(cancelling));
        Stopping { state, task }
    }
}

/// A statement being cancelled until it has ended.
struct Stopping {
    state: Arc<StopState>,
    task: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct StopState {
    ended: AtomicBool,
    /// The first cancel was sent.
    begun: Notify,
    end: Notify,
}

impl Stopping {
    async fn begun(&self) {
        self.state.begun.notified().await;
    }

    /// The statement has ended; returns when no cancel is on its way any more.
    async fn end(mut self) {
        self.state.stop();
        if let Some(task) = self.task.take() {
            // It does not panic; were its runtime gone, so would be its cancels.
            let _ended = task.await;
        }
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        // Also when the connection was given up before its statement ended.
        self.state.stop();
    }
}

impl StopState {
    fn stop(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.end.notify_one();
    }
}

impl<DB: Database> Inner<DB> {
    async fn connect(&self) -> Result<DB::Connection, BoxError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let limit = DB::connect_timeout(&self.source);
        let connecting = tokio::time::timeout(limit, DB::connect(&self.source));
        connecting.await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}").into()))
    }

    fn waiting(&self) -> StdMutexGuard<'_, Vec<Guard>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels what is guarded, with all that waits to be cancelled.
    async fn cancel(&self, guard: Guard) -> Result<(), BoxError> {
        self.waiting().push(guard);
        let mut slot = self.connection.lock().await;
        let all = mem::take(&mut *self.waiting());
        // None: whoever had the connection has done it.
        if !all.is_empty() {
            self.ask_on(&mut slot, &Ask::Cancel(all)).await?;
        }
        Ok(())
    }

    async fn ask(&self, ask: &Ask) -> Result<i64, BoxError> {
        self.ask_on(&mut *self.connection.lock().await, ask).await
    }

    /// The answer on a connection that may hang; it is not used again then.
    async fn answer(connection: &mut DB::Connection, ask: &Ask) -> Result<i64, BoxError> {
        let answer = tokio::time::timeout(ANSWER_WITHIN, DB::ask(connection, ask)).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_WITHIN:?}").into()))
    }

    async fn ask_on(&self, slot: &mut Option<DB::Connection>, ask: &Ask) -> Result<i64, BoxError> {
        let kept = slot.take();
        let used_before = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut answer = Self::answer(&mut connection, ask).await;
        // Another connection counts versions anew.
        if answer.is_err() && used_before && !matches!(ask, Ask::DataVersion) {
            // It may have been lost since it was last used.
            connection = self.connect().await?;
            answer = Self::answer(&mut connection, ask).await;
        }
        if answer.is_ok() {
            *slot = Some(connection);
        }
        match ask {
            // Nobody writes so often that the two parts meet.
            Ask::DataVersion => {
                answer.map(|version| version + (self.opened.load(Ordering::Relaxed) << 40).cast_signed())
            }
            Ask::Cancel(_) | Ask::Hold(_) | Ask::ServerLimit => answer,
        }
    }
}
