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
//!   owner exports its transaction's snapshot and the workers join it. They begin their transactions while it exports. The
//!   owner begins to read at once, and so has the longer range. The first page asks for each session's number, which must
//!   be the same; later pages expect it in each range's statement, which has no rows in another session.
//! - **SQLite**: the owner notes a third connection's `data_version` and takes its snapshot. A worker takes one
//!   and looks again: the same number means that nobody wrote between the two, so both see the same. A worker
//!   that finds another number stays out; nobody waits for it.
//!
//! This file is the owner's side; the workers' is `shared`, and `stepped` has both where the driver does not step.

mod pieces;
mod shared;
mod stepped;

use std::error::Error;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::SetOnce;

use self::pieces::{Part, Piece, told};
use self::shared::{Published, Ranges};
use super::ListError;
use super::cursor::KeyValue;
use super::lease::Lease;
use super::plan::Read;
use super::query::{Consistency, Request, Statement};
use super::render::{Elements, Rendering};
use super::rows::{Rows, Seen};
use super::shape::{Pays, Shape};
use super::stops::Stops;
use super::strategy::{self, Stepwise};
use crate::admission::cost::CostModel;
use crate::core::Core;
use crate::db::{Ask, Dialect, Exported, Guard, SqlDatabase};
use crate::job::chunks::Chunks;
use crate::job::owner::{Owner, Wish};
use crate::job::{Failure, Work};
use crate::mode::{Execution, Mode, Reason};
use crate::worker::Run;

/// What a way of reading gave.
pub(super) struct Got {
    pub(super) outs: Vec<Elements>,
    pub(super) seen: Seen,
    pub(super) mode: Mode,
    /// Rows of the whole list, where that was asked for.
    pub(super) count: Option<u64>,
    /// Whether it was read from a place in the list that was known from another page.
    pub(super) from_place: bool,
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
    /// They join the one that the owner exports (PostgreSQL). Each range has no rows unless its session is this
    /// one; if none is known, that is asked where the snapshot is shared.
    Exported(Option<i64>),
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
            let session = steady.session();
            let mut got = ranged.once(Reader::Driver(lease), hands, Snapshot::Exported(session)).await?;
            if got.is_err() {
                lease.end_transaction().await?;
            }
            if session.is_some() && matches!(got, Err(Trouble::Silent)) {
                steady.strayed();
                got = ranged.once(Reader::Driver(lease), hands, Snapshot::Exported(None)).await?;
                if got.is_err() {
                    lease.end_transaction().await?;
                }
            }
            Ok(got.ok())
        }
        Dialect::Sqlite => {
            let version = match ranged.core.control.ask(Ask::DataVersion).await {
                Ok(version) => version,
                Err(error) => {
                    tracing::warn!(%error, "the control connection failed; the page is one statement");
                    return Ok(None);
                }
            };
            if begin_snapshot(lease, false).await?.is_none() {
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
async fn begin_snapshot<DB: SqlDatabase>(
    lease: &mut Lease<DB>,
    told: bool,
) -> Result<Option<Option<Exported>>, ListError> {
    match lease.begin_snapshot(told).await {
        Ok(exported) => Ok(Some(exported)),
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
    /// Reads the page once, the readers coming to one snapshot this way.
    async fn once(
        &self,
        mut reader: Reader<'_, '_, DB>,
        hands: usize,
        snapshot: Snapshot,
    ) -> Result<Result<Got, Trouble>, ListError> {
        let exports = matches!(snapshot, Snapshot::Exported(_));
        let steady = &self.core.shapes.steady;
        // To join takes about half as long as to export, and the owner need not.
        let lead = if exports { strategy::lead(steady.took() / 2, self.pays.per_row()[1], hands) } else { 0 };
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
                session: if let Snapshot::Exported(session) = snapshot { session } else { None },
                ..self.read.clone()
            },
            work: Arc::clone(self.work),
            snapshot,
            exported: SetOnce::new(),
            values: self.steps.then(|| self.values.to_vec()),
            stops: Stops::default(),
            cancel: self.core.halted.child_token(),
            helpers: AtomicUsize::new(0),
        });
        let mut published = Published { job: &*job, finished: false };
        let publish = || {
            for _ in 1..count {
                if self.core.registry.submit(Arc::clone(&job) as Arc<dyn Run<DB>>).is_err() {
                    break;
                }
            }
        };
        let mut exported = None;
        if let (Snapshot::Exported(session), Reader::Driver(lease)) = (&job.snapshot, &mut reader) {
            // So that workers are there when it can be joined.
            publish();
            let started = Instant::now();
            exported = begin_snapshot(lease, session.is_none()).await?.flatten();
            let Some(exported) = &exported else { return Ok(Err(Trouble::Failed)) };
            steady.learn_took(started.elapsed());
            if let Some(session) = exported.session {
                steady.told(session);
            }
        }
        job.chunks.push(&mut waiting);
        // Before anyone else can: what others read is held against what the owner's connection saw, and that
        // they agree among themselves says nothing if they are all on another server.
        let mut own = job.chunks.claim(1);
        let standby = exported.as_ref().is_some_and(|exported| exported.standby);
        match exported {
            Some(exported) => _ = job.exported.set(exported),
            None => publish(),
        }
        let mut failed = false;
        while let Some(mut claim) = own.take().or_else(|| job.chunks.claim(1)) {
            let Some(part) = claim.take().pop() else { break };
            if failed {
                // There is no page, whatever is in it.
                claim.finish(Err(Failure::Error(())));
                continue;
            }
            let read = match &mut reader {
                Reader::Driver(lease) => self.own_part(&job, lease, part).await,
                Reader::Here(hand, stepwise) => self.own_part_here(&job, *hand, *stepwise, part).await,
            };
            match read {
                Ok(piece) => claim.finish(Ok(piece)),
                Err(failure) => {
                    failed = true;
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
        // A standby that has begun to wait for the owner's transaction, to remove rows that its snapshot sees, does not
        // wait for those who join later. So it must have been there until all had read. A count is asked for in it.
        if let (true, Reader::Driver(lease)) = (standby, &mut reader)
            && let Err(error) = lease.check_transaction(self.request.counted).await
        {
            return if error.is_lost::<DB>() { Err(error) } else { Ok(Err(Trouble::Failed)) };
        }
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
    if matches!(job.snapshot, Snapshot::Expected(_) | Snapshot::Column | Snapshot::Exported(Some(_))) {
        let told = told(&pieces).ok_or(Trouble::Silent)?;
        // None is told where the snapshot, or the session, was expected.
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
    let mut page = Got { outs: Vec::new(), seen: Seen::default(), mode, count: None, from_place: false };
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
