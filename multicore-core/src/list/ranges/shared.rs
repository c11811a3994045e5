//! What the owner of a page in ranges and its workers share, and the workers' side of it: they come to the
//! page's snapshot and take ranges until none waits.

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;

use super::Snapshot;
use super::pieces::{Part, Piece};
use crate::core::Core;
use crate::db::{Ask, Exported, SqlDatabase};
use crate::job::chunks::Chunks;
use crate::job::{Failure, Work, guarded};
use crate::list::ListError;
use crate::list::cursor::KeyValue;
use crate::list::plan::{self, Parts, Planned, Read};
use crate::list::query::{self, Statement};
use crate::list::render::Rendering;
use crate::list::rows::{Look, Rows};
use crate::list::stops::Stops;
use crate::worker::{Condition, Run, Worker};

/// How long a worker waits for the owner's snapshot, before it does something else.
const EXPORTED_WITHIN: Duration = Duration::from_millis(20);

/// What owner and workers share.
pub(super) struct Ranges<DB: SqlDatabase, W: Work> {
    pub(super) chunks: Chunks<Part, Piece, Failure<()>>,
    pub(super) core: Arc<Core<DB>>,
    pub(super) parts: Parts,
    pub(super) arguments: <DB as sqlx::Database>::Arguments,
    pub(super) cursor: Vec<KeyValue>,
    pub(super) read: Read,
    pub(super) work: Arc<W>,
    pub(super) snapshot: Snapshot,
    /// What the owner exported, if it does.
    pub(super) exported: SetOnce<Exported>,
    /// The filters' values, if the readers step their statements.
    pub(super) values: Option<Vec<KeyValue>>,
    /// Stops those that do.
    pub(super) stops: Stops,
    pub(super) cancel: CancellationToken,
    /// Workers that took a range.
    pub(super) helpers: AtomicUsize,
}

/// Stops the readers when the owner goes before they have finished.
pub(super) struct Published<'j, DB: SqlDatabase, W: Work> {
    pub(super) job: &'j Ranges<DB, W>,
    /// Nobody reads any more; a worker may still be ending its transaction.
    pub(super) finished: bool,
}

impl<DB: SqlDatabase, W: Work> Drop for Published<'_, DB, W> {
    fn drop(&mut self) {
        self.job.chunks.close();
        if !self.finished {
            self.job.cancel.cancel();
            self.job.stops.stop();
        }
    }
}

/// What a worker's connection is in the middle of.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) busy: bool,
    pub(super) in_transaction: bool,
    pub(super) lost: bool,
}

impl<DB, W> Ranges<DB, W>
where
    DB: SqlDatabase,
    W: Rendering<Item = DB::Item>,
{
    pub(super) fn plan(&self, part: Part, tag: Option<i64>) -> Planned {
        let read = Read {
            skip: Some(part.skip),
            rows: Some(part.rows + part.ahead),
            locate: true,
            tag,
            ..self.read.clone()
        };
        plan::statement(&self.parts, &read)
    }

    pub(super) fn statement(
        &self,
        part: Part,
        tag: Option<i64>,
    ) -> Result<Statement<DB>, Failure<ListError>> {
        query::bind::<DB>(&self.arguments, self.plan(part, tag), &self.cursor).map_err(Failure::Error)
    }

    pub(super) fn look(&self, part: Part) -> Look {
        Look {
            rows: part.rows,
            keys: if self.read.keys { self.parts.keys.len() } else { 0 },
            spares_keys: false,
            snapshot: self.read.snapshot,
            filtered: self.parts.bound > 0,
        }
    }

    /// Takes ranges as a worker until none waits.
    async fn help(&self, connection: &mut <DB as sqlx::Database>::Connection, at: &mut Progress) {
        if self.values.is_some() {
            return self.help_here(connection, at).await;
        }
        if !self.join(connection, at).await {
            if at.in_transaction && DB::run(connection, "ROLLBACK".to_owned()).await.is_ok() {
                at.in_transaction = false;
            }
            return;
        }
        let mut counted = false;
        while let Some(mut claim) = self.chunks.claim(1) {
            let Some(part) = claim.take().pop() else { return };
            if !mem::replace(&mut counted, true) {
                self.helpers.fetch_add(1, Ordering::Relaxed);
            }
            match self.read_part(connection, at, part).await {
                Ok(piece) => claim.finish(Ok(piece)),
                Err(failure) => {
                    at.lost = matches!(&failure, Failure::Error(error) if error.is_lost::<DB>());
                    claim.finish(Err(Failure::Error(())));
                    return;
                }
            }
        }
        if at.in_transaction && DB::run(connection, "COMMIT".to_owned()).await.is_ok() {
            at.in_transaction = false;
        }
    }

    /// Comes to the page's snapshot; false if that cannot be.
    async fn join(&self, connection: &mut <DB as sqlx::Database>::Connection, at: &mut Progress) -> bool {
        match &self.snapshot {
            Snapshot::PerRange | Snapshot::Expected(_) | Snapshot::Column => true,
            Snapshot::Exported(_) => {
                at.in_transaction = true;
                let joined = async {
                    // While the owner exports.
                    DB::begin_join(connection).await?;
                    let exported = tokio::time::timeout(EXPORTED_WITHIN, self.exported.wait()).await;
                    let Ok(exported) = exported else { return Ok(false) };
                    Ok(self.chunks.waiting() > 0 && DB::join_snapshot(connection, exported).await?)
                };
                // Refused where this is another server, another session, or the exporter is gone.
                joined.await.unwrap_or_else(|error: sqlx::Error| {
                    tracing::debug!(%error, "a worker could not join a snapshot");
                    false
                })
            }
            Snapshot::Version(version) => {
                at.in_transaction = true;
                DB::export_snapshot(connection, false).await.is_ok()
                    && self.core.control.ask(Ask::DataVersion).await.is_ok_and(|now| now == *version)
            }
        }
    }

    async fn read_part(
        &self,
        connection: &mut <DB as sqlx::Database>::Connection,
        at: &mut Progress,
        part: Part,
    ) -> Result<Piece, Failure<ListError>> {
        let Statement { sql, arguments } = self.statement(part, None)?;
        at.busy = true;
        let mut rows = Rows::<DB>::new(DB::rows(connection, sql, arguments, true), self.look(part));
        let mut outs = Vec::new();
        let expected = usize::try_from(part.rows).unwrap_or(usize::MAX);
        let mut out = guarded(|| Ok(self.work.begin(expected)))?;
        let mut done = 0;
        while let Some(row) = poll_fn(|context| Pin::new(&mut rows).poll_next(context)).await {
            let row = row.map_err(|error| {
                at.busy = !rows.seen.ended;
                Failure::Error(error)
            })?;
            guarded(|| self.work.add(row, &mut out))?;
            done += 1;
            if self.work.is_full(&out) {
                outs.push(mem::replace(&mut out, guarded(|| Ok(self.work.begin(expected - done)))?));
            }
        }
        outs.push(out);
        let seen = mem::take(&mut rows.seen);
        at.busy = !seen.ended;
        Ok(Piece::new(part, outs, seen))
    }
}

impl<DB, W> Run<DB> for Ranges<DB, W>
where
    DB: SqlDatabase,
    W: Rendering<Item = DB::Item>,
{
    fn run(&self, worker: &mut Worker<DB>) {
        let exporting = matches!(self.snapshot, Snapshot::Exported(_)) && !self.exported.initialized();
        if self.cancel.is_cancelled() || !exporting && self.chunks.waiting() == 0 {
            return;
        }
        let used = worker.with_connection(|runtime, connection, guard| {
            let mut at = Progress::default();
            {
                // A statement that is stepped here is stopped by its connection's flag, not by being dropped.
                let _stopped_with_others = self.stops.enter(guard);
                let helping = self.cancel.run_until_cancelled(self.help(connection, &mut at));
                let _cancelled = runtime.block_on(helping);
            }
            let condition = match at {
                Progress { lost: true, .. } => Condition::Dirty,
                Progress { busy: false, in_transaction: false, .. } => Condition::Clean,
                Progress { in_transaction, .. } => Condition::Interrupted { in_transaction },
            };
            ((), condition)
        });
        if let Err(error) = used {
            tracing::debug!(%error, "a worker has no connection; the page goes on without it");
        }
    }

    fn refuse(&self) {}

    fn is_wanted(&self) -> bool {
        // Its page does without.
        false
    }
}
