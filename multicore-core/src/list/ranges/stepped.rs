//! Ranges whose statements are stepped where their rows are used: each reader takes its connection in hand once,
//! for its snapshot and its ranges, and asks the driver for nothing.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::pieces::{Part, Piece};
use super::shared::{Progress, Ranges};
use super::{Got, Ranged, Reader, Snapshot};
use crate::db::{Next, Reading, SqlDatabase, Stepping as _};
use crate::job::owner::{Owner, Wish};
use crate::job::{Failure, guarded};
use crate::list::ListError;
use crate::list::cursor::KeyValue;
use crate::list::lease::Lease;
use crate::list::query::{self, Consistency};
use crate::list::render::Rendering;
use crate::list::rows::{Rows, Seen};
use crate::list::strategy::{self, Stepwise};
use crate::mode::Execution;

impl<DB, W> Ranged<'_, DB, W>
where
    DB: SqlDatabase,
    W: Rendering<Item = DB::Item>,
{
    /// Reads the page with statements that are stepped where their rows are used.
    pub(super) async fn stepped(
        &self,
        lease: &mut Lease<DB>,
        hands: usize,
    ) -> Result<Option<Got>, ListError> {
        let core = self.core;
        // The owner may get the last range.
        let last = self.read.skip.unwrap_or(0).saturating_add(self.length);
        let stepwise = strategy::stepwise(self.shape.facts.prompt, last, core.can_move());
        let snapshot = if self.request.consistency == Consistency::PerRange {
            Snapshot::PerRange
        } else {
            if let Err(error) = DB::watch(&core.sentinel, &core.source).await {
                tracing::warn!(%error, "nobody tells whether others wrote; the page is one statement");
                return Ok(None);
            }
            match DB::version(&core.sentinel) {
                Some(version) => Snapshot::Version(version),
                None => return Ok(None),
            }
        };
        let Some(mut hand) = lease.hand(false).await? else { return Ok(None) };
        if let Some(thousands) = stepwise.limit {
            hand.limit_steps(thousands);
        }
        if snapshot != Snapshot::PerRange
            && let Err(error) = hand.keep_snapshot()
        {
            tracing::debug!(%error, "there is no snapshot to share; the page is one statement");
            return Ok(None);
        }
        Ok(self.once(Reader::Here(&mut hand, stepwise), hands, snapshot).await?.ok())
    }

    /// Reads a range as the owner, stepping its statement.
    pub(super) async fn own_part_here(
        &self,
        job: &Ranges<DB, W>,
        hand: &mut DB::Hand<'_>,
        stepwise: Stepwise,
        part: Part,
    ) -> Result<Piece, Failure<ListError>> {
        let (sql, values) = job.planned(part)?;
        prepare::<DB>(hand, &sql, &values)?;
        if stepwise.in_place {
            tokio::task::block_in_place(|| hand.step_ahead());
        }
        let wish = Wish { execution: Execution::Sequential, quiet: true, ..Wish::default() };
        let expected = usize::try_from(part.rows).unwrap_or(usize::MAX);
        let mut owner = Owner::new(self.core, Arc::clone(self.work), self.model, wish, expected);
        owner.pace(Reading::READY);
        let mut rows = Rows::<DB>::stepped(hand, job.look(part));
        let fed = owner.feed(Pin::new(&mut rows)).await;
        let seen = mem::take(&mut rows.seen);
        let finished = owner.finish().await?;
        fed.map_err(Failure::Error)?;
        if seen.stalled {
            self.shape.stall();
            return Err(Failure::Error(stalled()));
        }
        Ok(Piece::new(part, finished.outs, seen))
    }
}

impl<DB, W> Ranges<DB, W>
where
    DB: SqlDatabase,
    W: Rendering<Item = DB::Item>,
{
    /// A range's statement, to be stepped here.
    fn planned(&self, part: Part) -> Result<(String, Vec<KeyValue>), Failure<ListError>> {
        let planned = self.plan(part, None);
        let filters = self.values.as_deref().unwrap_or_default();
        let values = query::values(filters, &planned, &self.cursor).map_err(Failure::Error)?;
        Ok((planned.sql, values))
    }

    /// Takes ranges as a worker that steps their statements, until none waits.
    pub(super) async fn help_here(
        &self,
        connection: &mut <DB as sqlx::Database>::Connection,
        at: &mut Progress,
    ) {
        let Ok(Some(mut hand)) = DB::hand(connection).await else { return };
        if let Snapshot::Version(version) = &self.snapshot
            && (hand.keep_snapshot().is_err() || DB::version(&self.core.sentinel) != Some(*version))
        {
            return;
        }
        let mut counted = false;
        while let Some(mut claim) = self.chunks.claim(1) {
            let Some(part) = claim.take().pop() else { break };
            if !mem::replace(&mut counted, true) {
                self.helpers.fetch_add(1, Ordering::Relaxed);
            }
            match self.read_part_here(&mut hand, part) {
                Ok(piece) => claim.finish(Ok(piece)),
                Err(failure) => {
                    at.lost = matches!(&failure, Failure::Error(error) if error.is_lost::<DB>());
                    claim.finish(Err(Failure::Error(())));
                    break;
                }
            }
        }
    }

    /// Reads a range, decoding each row where it is stepped, into the same memory.
    fn read_part_here(&self, hand: &mut DB::Hand<'_>, part: Part) -> Result<Piece, Failure<ListError>> {
        let (sql, values) = self.planned(part)?;
        prepare::<DB>(hand, &sql, &values)?;
        let look = self.look(part);
        let mut seen = Seen::default();
        let mut outs = Vec::new();
        let expected = usize::try_from(part.rows).unwrap_or(usize::MAX);
        let mut out = guarded(|| Ok(self.work.begin(expected)))?;
        let mut row = None;
        loop {
            match hand.next_into(&mut row) {
                Ok(Next::Row(())) if self.stops.is_stopped() => return Err(Failure::Error(stalled())),
                Ok(Next::Row(())) if seen.rows < look.rows => {
                    let Some(row) = &row else { continue };
                    seen.see::<DB>(&look, row).map_err(Failure::Error)?;
                    guarded(|| self.work.add_row(row, &mut out))?;
                    if self.work.is_full(&out) {
                        let left = usize::try_from(part.rows - seen.rows).unwrap_or(usize::MAX);
                        outs.push(mem::replace(&mut out, guarded(|| Ok(self.work.begin(left)))?));
                    }
                }
                Ok(Next::Row(())) => seen.more = true,
                Ok(Next::End) => break,
                Ok(Next::Stalled) => return Err(Failure::Error(stalled())),
                Err(error) => return Err(Failure::Error(seen.fail::<DB>(&look, error))),
            }
        }
        outs.push(out);
        seen.ended = true;
        Ok(Piece::new(part, outs, seen))
    }
}

/// Prepares a range's statement to be stepped here.
fn prepare<DB: SqlDatabase>(
    hand: &mut DB::Hand<'_>,
    sql: &str,
    values: &[KeyValue],
) -> Result<(), Failure<ListError>> {
    match hand.prepare(sql, values) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::Error(ListError::Statement("it cannot be stepped here".into()))),
        Err(error) => Err(Failure::Error(error.into())),
    }
}

/// A range that cannot be read on: the page is one statement then, whose answer counts.
fn stalled() -> ListError {
    ListError::Statement("its step takes long".into())
}
