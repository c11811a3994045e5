//! A page read in ranges: owner and workers each take ranges and read them over their own connections,
//! on one snapshot. Ranges only ever answer a page that came out right; whatever else happens, the page is
//! read again by one statement, whose answer counts.
//!
//! How the readers come to one snapshot:
//!
//! - **PostgreSQL, while nobody writes**: every range's statement is told which snapshot the last pages saw,
//!   and gives no rows if it sees another. Asked once a statement, so some microseconds.
//! - **PostgreSQL, if it did see another**: every range's statement also selects what identifies the snapshot
//!   it saw. Equal everywhere, they saw the same rows; that costs a tenth of a microsecond a row.
//! - **PostgreSQL, if that had moved, and on a standby**, where equal snapshots do not mean equal rows: the
//!   owner exports its transaction's snapshot and the workers join it.
//! - **SQLite**: the owner notes a third connection's `data_version` and opens its read transaction. A
//!   worker opens one and looks again: the same number means that nobody wrote between the two, so both
//!   see the same. A worker that finds another number stays out; nobody waits for it.
//!
//! Where statements can be stepped on the thread that uses their rows (SQLite), each reader does: it takes its
//! connection in hand once, for the transaction and its ranges, and asks the driver for nothing.

use std::error::Error;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_core::Stream;
use tokio_util::sync::CancellationToken;

use super::ListError;
use super::cursor::KeyValue;
use super::lease::Lease;
use super::plan::{self, Parts, Planned, Read};
use super::query::{Consistency, Request, Statement};
use super::render::{Elements, Rendering};
use super::rows::{Look, Rows, Seen};
use super::shape::{Pays, Shape};
use super::stops::Stops;
use super::strategy::{self, Stepwise};
use crate::admission::cost::CostModel;
use crate::core::Core;
use crate::db::{Ask, Dialect, Guard, Next, Reading, SqlDatabase, Stepping as _};
use crate::job::chunks::Chunks;
use crate::job::owner::{Owner, Wish};
use crate::job::{Failure, Work, guarded};
use crate::mode::{Execution, Mode, Reason};
use crate::worker::{Condition, Run, Worker};

/// What a way of reading gave.
pub(super) struct Got {
    pub(super) outs: Vec<Elements>,
    pub(super) seen: Seen,
    pub(super) mode: Mode,
    /// Rows of the whole list, where that was asked for.
    pub(super) count: Option<u64>,
}

/// A page to be read in ranges.
pub(super) struct Ranged<'a, DB: SqlDatabase, W> {
    pub(super) core: &'a Arc<Core<DB>>,
    pub(super) request: &'a Request<DB>,
    pub(super) cursor: &'a [KeyValue],
    pub(super) read: &'a Read,
    /// Rows of the page, without the one behind it.
    pub(super) length: u64,
    pub(super) work: &'a Arc<W>,
    pub(super) model: &'a CostModel,
    pub(super) guard: &'a Guard,
    /// Whether its statements are stepped here, and with what values of the filters.
    pub(super) steps: bool,
    pub(super) values: &'a [KeyValue],
    pub(super) shape: &'a Shape,
    pub(super) pays: &'a Pays,
}

/// How readers come to the same snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Snapshot {
    /// They need not.
    PerRange,
    /// Each range has no rows unless it is this one.
    Expected(i64),
    /// Each range says which one it saw.
    Column,
    /// They join the one of this name (PostgreSQL). So many rows does the owner read meanwhile.
    Exported { name: String, lead: u64 },
    /// They open one while the database has this version (SQLite).
    Version(i64),
}

/// Why ranges gave no page.
enum Trouble {
    /// Somebody wrote in between.
    Moved,
    /// A range has no rows, and so does not say what it saw.
    Silent,
    /// Anything else; one statement will say what.
    Failed,
}

/// Reads the page in as many ranges as `hands`; none if it cannot be done right this way.
///
/// # Errors
/// When the owner's own connection is lost.
pub(super) async fn read<DB, W>(
    ranged: Ranged<'_, DB, W>,
    lease: &mut Lease<DB>,
    hands: usize,
) -> Result<Option<Got>, ListError>
where
    DB: SqlDatabase,
    W: Rendering<Item = DB::Item>,
{
    let pays = ranged.pays;
    if ranged.steps {
        return ranged.stepped(lease, hands).await;
    }
    if ranged.request.consistency == Consistency::PerRange {
        return Ok(ranged.once(Reader::Driver(lease), hands, Snapshot::PerRange).await?.ok());
    }
    match DB::DIALECT {
        Dialect::Postgres => {
            let steady = &ranged.core.shapes.steady;
            if let Some(snapshot) = steady.expected() {
                match ranged.once(Reader::Driver(lease), hands, Snapshot::Expected(snapshot)).await? {
                    Ok(got) => return Ok(Some(got)),
                    Err(Trouble::Failed) => return Ok(None),
                    Err(Trouble::Moved | Trouble::Silent) => steady.moved(),
                }
            }
            if !pays.exports() {
                match ranged.once(Reader::Driver(lease), hands, Snapshot::Column).await? {
                    Ok(got) => return Ok(Some(got)),
                    Err(Trouble::Failed) => return Ok(None),
                    Err(Trouble::Moved) => pays.moved(),
                    Err(Trouble::Silent) => {}
                }
            }
            let started = Instant::now();
            let Some(name) = begin_snapshot(lease).await? else { return Ok(None) };
            let Some(name) = name else { return Ok(None) };
            // To join takes about as long, and the owner need not.
            let took = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let lead = strategy::lead(took, pays.per_row()[1], hands);
            let got =
                ranged.once(Reader::Driver(lease), hands, Snapshot::Exported { name, lead }).await?.ok();
            if got.is_none() {
                lease.end_transaction().await?;
            }
            Ok(got)
        }
        Dialect::Sqlite => {
            let version = match ranged.core.control.ask(Ask::DataVersion).await {
                Ok(version) => version,
                Err(error) => {
                    tracing::warn!(%error, "the control connection failed; the page is one statement");
                    return Ok(None);
                }
            };
            if begin_snapshot(lease).await?.is_none() {
                return Ok(None);
            }
            let got = ranged.once(Reader::Driver(lease), hands, Snapshot::Version(version)).await?.ok();
            if got.is_none() {
                lease.end_transaction().await?;
            }
            Ok(got)
        }
        // Connections cannot share a snapshot.
        Dialect::MySql => Ok(None),
    }
}

/// Begins the owner's transaction; none, and none begun, if the database will not have it.
async fn begin_snapshot<DB: SqlDatabase>(lease: &mut Lease<DB>) -> Result<Option<Option<String>>, ListError> {
    match lease.begin_snapshot().await {
        Ok(name) => Ok(Some(name)),
        Err(error) if error.is_lost::<DB>() => Err(error),
        Err(error) => {
            let cause = error.source().map(ToString::to_string);
            tracing::warn!(cause, "there is no snapshot to share; the page is one statement");
            lease.roll_back().await?;
            Ok(None)
        }
    }
}

impl<DB, W> Ranged<'_, DB, W>
where
    DB: SqlDatabase,
    W: Rendering<Item = DB::Item>,
{
    /// Reads the page with statements that are stepped where their rows are used.
    async fn stepped(&self, lease: &mut Lease<DB>, hands: usize) -> Result<Option<Got>, ListError> {
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

    /// Reads the page once, the readers coming to one snapshot this way.
    async fn once(
        &self,
        mut reader: Reader<'_, '_, DB>,
        hands: usize,
        snapshot: Snapshot,
    ) -> Result<Result<Got, Trouble>, ListError> {
        let lead = if let Snapshot::Exported { lead, .. } = snapshot { lead } else { 0 };
        let parts = strategy::cut(self.length, hands, lead);
        let count = parts.len();
        let ahead = self.read.rows.unwrap_or(self.length) - self.length;
        let from = self.read.skip.unwrap_or(0);
        let mut waiting = parts
            .into_iter()
            .enumerate()
            .map(|(index, part)| Part {
                skip: from + part.start,
                rows: part.end - part.start,
                ahead: if index + 1 == count { ahead } else { 0 },
            })
            .collect();
        let job = Arc::new(Ranges {
            chunks: Chunks::new(),
            core: Arc::clone(self.core),
            parts: self.request.parts.clone(),
            arguments: self.request.arguments.clone(),
            cursor: self.cursor.to_vec(),
            read: Read {
                snapshot: snapshot == Snapshot::Column,
                expects: if let Snapshot::Expected(snapshot) = snapshot { Some(snapshot) } else { None },
                ..self.read.clone()
            },
            work: Arc::clone(self.work),
            snapshot,
            values: self.steps.then(|| self.values.to_vec()),
            stops: Stops::default(),
            cancel: self.core.halted.child_token(),
            helpers: AtomicUsize::new(0),
        });
        job.chunks.push(&mut waiting);
        let mut published = Published { job: &*job, finished: false };
        for _ in 1..count {
            if self.core.registry.submit(Arc::clone(&job) as Arc<dyn Run<DB>>).is_err() {
                break;
            }
        }
        while let Some(mut claim) = job.chunks.claim(1) {
            let Some(part) = claim.take().pop() else { break };
            let read = match &mut reader {
                Reader::Driver(lease) => self.own_part(&job, lease, part).await,
                Reader::Here(hand, stepwise) => self.own_part_here(&job, *hand, *stepwise, part).await,
            };
            match read {
                Ok(piece) => claim.finish(Ok(piece)),
                Err(failure) => {
                    let lost = matches!(&failure, Failure::Error(error) if error.is_lost::<DB>());
                    claim.finish(Err(Failure::Error(())));
                    if let (true, Failure::Error(error)) = (lost, failure) {
                        return Err(error);
                    }
                }
            }
        }
        let pieces = poll_fn(|context| job.chunks.poll_results(context)).await;
        published.finished = true;
        let pieces: Option<Vec<Piece>> = pieces.into_iter().map(Result::ok).collect();
        let helpers = job.helpers.load(Ordering::Relaxed);
        Ok(match pieces {
            Some(pieces) if pieces.len() == count => put_together(pieces, &job, helpers, self.core),
            _ => Err(Trouble::Failed),
        })
    }

    /// Reads a range as the owner, giving the async thread to others in between.
    async fn own_part(
        &self,
        job: &Ranges<DB, W>,
        lease: &mut Lease<DB>,
        part: Part,
    ) -> Result<Piece, Failure<ListError>> {
        let Statement { sql, arguments } = job.statement(part, self.read.tag)?;
        let wish = Wish { execution: Execution::Sequential, quiet: true, ..Wish::default() };
        let expected = usize::try_from(part.rows).unwrap_or(usize::MAX);
        let mut owner = Owner::new(self.core, Arc::clone(self.work), self.model, wish, expected);
        let flowing = lease.flowing();
        let stream = DB::rows(lease.begin(self.guard.clone()), sql, arguments, true);
        let mut rows = Rows::<DB>::new(stream, job.look(part)).telling(flowing);
        let fed = owner.feed(Pin::new(&mut rows)).await;
        let seen = mem::take(&mut rows.seen);
        drop(rows);
        if seen.ended {
            lease.ended();
        }
        let finished = owner.finish().await?;
        fed.map_err(Failure::Error)?;
        Ok(Piece::new(part, finished.outs, seen))
    }

    /// Reads a range as the owner, stepping its statement.
    async fn own_part_here(
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

/// How the owner reads its ranges.
enum Reader<'r, 'c, DB: SqlDatabase> {
    Driver(&'r mut Lease<DB>),
    Here(&'r mut DB::Hand<'c>, Stepwise),
}

/// The ranges' pieces as a page, if they saw the same snapshot.
fn put_together<DB: SqlDatabase, W: Work>(
    pieces: Vec<Piece>,
    job: &Ranges<DB, W>,
    helpers: usize,
    core: &Core<DB>,
) -> Result<Got, Trouble> {
    if matches!(job.snapshot, Snapshot::Expected(_) | Snapshot::Column) {
        let told = told(&pieces).ok_or(Trouble::Silent)?;
        // None is told where the snapshot was expected.
        let first = told[0].seen.snapshot;
        if told.iter().any(|piece| piece.seen.snapshot != first) {
            return Err(Trouble::Moved);
        }
        match (&job.snapshot, first) {
            (Snapshot::Column, Some(first)) => core.shapes.steady.saw(first),
            (Snapshot::Column, None) => return Err(Trouble::Moved),
            _ => {}
        }
    }
    let mode = if helpers > 0 {
        Mode::Parallel { participants: 1 + helpers, chunks: pieces.len() }
    } else {
        Mode::Sequential(Reason::Unclaimed)
    };
    core.decisions.count(mode);
    let mut page = Got { outs: Vec::new(), seen: Seen::default(), mode, count: None };
    for piece in pieces {
        page.outs.extend(piece.outs);
        page.seen.rows += piece.seen.rows;
        page.seen.more = piece.seen.more;
        if page.seen.first.is_none() {
            page.seen.first = piece.seen.first;
        }
        page.seen.last = piece.seen.last;
    }
    Ok(page)
}

/// The pieces that say what their readers saw, if the others need not: behind one that came to the end of
/// the rows there are none, whatever anybody saw.
fn told(pieces: &[Piece]) -> Option<&[Piece]> {
    let end = pieces.iter().position(|piece| piece.is_last).map_or(pieces.len(), |last| last + 1);
    let (told, behind) = pieces.split_at(end);
    let says = |piece: &Piece| piece.seen.rows > 0;
    (told.iter().all(says) && !behind.iter().any(says)).then_some(told)
}

/// A range of the page.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Rows before it, from where the page's own start counts.
    skip: u64,
    rows: u64,
    /// One more to look at behind the page.
    ahead: u64,
}

/// What reading a range gave.
struct Piece {
    outs: Vec<Elements>,
    seen: Seen,
    /// The rows came to their end before the range did.
    is_last: bool,
}

impl Piece {
    fn new(part: Part, outs: Vec<Elements>, seen: Seen) -> Self {
        let is_last = seen.rows < part.rows;
        Piece { outs, seen, is_last }
    }
}

/// What owner and workers share.
struct Ranges<DB: SqlDatabase, W: Work> {
    chunks: Chunks<Part, Piece, Failure<()>>,
    core: Arc<Core<DB>>,
    parts: Parts,
    arguments: <DB as sqlx::Database>::Arguments,
    cursor: Vec<KeyValue>,
    read: Read,
    work: Arc<W>,
    snapshot: Snapshot,
    /// The filters' values, if the readers step their statements.
    values: Option<Vec<KeyValue>>,
    /// Stops those that do.
    stops: Stops,
    cancel: CancellationToken,
    /// Workers that took a range.
    helpers: AtomicUsize,
}

/// Stops the readers when the owner goes before they have finished.
struct Published<'j, DB: SqlDatabase, W: Work> {
    job: &'j Ranges<DB, W>,
    /// Nobody reads any more; a worker may still be ending its transaction.
    finished: bool,
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
struct Progress {
    busy: bool,
    in_transaction: bool,
    lost: bool,
}

impl<DB, W> Ranges<DB, W>
where
    DB: SqlDatabase,
    W: Rendering<Item = DB::Item>,
{
    fn plan(&self, part: Part, tag: Option<i64>) -> Planned {
        let read = Read {
            skip: Some(part.skip),
            rows: Some(part.rows + part.ahead),
            locate: true,
            tag,
            ..self.read.clone()
        };
        plan::statement(&self.parts, &read)
    }

    /// A range's statement, to be stepped here.
    fn planned(&self, part: Part) -> Result<(String, Vec<KeyValue>), Failure<ListError>> {
        let planned = self.plan(part, None);
        let filters = self.values.as_deref().unwrap_or_default();
        let values = super::query::values(filters, &planned, &self.cursor).map_err(Failure::Error)?;
        Ok((planned.sql, values))
    }

    fn statement(&self, part: Part, tag: Option<i64>) -> Result<Statement<DB>, Failure<ListError>> {
        super::query::bind::<DB>(&self.arguments, self.plan(part, tag), &self.cursor).map_err(Failure::Error)
    }

    fn look(&self, part: Part) -> Look {
        Look {
            rows: part.rows,
            keys: if self.read.keys { self.parts.keys.len() } else { 0 },
            snapshot: self.read.snapshot,
            filtered: self.parts.bound > 0,
        }
    }

    /// Takes ranges as a worker that steps their statements, until none waits.
    async fn help_here(&self, connection: &mut <DB as sqlx::Database>::Connection, at: &mut Progress) {
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

    /// Takes ranges as a worker until none waits.
    async fn help(&self, connection: &mut <DB as sqlx::Database>::Connection, at: &mut Progress) {
        if self.values.is_some() {
            return self.help_here(connection, at).await;
        }
        if !self.join(connection, at).await {
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
            Snapshot::Exported { name, .. } => {
                at.in_transaction = true;
                // Refused where this is another server, another session, or the exporter is gone.
                match DB::join_snapshot(connection, name).await {
                    Ok(joined) => joined,
                    Err(error) => {
                        tracing::debug!(%error, "a worker could not join a snapshot");
                        false
                    }
                }
            }
            Snapshot::Version(version) => {
                at.in_transaction = true;
                DB::export_snapshot(connection).await.is_ok()
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
        if self.cancel.is_cancelled() || self.chunks.waiting() == 0 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_behind_the_end_of_the_rows_need_not_say_what_they_saw() {
        // How many rows each range of ten gave, and how many ranges say enough.
        for (rows, want) in [
            (&[10, 10, 10][..], Some(3)),
            (&[10, 10, 4], Some(3)),
            (&[10, 4, 0], Some(2)),
            (&[4, 0, 0], Some(1)),
            // Perhaps the end, perhaps another snapshot.
            (&[10, 10, 0], None),
            (&[10, 0, 0], None),
            (&[0, 0, 0], None),
            // Certainly another snapshot.
            (&[10, 4, 10], None),
            (&[0, 10, 10], None),
        ] {
            let pieces = rows.iter().map(|&rows| {
                let part = Part { skip: 0, rows: 10, ahead: 0 };
                Piece::new(part, Vec::new(), Seen { rows, ..Seen::default() })
            });
            let pieces: Vec<_> = pieces.collect();
            assert_eq!(told(&pieces).map(<[_]>::len), want, "{rows:?}");
        }
    }
}
