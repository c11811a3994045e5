//! A page deep in a list, read from a row whose place there an earlier page has seen: what it takes, reading it, and
//! what it leaves behind. Which places are known is `places`' to say.

use std::sync::Arc;

use super::{PageRead, Way};
use crate::core::Core;
use crate::db::{Ask, Dialect, Guard, PlanKind, SqlDatabase};
use crate::list::ListError;
use crate::list::cursor::KeyValue;
use crate::list::lease::Lease;
use crate::list::paging::Start;
use crate::list::places::{self, Place, Stamp};
use crate::list::plan::Read;
use crate::list::query::Strategy;
use crate::list::ranges::Got;
use crate::list::render::Rendering;
use crate::list::shape::Shape;
use crate::list::stepped::Version;
use crate::list::strategy;
use crate::list::survey;
use crate::mode::Execution;

/// The types of PostgreSQL whose values are the same again after they were text, dates and times in ISO's style. Those
/// of floating point are, or are not, by a setting of the session.
#[rustfmt::skip]
const EXACT: &[&str] = &[
    "smallint", "integer", "bigint", "numeric", "boolean", "uuid", "text", "character varying", "date",
    "timestamp without time zone", "timestamp with time zone",
];

impl<DB, W> PageRead<'_, DB, W>
where
    DB: SqlDatabase,
    W: Rendering<Item = DB::Item>,
{
    /// Whether places are of use to the page: if so, the number of the lock that tells whether PostgreSQL has lost its
    /// memory; on SQLite, zero.
    ///
    /// What two ranges of one page may be, two pages may be too: equal snapshots give equal rows. Values that are bound
    /// in filters are others with each page.
    pub(super) async fn places(
        &mut self,
        lease: &mut Lease<DB>,
        shape: &Shape,
        way: &Way,
    ) -> Result<Option<i64>, ListError> {
        let deep = matches!(self.paging.start, Start::Offset(offset) if offset >= places::FROM);
        let may = deep
            && shape.splits()
            && way.plan.is_ordered()
            && self.request.parts.bound == 0
            // Else no index starts at a row of which the keys are known.
            && self.request.parts.keys.first().is_some_and(|key| key.nulls.is_none())
            // Else the program may know that its connections differ.
            && self.request.strategy == Strategy::Auto
            && self.request.wish.execution != Execution::Sequential
            && !self.core.transaction_pooling
            && self.core.registry.is_open()
            && shape.places.may_be();
        if !may {
            return Ok(None);
        }
        match DB::DIALECT {
            Dialect::Postgres => {
                let casts = match survey::casts(shape, lease.connection(), &self.request).await {
                    Ok(casts) => casts,
                    Err(error) if error.may_pass::<DB>() => return Err(error),
                    Err(error) => {
                        tracing::debug!(%error, "the types of a list's keys are not known");
                        shape.places.end();
                        lease.ended();
                        return Ok(None);
                    }
                };
                lease.ended();
                if !casts.iter().all(|cast| cast.as_deref().is_some_and(|cast| EXACT.contains(&cast))) {
                    shape.places.end();
                    return Ok(None);
                }
                for (key, cast) in self.request.parts.keys.iter_mut().zip(casts) {
                    key.cast = cast;
                }
                Ok(self.lock())
            }
            Dialect::Sqlite if way.stepwise.is_some() => {
                if let Err(error) = DB::watch(&self.core.sentinel, &self.core.source).await {
                    tracing::debug!(%error, "nobody tells whether others wrote");
                    return Ok(None);
                }
                Ok(Some(0))
            }
            // Nothing tells whether it is the same snapshot.
            Dialect::Sqlite | Dialect::MySql => Ok(None),
        }
    }

    /// The number of the lock that the control connection holds. Never waits: where there is none, it is asked for
    /// meanwhile, for a later page.
    fn lock(&self) -> Option<i64> {
        let hold = &self.core.shapes.hold;
        let number = hold.number();
        if number.is_none()
            && let Some(home) = self.core.control.home()
            && hold.is_to_be_asked_for()
        {
            home.spawn(take_lock(Arc::clone(self.core)));
        }
        number
    }

    /// Reads the page from the nearest place before it.
    pub(super) async fn read_from_place(
        &self,
        lease: &mut Lease<DB>,
        shape: &Shape,
        read: &Read,
        way: &Way,
        lock: i64,
    ) -> Result<FromPlace, ListError> {
        let (from, rows) = (read.skip.unwrap_or(0), self.paging.limit);
        let Some((stamp, place)) = shape.places.before(from, rows, strategy::is_long(rows)) else {
            return Ok(FromPlace::None);
        };
        if stamp.lock != lock {
            shape.places.drop_of(stamp);
            return Ok(FromPlace::None);
        }
        let Place { position, keys } = place;
        let skip = from - position;
        let on_postgres = DB::DIALECT == Dialect::Postgres;
        let ours = Read {
            after: Some(keys.iter().map(|key| *key == KeyValue::Null).collect()),
            inclusive: true,
            skip: (skip > 0).then_some(skip),
            locate: way.plan == PlanKind::Ordered && skip >= strategy::LOCATE_FROM,
            literal: on_postgres && skip == 0 && shape.keeps_length(rows),
            keys: true,
            expects: on_postgres.then_some(stamp.snapshot),
            held: on_postgres.then_some(stamp.lock),
            ..read.clone()
        };
        let stepwise = way
            .stepwise
            .map(|_| strategy::stepwise(shape.facts.prompt, skip, self.core.can_move()).in_transaction());
        let version = Version::Expected(stamp.snapshot);
        let way = Way { stepwise, version, ..way.clone() };
        match self.single(lease, shape, ours, way, &keys).await {
            Ok(Some(got)) => {
                shape.places.was_of_use();
                self.learn(shape, stamp, from, &got);
                Ok(FromPlace::Read(Got { from_place: true, ..got }))
            }
            Ok(None) => Ok(FromPlace::Tried(stamp)),
            // A key's type that has changed is found out before the snapshot is.
            Err(ListError::Statement(error) | ListError::Filter(error)) if lease.is_between_statements() => {
                tracing::debug!(%error, "a page from a known place is read from the list's start");
                shape.places.forget(stamp);
                Ok(FromPlace::None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the page as ever, and keeps in mind where its rows stand. `tried` is the stamp of a place
    /// that it was in vain to be read from.
    pub(super) async fn single_for_places(
        &self,
        lease: &mut Lease<DB>,
        shape: &Shape,
        read: Read,
        way: Way,
        lock: i64,
        tried: Option<Stamp>,
    ) -> Result<Option<Got>, ListError> {
        let from = read.skip.unwrap_or(0);
        let on_postgres = DB::DIALECT == Dialect::Postgres;
        let read = Read { keys: true, snapshot: on_postgres, exact: on_postgres, ..read };
        let way = Way { version: Version::Seen, ..way };
        let got = self.single(lease, shape, read, way, &[]).await?;
        let Some(page) = got.as_ref().filter(|page| page.seen.rows > 0) else { return Ok(got) };
        if let Some(tried) = tried {
            shape.places.forget(tried);
        }
        // A standby names no snapshot.
        let stamp = page.seen.snapshot.map(|snapshot| Stamp { snapshot, lock });
        if on_postgres && stamp.is_some() && stamp == tried {
            // It has not moved, so it was the lock.
            self.core.shapes.hold.is_in_doubt(lock);
        } else if !stamp.is_some_and(|stamp| self.learn(shape, stamp, from, page)) {
            shape.places.looked_in_vain();
        }
        Ok(got)
    }

    /// Keeps the places of a page's first row and of its last. Whether there were any.
    fn learn(&self, shape: &Shape, stamp: Stamp, from: u64, got: &Got) -> bool {
        let last = got.seen.last.as_ref().map(|keys| (from + got.seen.rows - 1, keys));
        let first = got.seen.first.as_ref().map(|keys| (from, keys));
        let mut learnt = false;
        for (position, keys) in first.into_iter().chain(last) {
            let parts = &self.request.parts.keys;
            // Not what the schema, or the program, says there is none of.
            let is_row =
                parts.iter().zip(keys).all(|(key, value)| *value != KeyValue::Null || key.nulls.is_some());
            learnt |= is_row && shape.places.learn(stamp, position, keys);
        }
        learnt
    }
}

async fn take_lock<DB: SqlDatabase>(core: Arc<Core<DB>>) {
    let number = Guard::lock().tag().unwrap_or_default();
    let taken = match core.control.ask(Ask::Hold(number)).await {
        Ok(taken) => (taken == 1).then_some(number),
        Err(error) => {
            tracing::debug!(%error, "no lock tells whether the server was restarted");
            None
        }
    };
    core.shapes.hold.was_asked_for(taken);
}

/// What came of reading a page from a place.
pub(super) enum FromPlace {
    Read(Got),
    /// No place is known that would help, or it was just found to be of no use.
    None,
    /// The place's snapshot is not seen any more, or the lock is gone, or on PostgreSQL the page may just have no rows.
    Tried(Stamp),
}
