//! Reading one page: which way, with what statement, on which connection. The decisions are pure and
//! stand in `strategy` and `plan`; this file gathers what goes in and carries out what comes out.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use self::from_place::FromPlace;
use super::ListError;
use super::cursor::{self, KeyValue};
use super::error::{statement_error, unwrap_failure};
use super::lease::Lease;
use super::page::List;
use super::paging::{Around, Paging, Start};
use super::places;
use super::plan::{self, Read};
use super::query::{self, Consistency, Request, Statement, Strategy};
use super::ranges::{self, Got, Ranged};
use super::render::Rendering;
use super::rows::{Look, Rows, Seen};
use super::shape::{Pays, Shape};
use super::stepped::{self, SteppedPage, Stepping, Version};
use super::strategy::{self, Case, SHALLOW, Stepwise};
use super::survey;
use crate::admission::cost::CostModel;
use crate::core::Core;
use crate::db::{Dialect, Guard, PlanKind, SqlDatabase};
use crate::job::owner::Owner;
use crate::mode::Execution;

mod from_place;

/// One page being read.
pub(super) struct PageRead<'a, DB: SqlDatabase, W> {
    core: &'a Arc<Core<DB>>,
    request: Request<DB>,
    paging: &'a Paging,
    work: &'a Arc<W>,
    model: &'a CostModel,
    /// The keys' values where the page starts, if it starts at a cursor.
    cursor: Vec<KeyValue>,
    /// The filters' values, for a statement that is stepped here.
    values: Vec<KeyValue>,
    /// Whether the database ended what read it before. One statement is least in anyone's way.
    again: bool,
}

impl<'a, DB, W> PageRead<'a, DB, W>
where
    DB: SqlDatabase,
    W: Rendering<Item = DB::Item>,
{
    pub(super) fn new(
        core: &'a Arc<Core<DB>>,
        request: Request<DB>,
        paging: &'a Paging,
        work: &'a Arc<W>,
        model: &'a CostModel,
    ) -> Self {
        PageRead { core, request, paging, work, model, cursor: Vec::new(), values: Vec::new(), again: false }
    }

    /// Reads the page once, on a connection of the application's pool.
    pub(super) async fn attempt(&mut self) -> Result<List, ListError> {
        let mut lease = Lease::acquire(self.core).await?;
        let result = self.read_on(&mut lease).await;
        lease.settle(result)
    }

    /// Reads it once more, by one statement.
    pub(super) async fn attempt_again(&mut self) -> Result<List, ListError> {
        self.again = true;
        self.attempt().await
    }

    async fn read_on(&mut self, lease: &mut Lease<DB>) -> Result<List, ListError> {
        if self.core.transaction_pooling {
            // What a pooler in transaction mode gives to one client from the first statement to the last.
            lease.begin_transaction("BEGIN").await?;
        }
        let shape = match survey::shape(&self.core.shapes, lease.connection(), &self.request).await {
            Ok(shape) => shape,
            Err(error) => return Err(lease.refused(error)),
        };
        let read = match self.resolve(lease, &shape).await {
            Ok(read) => read,
            Err(error) => return Err(lease.refused(error)),
        };
        let plan = survey::plan(&shape, lease.connection(), &self.request, &read).await?;
        let depth = read.skip.unwrap_or(0);
        let soon = plan.is_ordered() && shape.facts.prompt && depth < SHALLOW;
        let stepwise = stepped::stepwise(lease, &shape, &self.request, plan, depth, &mut self.values).await?;
        let guard = match stepwise {
            // It ends with the hand that steps it.
            Some(_) => Guard::None,
            None => lease.guard(&shape, plan, soon).await?,
        };
        lease.ended();
        let literal = DB::DIALECT == Dialect::Postgres && read.skip.unwrap_or(0) == 0;
        let literal = literal && shape.keeps_length(self.paging.limit);
        let read = Read { tag: guard.tag(), literal, ..read };
        let way = Way { guard, stepwise, plan, soon, version: Version::Any };
        let places = self.places(lease, &shape, &way).await?;
        let mut tried = None;
        if let Some(lock) = places {
            match self.read_from_place(lease, &shape, &read, &way, lock).await? {
                FromPlace::Read(got) => return self.list(&shape, got, Strategy::Single),
                FromPlace::Tried(stamp) => tried = Some(stamp),
                FromPlace::None => {}
            }
        }

        let wanted_places = places.filter(|_| shape.places.wants_more());
        let (limit, long) = (self.paging.limit, strategy::is_long(self.paging.limit));
        let leaves_places =
            wanted_places.is_some() && places::is_worth(depth.saturating_add(limit), limit, long);
        let wanted = match self.request.strategy {
            Strategy::Single => false,
            // Most pages are short, and need not look further.
            Strategy::Auto => long,
            Strategy::Ranges => true,
        };
        let split = wanted && !self.again && self.may_split(&shape, &read);
        let pays = split.then(|| shape.pays(self.paging.limit, read.skip.unwrap_or(0)));
        let case = pays.map(|pays| self.case(pays));
        let compared = case.filter(|case| plan.is_ordered() && strategy::is_eligible(*case));
        let hands = match (self.request.strategy, compared) {
            (Strategy::Ranges, _) => Some(self.core.registry.workers() + 1),
            // Ranges would leave none, and each page behind this one would walk as far again.
            (Strategy::Auto, Some(_)) if leaves_places => None,
            (Strategy::Auto, Some(case)) if strategy::choose_ranges(case) => {
                Some(strategy::hands(case.machine, case.parked, case.rows))
            }
            _ => None,
        };
        let mut started = Instant::now();
        let mut got = None;
        if let (Some(hands), Some(pays)) = (hands, pays) {
            got = self.ranges(lease, &shape, pays, &read, &way, hands).await?;
            if got.is_none() {
                pays.failed();
                // What was in vain is not one statement's fault.
                started = Instant::now();
            }
        }
        let (got, by) = match got {
            Some(got) => (got, Strategy::Ranges),
            None => {
                let locate = plan == PlanKind::Ordered && self.may_locate(&shape, &read);
                let read = Read { locate, ..read };
                let got = match wanted_places {
                    Some(lock) => self.single_for_places(lease, &shape, read, way, lock, tried).await?,
                    None => self.single(lease, &shape, read, way, &self.cursor).await?,
                };
                (got.expect("no snapshot was expected"), Strategy::Single)
            }
        };
        if let Some(tried) = tried
            && got.seen.rows > 0
        {
            shape.places.forget(tried);
        }
        if let (Some(_), Some(pays)) = (compared, pays)
            && got.seen.rows > 0
        {
            let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            pays.learn(by == Strategy::Ranges, nanos / got.seen.rows);
        }
        self.list(&shape, got, by)
    }

    /// What part of the query the page is, the cursor's values and the keys' types found out.
    async fn resolve(&mut self, lease: &mut Lease<DB>, shape: &Shape) -> Result<Read, ListError> {
        let ahead = u64::from(self.looks_ahead());
        let rows = Some(self.paging.limit.saturating_add(ahead).min(i64::MAX.unsigned_abs()));
        let token = match &self.paging.start {
            Start::Offset(offset) => {
                return Ok(Read { rows, skip: Some(*offset), ..Read::default() });
            }
            Start::First => None,
            Start::After(token) | Start::Before(token) => Some(token),
        };
        if !shape.facts.seeks {
            let key = self.request.parts.keys.iter().find(|key| !key.sql.contains('.'));
            let why = "a column of the result has its name, so a cursor could not tell which is meant: qualify \
                       it with its table";
            return Err(ListError::Order { key: key.map(|key| key.sql.clone()).unwrap_or_default(), why });
        }
        let casts = survey::casts(shape, lease.connection(), &self.request).await?;
        for (key, cast) in self.request.parts.keys.iter_mut().zip(casts) {
            key.cast = cast;
        }
        let backward = matches!(self.paging.start, Start::Before(_));
        let mut after = None;
        if let Some(token) = token {
            self.cursor = cursor::decode(&self.core.cursors, shape.id, token).map_err(ListError::Cursor)?;
            after = Some(self.cursor.iter().map(|value| *value == KeyValue::Null).collect());
        }
        Ok(Read { rows, after, backward, keys: true, ..Read::default() })
    }

    fn looks_ahead(&self) -> bool {
        self.paging.look_ahead || !matches!(self.paging.start, Start::Offset(_))
    }

    fn case(&self, pays: &Pays) -> Case {
        let [single, ranges] = pays.per_row();
        let [by_single, by_ranges] = pays.pages();
        Case {
            machine: self.core.machine(),
            parked: self.core.registry.parked(),
            rows: self.paging.limit,
            render: self.model.estimate().map(|cost| cost.per_item),
            single,
            ranges,
            pay: pays.pay(),
            by_single,
            by_ranges,
        }
    }

    /// Whether reading the page in ranges gives the same rows as one statement.
    fn may_split(&self, shape: &Shape, read: &Read) -> bool {
        let on_one_snapshot = match self.request.consistency {
            Consistency::Snapshot => shape.snapshots,
            Consistency::PerRange => true,
        };
        shape.splits()
            && on_one_snapshot
            && !read.backward
            && self.paging.limit > 1
            && self.request.wish.execution != Execution::Sequential
            && !self.core.transaction_pooling
            && self.core.registry.is_open()
            && self.repeats_filters()
    }

    /// Whether the page may start at a row found by its keys.
    fn may_locate(&self, shape: &Shape, read: &Read) -> bool {
        shape.splits()
            && read.skip.is_some_and(|skip| skip >= strategy::LOCATE_FROM)
            && self.request.wish.execution != Execution::Sequential
            && self.repeats_filters()
    }

    /// Whether the filters can stand twice in a statement, which values bound by position cannot.
    fn repeats_filters(&self) -> bool {
        DB::DIALECT != Dialect::MySql || self.request.parts.bound == 0
    }

    async fn ranges(
        &self,
        lease: &mut Lease<DB>,
        shape: &Shape,
        pays: &Pays,
        read: &Read,
        way: &Way,
        hands: usize,
    ) -> Result<Option<Got>, ListError> {
        let ranged = Ranged {
            core: self.core,
            request: &self.request,
            cursor: &self.cursor,
            read,
            length: self.paging.limit,
            work: self.work,
            model: self.model,
            guard: &way.guard,
            steps: way.stepwise.is_some(),
            values: &self.values,
            shape,
            pays,
        };
        let Some(mut got) = ranges::read(ranged, lease, hands).await? else { return Ok(None) };
        got.count = self.let_go(lease, shape).await?;
        Ok(Some(got))
    }

    /// One statement's rows, rendered by this task and whoever helps. None, and the connection kept, if it was to be of
    /// a certain snapshot and is not.
    async fn single(
        &self,
        lease: &mut Lease<DB>,
        shape: &Shape,
        read: Read,
        way: Way,
        cursor: &[KeyValue],
    ) -> Result<Option<Got>, ListError> {
        let planned = plan::statement(&self.request.parts, &read);
        let look = Look {
            rows: self.paging.limit,
            keys: if read.keys { self.request.parts.keys.len() } else { 0 },
            spares_keys: matches!(self.paging.start, Start::Offset(_)),
            snapshot: read.snapshot,
            filtered: self.request.parts.bound > 0,
        };
        let expected = usize::try_from(self.paging.limit).unwrap_or(usize::MAX);
        let mut owner = Owner::new(self.core, Arc::clone(self.work), self.model, self.request.wish, expected);
        owner.lends_connection();
        let mut done = None;
        let mut before = Seen::default();
        if let Some(stepwise) = way.stepwise {
            let values = query::values(&self.values, &planned, cursor)?;
            let (sql, backward, version) = (&*planned.sql, read.backward, way.version);
            let stepping = SteppedPage { sql, values: &values, look, backward, version };
            match stepping.read(self.core, lease, shape, stepwise, &mut owner).await? {
                Stepping::Done(fed, seen) => done = Some((fed, seen)),
                // On the same snapshot, and of a total order: so it gives the same rows first.
                Stepping::Behind(seen) => before = seen,
                Stepping::Moved => return Ok(None),
            }
        }
        let (fed, seen) = match done {
            Some(done) => done,
            None => {
                let guard = match way.stepwise {
                    Some(_) => lease.guard(shape, way.plan, way.soon).await?,
                    None => way.guard,
                };
                let Statement { sql, arguments } = self.request.bind(planned, cursor)?;
                owner.pace(DB::READING);
                let flowing = lease.flowing();
                let kept = !self.core.transaction_pooling;
                let stream = DB::rows(lease.begin(guard), sql, arguments, kept);
                let mut rows = Rows::<DB>::new(stream, look).behind(before).telling(flowing);
                let fed = rows.feed(&mut owner, read.backward).await;
                (fed, mem::take(&mut rows.seen))
            }
        };
        let mut count = Ok(None);
        if seen.ended {
            lease.ended();
            if read.expects.is_some() && seen.rows == 0 && fed.is_ok() {
                return Ok(None);
            }
            if fed.is_ok() {
                // Others may use the connection while the rest is rendered.
                count = self.let_go(lease, shape).await;
            }
        }
        let finished = owner.finish().await.map_err(unwrap_failure)?;
        // A row that failed comes before the end of the rows, so it was reported first.
        fed?;
        Ok(Some(Got { outs: finished.outs, seen, mode: finished.mode, count: count?, from_place: false }))
    }

    /// Gives the connection back, after counting where that was asked for.
    async fn let_go(&self, lease: &mut Lease<DB>, shape: &Shape) -> Result<Option<u64>, ListError> {
        let count = self.count(lease, shape).await?;
        lease.give_back().await?;
        Ok(count)
    }

    async fn count(&self, lease: &mut Lease<DB>, shape: &Shape) -> Result<Option<u64>, ListError> {
        if !self.request.counted {
            return Ok(None);
        }
        let guard = DB::guard(lease.connection()).await.map_err(ListError::Database)?;
        let planned = plan::count(&self.request.parts, shape.facts.plain);
        let Statement { sql, arguments } = self.request.bind(planned, &[])?;
        let counted = DB::number(lease.begin(guard), sql.as_str().to_owned(), arguments).await;
        lease.ended();
        let filtered = self.request.parts.bound > 0;
        let counted = counted.map_err(|error| statement_error::<DB>(error, filtered))?;
        Ok(Some(counted.unsigned_abs()))
    }

    fn list(&self, shape: &Shape, got: Got, strategy: Strategy) -> Result<List, ListError> {
        let Got { outs, seen, mode, count, from_place } = got;
        let around = Around { count, ..self.around(shape, seen)? };
        let rows = outs.iter().map(|chunk| chunk.rows).sum();
        let chunks = self.work.join(outs);
        self.model.learn_item_bytes(chunks.iter().map(Bytes::len).sum(), rows);
        Ok(List { chunks, rows, mode, strategy, from_place, around, in_processes: false })
    }

    fn around(&self, shape: &Shape, seen: Seen) -> Result<Around, ListError> {
        let cursor = |values: Option<&Vec<KeyValue>>| -> Result<Option<String>, ListError> {
            let Some(values) = values else { return Ok(None) };
            for (key, value) in self.request.parts.keys.iter().zip(values) {
                if *value == KeyValue::Null && key.nulls.is_none() {
                    let why = "it is NULL in a row: add `.nulls_first()` or `.nulls_last()`";
                    return Err(ListError::Order { key: key.sql.clone(), why });
                }
            }
            Ok(Some(cursor::encode(&self.core.cursors, shape.id, values)))
        };
        let any = seen.rows > 0;
        let mut around = Around::default();
        match &self.paging.start {
            Start::Offset(offset) if self.paging.look_ahead => {
                around.has_next = Some(seen.more);
                around.has_previous = Some(*offset > 0);
            }
            Start::Offset(_) => {}
            Start::First | Start::After(_) => {
                around.has_next = Some(seen.more);
                around.has_previous = Some(matches!(self.paging.start, Start::After(_)) && any);
                if seen.more {
                    around.next_cursor = cursor(seen.last.as_ref())?;
                }
                if around.has_previous == Some(true) {
                    around.previous_cursor = cursor(seen.first.as_ref())?;
                }
            }
            // Read from the end: what was seen first is the page's last row.
            Start::Before(_) => {
                around.has_next = Some(any);
                around.has_previous = Some(seen.more);
                around.next_cursor = cursor(seen.first.as_ref())?;
                if seen.more {
                    around.previous_cursor = cursor(seen.last.as_ref())?;
                }
            }
        }
        Ok(around)
    }
}

/// How one statement is read.
#[derive(Clone)]
struct Way {
    guard: Guard,
    /// If it is stepped here: how.
    stepwise: Option<Stepwise>,
    plan: PlanKind,
    soon: bool,
    /// What the database's version is to it, if it is stepped here.
    version: Version,
}
