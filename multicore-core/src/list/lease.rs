//! A connection of the application's pool on loan, with what is needed to give it back clean: a
//! statement that may still run when the list ends early is cancelled first, and the connection waits
//! for that before anyone else gets it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::runtime::Handle;

use super::ListError;
use super::shape::Shape;
use crate::core::Core;
use crate::db::{Dialect, Exported, Guard, PlanKind, SqlDatabase};
use crate::error::BoxError;

/// How long making a connection clean may take; one that is not clean by then is closed.
const CLEAN_WITHIN: Duration = Duration::from_secs(5);

/// A connection on loan.
pub(super) struct Lease<DB: SqlDatabase> {
    core: Arc<Core<DB>>,
    /// None once it was given back.
    connection: Option<DB::Lease>,
    guard: Guard,
    /// Whether a statement may be under way.
    busy: bool,
    /// Whether rows of it have come.
    flowing: Arc<AtomicBool>,
    in_transaction: bool,
    /// Whether the transaction is there for its snapshot alone, so that it may end either way, and later.
    for_snapshot: bool,
}

impl<DB: SqlDatabase> Lease<DB> {
    /// Takes a connection out of the application's pool.
    pub(super) async fn acquire(core: &Arc<Core<DB>>) -> Result<Self, ListError> {
        let connection = DB::acquire(&core.source).await.map_err(no_connection)?;
        Ok(Lease {
            core: Arc::clone(core),
            connection: Some(connection),
            guard: Guard::None,
            busy: false,
            flowing: Arc::default(),
            in_transaction: false,
            for_snapshot: false,
        })
    }

    /// The connection, for statements that end soon. Say `ended` when they have.
    pub(super) fn connection(&mut self) -> &mut <DB as sqlx::Database>::Connection {
        self.begin(Guard::None)
    }

    /// The connection, for a statement that `guard` stops. Say `ended` when it has come to its end.
    pub(super) fn begin(&mut self, guard: Guard) -> &mut <DB as sqlx::Database>::Connection {
        self.guard = guard;
        self.busy = true;
        self.connection.as_mut().expect("nobody asks for a connection that was given back")
    }

    /// What its pool shares.
    pub(super) fn core(&self) -> &Core<DB> {
        &self.core
    }

    /// The hand on the connection, for statements that are stepped here; none where only the driver steps.
    /// They end with the hand. `in_transaction` says that it will begin one, which counts from now on.
    pub(super) async fn hand(&mut self, in_transaction: bool) -> Result<Option<DB::Hand<'_>>, ListError> {
        self.in_transaction |= in_transaction;
        let connection = self.connection.as_mut().expect("nobody asks for a connection that was given back");
        Ok(DB::hand(connection).await?)
    }

    /// The transaction has ended, or was never begun.
    pub(super) fn left_transaction(&mut self) {
        self.in_transaction = false;
        self.for_snapshot = false;
    }

    /// Is set once rows of the statement have come.
    pub(super) fn flowing(&self) -> Arc<AtomicBool> {
        self.flowing.store(false, Ordering::Relaxed);
        Arc::clone(&self.flowing)
    }

    /// Whether the connection is there and nothing is under way on it.
    pub(super) fn is_between_statements(&self) -> bool {
        self.connection.is_some() && !self.busy && !self.in_transaction
    }

    /// The statement has come to its end.
    pub(super) fn ended(&mut self) {
        self.busy = false;
    }

    /// A page or a query was refused between statements: there is nothing to clean up then, so that a mistake
    /// costs the connection nothing.
    pub(super) fn refused(&mut self, error: ListError) -> ListError {
        if !error.is_lost::<DB>() {
            self.ended();
        }
        error
    }

    /// Begins a transaction with `statement`.
    pub(super) async fn begin_transaction(&mut self, statement: &str) -> Result<(), ListError> {
        self.in_transaction = true;
        DB::run(self.begin(Guard::None), statement.to_owned()).await?;
        self.ended();
        Ok(())
    }

    /// Begins a transaction that holds a snapshot, and gives what others join it by, with the session if that is to
    /// be told.
    pub(super) async fn begin_snapshot(&mut self, told: bool) -> Result<Option<Exported>, ListError> {
        self.in_transaction = true;
        self.for_snapshot = true;
        let exported = DB::export_snapshot(self.begin(Guard::None), told).await?;
        self.ended();
        Ok(exported)
    }

    /// Ends a transaction that may have failed.
    pub(super) async fn roll_back(&mut self) -> Result<(), ListError> {
        DB::rollback(self.connection()).await.map_err(ListError::Database)?;
        self.ended();
        self.left_transaction();
        Ok(())
    }

    /// Ends the transaction, if there is one.
    pub(super) async fn end_transaction(&mut self) -> Result<(), ListError> {
        if self.in_transaction {
            DB::run(self.begin(Guard::None), "COMMIT".to_owned()).await?;
            self.ended();
            self.left_transaction();
        }
        Ok(())
    }

    /// An error if the database has cancelled the transaction meanwhile, which `COMMIT` alone does not say. Ends it unless
    /// it is to be `kept`.
    pub(super) async fn check_transaction(&mut self, kept: bool) -> Result<(), ListError> {
        let sql = if kept { "SELECT 1" } else { "SELECT 1; COMMIT" };
        let checked = DB::run(self.begin(Guard::None), sql.to_owned()).await;
        checked.map_err(|error| self.refused(error.into()))?;
        self.ended();
        if !kept {
            self.left_transaction();
        }
        Ok(())
    }

    /// Gives the connection back, its transaction ended. The end of one that only held a snapshot is sent and
    /// not waited for; the connection is, before the pool has it.
    pub(super) async fn give_back(&mut self) -> Result<(), ListError> {
        if !self.for_snapshot {
            self.end_transaction().await?;
        }
        self.release();
        Ok(())
    }

    /// Ends the loan: a connection that was lost is closed, and the workers look after theirs, which may
    /// have been lost with it.
    pub(super) fn settle<T>(mut self, result: Result<T, ListError>) -> Result<T, ListError> {
        if let Err(error) = &result
            && error.is_lost::<DB>()
            && let Some(connection) = self.connection.take()
        {
            self.core.suspect();
            DB::discard(connection);
        }
        result
    }

    /// How the statement that comes next can be stopped. `soon` says that it ends soon by itself, where
    /// knowing how would cost a round trip.
    pub(super) async fn guard(
        &mut self,
        shape: &Shape,
        plan: PlanKind,
        soon: bool,
    ) -> Result<Guard, ListError> {
        if DB::DIALECT == Dialect::Postgres && plan != PlanKind::Parallel && shape.facts.splits.is_ok() {
            // For a parallel plan the lock would stand in the way; and it asks for a `WHERE` of its own.
            return Ok(Guard::lock());
        }
        if DB::DIALECT != Dialect::Postgres && soon {
            return Ok(Guard::None);
        }
        DB::guard(self.connection()).await.map_err(ListError::Database)
    }
}

impl<DB: SqlDatabase> Drop for Lease<DB> {
    fn drop(&mut self) {
        self.release();
    }
}

impl<DB: SqlDatabase> Lease<DB> {
    /// Gives the connection back, once it is clean. There is none from now on.
    pub(super) fn release(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if !self.busy && !self.in_transaction {
            return;
        }
        let Some(home) = self.core.control.home() else { return DB::discard(connection) };
        let (core, guard) = (Arc::clone(&self.core), self.guard.clone());
        let (busy, in_transaction) = (self.busy, self.in_transaction);
        let resumes = DB::RESUMES || !busy || !self.flowing.load(Ordering::Relaxed);
        let mut connection = Unclean::<DB>(Some(connection));
        let mut cleaning = Box::pin(async move {
            let Some(unclean) = connection.0.as_deref_mut() else { return };
            if !resumes {
                // The driver has lost its place among the rows; only the statement is stopped.
                return core.control.cancel(&guard).await;
            }
            let cleaned = async {
                if busy {
                    core.control.clean(unclean, &guard, in_transaction).await
                } else {
                    // Between statements there is nothing to stop.
                    DB::rollback(unclean).await
                }
            };
            let cleaned = tokio::time::timeout(CLEAN_WITHIN, cleaned).await;
            let cleaned: Result<(), BoxError> =
                cleaned.unwrap_or_else(|_| Err(format!("not clean after {CLEAN_WITHIN:?}").into()));
            match cleaned {
                Ok(()) => drop(connection.0.take()),
                Err(error) => tracing::warn!(%error, "a connection whose list ended early is closed"),
            }
        });
        // A cancel is sent, and a transaction that nothing runs in ends, now, whatever this thread does next. Reading
        // what a statement still gives may take long.
        let at_once = !busy || resumes && matches!(self.guard, Guard::Lock(_) | Guard::Backend(_));
        // A runtime that has ended may not even be asked; where this is it, it has not.
        let at_once = at_once && Handle::try_current().is_ok_and(|here| here.id() == home.id());
        let _runtime = home.enter();
        if !at_once || cleaning.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            home.spawn(cleaning);
        }
    }
}

/// A connection that is closed unless it was taken out because it is clean.
struct Unclean<DB: SqlDatabase>(Option<DB::Lease>);

impl<DB: SqlDatabase> Drop for Unclean<DB> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            DB::discard(connection);
        }
    }
}

/// Why the pool gave no connection.
fn no_connection(error: BoxError) -> ListError {
    match error.downcast::<sqlx::Error>() {
        Ok(error) => ListError::from(*error),
        Err(error) => ListError::Database(error),
    }
}
