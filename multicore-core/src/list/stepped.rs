//! A list's one statement, stepped by the owner on its own thread: where each row is soon there, and as long
//! as it is. Else the driver, which has a thread to wait on, goes on behind what has come.

use std::mem;

use super::ListError;
use super::lease::Lease;
use super::query::Request;
use super::render::Rendering;
use super::rows::{Look, Rows, Seen};
use super::shape::Shape;
use super::strategy::{self, Stepwise};
use crate::core::Core;
use crate::db::{PlanKind, Reading, SqlDatabase, Stepping as _};
use crate::job::owner::Owner;
use crate::list::cursor::KeyValue;

/// How many values filters may have for a statement to be stepped here: they are asked for as columns.
const MOST_VALUES: usize = 64;

/// How the list's statement is stepped here, if it is: where each row is surely soon there, or the driver can
/// go on should it not be. `values` become those of the filters.
///
/// # Errors
/// When the connection is lost.
pub(super) async fn stepwise<DB: SqlDatabase>(
    lease: &mut Lease<DB>,
    shape: &Shape,
    request: &Request<DB>,
    plan: PlanKind,
    depth: u64,
    values: &mut Vec<KeyValue>,
) -> Result<Option<Stepwise>, ListError> {
    let bound = request.parts.bound;
    let may = DB::STEPS
        && request.direct
        && plan.is_ordered()
        // With a write-ahead log no reader waits for a lock. What is not understood may do anything.
        && shape.snapshots
        && shape.facts.splits.is_ok()
        && bound <= MOST_VALUES
        && !lease.core().transaction_pooling
        && shape.flows();
    if !may {
        return Ok(None);
    }
    if values.len() < bound {
        *values = DB::values(lease.connection(), &request.arguments).await?;
        lease.ended();
    }
    Ok(Some(strategy::stepwise(shape.facts.prompt, depth, lease.core().can_move())))
}

/// Prepares a statement, in a transaction if it may have to be gone on with by the driver; false if it cannot
/// be stepped here. Either way `in_transaction` says whether the hand has one open that is ours.
pub(super) fn open<DB: SqlDatabase>(
    hand: &mut DB::Hand<'_>,
    stepwise: Stepwise,
    sql: &str,
    values: &[KeyValue],
    in_transaction: &mut bool,
) -> bool {
    *in_transaction = false;
    let begun = match stepwise.limit {
        None => Ok(()),
        Some(thousands) => {
            hand.limit_steps(thousands);
            hand.begin()
        }
    };
    *in_transaction = stepwise.limit.is_some() && begun.is_ok();
    match begun.and_then(|()| hand.prepare(sql, values)) {
        Ok(prepared) => prepared,
        Err(error) => {
            // The driver will say what is wrong, or do better.
            tracing::debug!(%error, "a statement could not be begun here");
            false
        }
    }
}

/// A page's statement.
pub(super) struct SteppedPage<'a> {
    pub(super) sql: &'a str,
    pub(super) values: &'a [KeyValue],
    pub(super) look: Look,
    pub(super) backward: bool,
    pub(super) version: Version,
}

/// What the database's version is to a page's statement, which takes its snapshot in a transaction then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// Nothing.
    Any,
    /// It is to be seen which one the page is of.
    Seen,
    /// Nothing is read of any other.
    Expected(i64),
}

/// How far it came.
pub(super) enum Stepping {
    /// To its end, or to an error.
    Done(Result<(), ListError>, Seen),
    /// The driver must go on behind these rows, in the transaction that is open.
    Behind(Seen),
    /// Nowhere: the database's version is not the expected one.
    Moved,
}

impl SteppedPage<'_> {
    /// Steps the statement and feeds its rows to `owner`.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn read<DB, W>(
        &self,
        core: &Core<DB>,
        lease: &mut Lease<DB>,
        shape: &Shape,
        stepwise: Stepwise,
        owner: &mut Owner<'_, DB, W>,
    ) -> Result<Stepping, ListError>
    where
        DB: SqlDatabase,
        W: Rendering<Item = DB::Item>,
    {
        // The driver could not say of which version its rows are.
        let not_here = match self.version {
            Version::Expected(_) => Stepping::Moved,
            Version::Any | Version::Seen => Stepping::Behind(Seen::default()),
        };
        let Some(mut hand) = lease.hand(stepwise.limit.is_some()).await? else {
            lease.left_transaction();
            return Ok(not_here);
        };
        let before = if self.version == Version::Seen { DB::version(&core.sentinel) } else { None };
        let mut in_transaction = false;
        if !open::<DB>(&mut hand, stepwise, self.sql, self.values, &mut in_transaction) {
            drop(hand);
            if !in_transaction {
                lease.left_transaction();
            } else if matches!(not_here, Stepping::Moved) {
                lease.roll_back().await?;
            }
            return Ok(not_here);
        }
        // Nobody has committed between two looks that find the same, so the snapshot taken in between is of it.
        let snapshot = match self.version {
            Version::Seen if in_transaction => {
                before.filter(|before| DB::version(&core.sentinel) == Some(*before))
            }
            Version::Expected(version) => {
                if !in_transaction || DB::version(&core.sentinel) != Some(version) {
                    let left = !in_transaction || hand.commit().is_ok();
                    drop(hand);
                    if left {
                        lease.left_transaction();
                    } else {
                        lease.roll_back().await?;
                    }
                    return Ok(Stepping::Moved);
                }
                Some(version)
            }
            Version::Any | Version::Seen => None,
        };
        if stepwise.in_place {
            tokio::task::block_in_place(|| hand.step_ahead());
        }
        owner.pace(Reading::READY);
        let mut rows = Rows::<DB>::stepped(&mut hand, self.look);
        let fed = rows.feed(owner, self.backward).await;
        let seen = Seen { snapshot, ..mem::take(&mut rows.seen) };
        drop(rows);
        if seen.stalled {
            tracing::debug!(rows = seen.rows, "a statement takes long, and goes on by the driver");
            shape.stall();
            drop(hand);
            // Of those that were to be turned around nothing was used.
            return Ok(Stepping::Behind(if self.backward { Seen::default() } else { seen }));
        }
        let left = in_transaction && hand.commit().is_ok();
        drop(hand);
        if left {
            lease.left_transaction();
        }
        Ok(Stepping::Done(fed, seen))
    }
}
