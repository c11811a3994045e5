//! `stream`: a whole list as bytes that are made as they are taken. One statement, so one snapshot; its
//! rows are rendered batch by batch, each on the cores that are idle, and the next batch is not begun
//! before the last one was taken. So memory stays flat however long the list is, and a slow client slows
//! down the database instead of filling the memory.

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::ListError;
use super::error::unwrap_failure;
use super::format::Format;
use super::lease::Lease;
use super::plan::{self, Read};
use super::query::{ListQuery, Request, Statement};
use super::render::{Elements, Render, Rendering};
use super::rows::{Look, Rows, Seen};
use super::shape::Shape;
use super::stepped;
use super::strategy::Stepwise;
use super::survey;
use crate::admission::cost::CostModel;
use crate::core::Core;
use crate::db::{Reading, SqlDatabase, Stepping as _};
use crate::job::owner::{Owner, Wish};
use crate::list::cursor::KeyValue;
use crate::mode::{Mode, Reason};
use crate::pool::Multicore;
use crate::task::within;

/// What a batch may take to render on one core: long enough that waiting for the last helper does not
/// show, short enough that the first bytes come soon.
const BATCH_TIME: Duration = Duration::from_millis(40);
/// How many bytes a batch may have: they are held in memory, with the rows they are made from.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// How many rows a batch has, whatever is known of them.
const BATCH_ROWS: std::ops::RangeInclusive<usize> = 64..=8_192;

/// A list as a stream of bytes.
///
/// Ends with an error when something fails after the first bytes were given; what has come by then is not
/// a whole document, and must not be passed on as one.
#[must_use = "a stream does nothing unless it is read"]
pub struct Export {
    /// What was made for the first batch, before anyone could be told anything else.
    first: Option<Bytes>,
    chunks: mpsc::Receiver<Bytes>,
    /// Makes chunks while it is polled; none once it has ended.
    making: Option<Making>,
    /// Why it ended, told behind the last chunk.
    failed: Option<ListError>,
    format: Format,
    mode: Mode,
}

type Making = Pin<Box<dyn Future<Output = Result<(), ListError>> + Send>>;

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Export {
    /// In which format its bytes are.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How the first batch was made.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

impl Stream for Export {
    type Item = Result<Bytes, ListError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        loop {
            // What is made already goes first, also before an error that came after it. Pending does not mean
            // that nothing is there: Tokio says so, too, when a task has had its share.
            if let Poll::Ready(taken) = this.chunks.poll_recv(context) {
                return Poll::Ready(match taken {
                    Some(chunk) => Some(Ok(chunk)),
                    None => this.failed.take().map(Err),
                });
            }
            let Some(making) = &mut this.making else { return Poll::Pending };
            match making.as_mut().poll(context) {
                Poll::Ready(ended) => {
                    // With it goes the sender, so that the channel ends behind its last chunk.
                    this.making = None;
                    this.failed = ended.err();
                }
                Poll::Pending => {
                    let taken = task::ready!(this.chunks.poll_recv(context));
                    return Poll::Ready(taken.map(Ok));
                }
            }
        }
    }
}

impl<DB: SqlDatabase> Multicore<DB> {
    /// Reads a whole list and gives it as a stream of bytes in `format`, in order and from one snapshot.
    /// Rendering is done by whoever reads the stream, with the help of idle workers where that pays. In
    /// memory is one batch of rows: some megabytes, whatever the list's length.
    ///
    /// The pool's `timeout` does not limit it, since a client may take its time; the query's own does.
    /// A connection of the application's pool is held to the end, and so is the snapshot: meanwhile SQLite
    /// cannot shorten its write-ahead log, nor PostgreSQL vacuum rows that were deleted since.
    ///
    /// # Errors
    /// As [`list`](Multicore::list), for all that fails before the first bytes; the stream itself ends
    /// with an error for what fails later.
    ///
    /// # Cancel safety
    /// Dropping the stream cancels the statement in the database and gives the connection back once it is
    /// clean.
    pub async fn stream<R, V, F>(
        &self,
        query: ListQuery<R, DB>,
        render: F,
        format: Format,
    ) -> Result<Export, ListError>
    where
        R: 'static,
        V: Serialize + 'static,
        F: Fn(R) -> V + Send + Sync + 'static,
    {
        let decode = query.decode();
        let request = Arc::new(query.request()?);
        let model = self.core.costs.of::<Render<DB, R, V, F>>();
        let work = Arc::new(Render::<DB, R, V, F>::streamed(decode, render, format, model.item_bytes()));
        // One that is beyond what a clock can say is none.
        let until = request.timeout.and_then(|after| Some((after, Instant::now().checked_add(after)?)));
        let mut retried = false;
        loop {
            let (sender, chunks) = mpsc::channel(1);
            let (told, mut first) = oneshot::channel();
            let maker = Maker {
                core: Arc::clone(&self.core),
                request: Arc::clone(&request),
                work: Arc::clone(&work),
                model: Arc::clone(model),
                format,
                until,
                sender,
                told: Some(told),
            };
            let mut making: Option<Making> = Some(Box::pin(maker.make()));
            // To the first bytes, so that what fails before them is an error like a list's.
            match poll_fn(|context| begin(&mut making, &mut first, context)).await {
                Ok((first, mode)) => {
                    return Ok(Export { first: Some(first), chunks, making, failed: None, format, mode });
                }
                Err(error) if error.is_lost::<DB>() && !retried => {
                    let cause = error.source().map(ToString::to_string);
                    tracing::warn!(cause, "a database connection was lost; the list is read again");
                    retried = true;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Makes until there are first bytes; an error only if there were none before it.
fn begin(
    making: &mut Option<Making>,
    first: &mut oneshot::Receiver<(Bytes, Mode)>,
    context: &mut Context<'_>,
) -> Poll<Result<(Bytes, Mode), ListError>> {
    let made = making.as_mut().map_or(Poll::Pending, |making| making.as_mut().poll(context));
    let begun = first.try_recv().ok();
    match (begun, made) {
        (Some(begun), Poll::Pending) => Poll::Ready(Ok(begun)),
        (Some(begun), Poll::Ready(ended)) => {
            *making = ended.err().map(|error| -> Making { Box::pin(ready(Err(error))) });
            Poll::Ready(Ok(begun))
        }
        (None, Poll::Pending) => Poll::Pending,
        (None, Poll::Ready(ended)) => {
            *making = None;
            let nothing = || ListError::Database("the export ended before it began".into());
            Poll::Ready(Err(ended.err().unwrap_or_else(nothing)))
        }
    }
}

/// Makes an export's bytes.
struct Maker<DB: SqlDatabase, W> {
    core: Arc<Core<DB>>,
    request: Arc<Request<DB>>,
    work: Arc<W>,
    model: Arc<CostModel>,
    format: Format,
    /// The time limit, and when it is up.
    until: Option<(Duration, Instant)>,
    sender: mpsc::Sender<Bytes>,
    /// Takes the first bytes, and how they were made.
    told: Option<oneshot::Sender<(Bytes, Mode)>>,
}

impl<DB, W> Maker<DB, W>
where
    DB: SqlDatabase,
    W: Rendering<Item = DB::Item>,
{
    async fn make(mut self) -> Result<(), ListError> {
        let Some((after, until)) = self.until else { return self.read().await };
        let left = until.saturating_duration_since(Instant::now());
        within(left, self.read()).await.unwrap_or(Err(ListError::Timeout { after }))
    }

    async fn read(&mut self) -> Result<(), ListError> {
        let mut lease = Lease::acquire(&self.core).await?;
        let result = self.read_on(&mut lease).await;
        lease.settle(result)
    }

    async fn read_on(&mut self, lease: &mut Lease<DB>) -> Result<(), ListError> {
        let core = Arc::clone(&self.core);
        if core.transaction_pooling {
            lease.begin_transaction("BEGIN").await?;
        }
        let request = Arc::clone(&self.request);
        let shape = match survey::shape(&core.shapes, lease.connection(), &request).await {
            Ok(shape) => shape,
            Err(error) => return Err(lease.refused(error)),
        };
        let plan = survey::plan(&shape, lease.connection(), &request, &Read::default()).await?;
        let mut values = Vec::new();
        let stepwise = stepped::stepwise(lease, &shape, &request, plan, 0, &mut values).await?;
        let look = Look { rows: u64::MAX, filtered: request.parts.bound > 0, ..Look::default() };
        let mut made = Made::default();
        let mut before = Seen::default();
        if let Some(stepwise) = stepwise {
            before = self.step(lease, &shape, stepwise, &values, look, &mut made).await?;
        }
        if !before.ended {
            let guard = lease.guard(&shape, plan, false).await?;
            let planned = plan::statement(&request.parts, &Read { tag: guard.tag(), ..Read::default() });
            let Statement { sql, arguments } = request.bind(planned, &[])?;
            let flowing = lease.flowing();
            let stream = DB::rows(lease.begin(guard), sql, arguments, !core.transaction_pooling);
            let mut rows = Rows::<DB>::new(stream, look).behind(before).telling(flowing);
            let done = self.batches(&core, &mut rows, DB::READING, &mut made).await;
            let ended = rows.seen.ended;
            drop(rows);
            if ended {
                lease.ended();
            }
            done?;
        }
        let close = self.format.close(made.opened);
        if !close.is_empty() || self.told.is_some() {
            self.give(Bytes::from_static(close), made.mode).await;
        }
        core.decisions.count(made.mode);
        lease.end_transaction().await
    }

    /// Makes batches from a statement that is stepped here, as far as it comes.
    async fn step(
        &mut self,
        lease: &mut Lease<DB>,
        shape: &Shape,
        stepwise: Stepwise,
        values: &[KeyValue],
        look: Look,
        made: &mut Made,
    ) -> Result<Seen, ListError> {
        let core = Arc::clone(&self.core);
        let planned = plan::statement(&self.request.parts, &Read::default());
        let Some(mut hand) = lease.hand(stepwise.limit.is_some()).await? else {
            lease.left_transaction();
            return Ok(Seen::default());
        };
        let mut in_transaction = false;
        let opened = stepped::open::<DB>(&mut hand, stepwise, &planned.sql, values, &mut in_transaction);
        let (mut done, mut seen) = (Ok(()), Seen::default());
        if opened {
            let mut rows = Rows::<DB>::stepped(&mut hand, look);
            done = self.batches(&core, &mut rows, Reading::READY, made).await;
            seen = mem::take(&mut rows.seen);
        }
        if seen.stalled {
            shape.stall();
        } else if opened && in_transaction {
            in_transaction = hand.commit().is_err();
        }
        drop(hand);
        if !in_transaction {
            lease.left_transaction();
        }
        done.map(|()| seen)
    }

    /// Makes batch after batch until the rows end, or stall.
    async fn batches(
        &mut self,
        core: &Core<DB>,
        rows: &mut Rows<'_, DB>,
        pace: Reading,
        made: &mut Made,
    ) -> Result<(), ListError> {
        while !rows.seen.ended && !rows.seen.stalled {
            let expected = self.batch_rows();
            let wish = Wish { execution: self.request.wish.execution, quiet: true, ..Wish::default() };
            let mut owner = Owner::new(core, Arc::clone(&self.work), &self.model, wish, expected);
            owner.pace(pace);
            self.work.begin_batch();
            let batch = Batch { rows: &mut *rows, work: &*self.work, left: expected };
            let fed = owner.feed(pin!(batch)).await;
            let finished = owner.finish().await.map_err(unwrap_failure)?;
            fed?;
            made.mode = together(made.mode, finished.mode);
            let chunks = finished.outs.into_iter().filter(|out| out.rows > 0);
            for mut chunk in chunks.map(Elements::into_bytes) {
                if !mem::replace(&mut made.opened, true) {
                    chunk = self.format.open(chunk, self.work.header());
                }
                self.give(chunk.into(), made.mode).await;
            }
        }
        Ok(())
    }

    /// Gives bytes to the reader, and waits until it has taken what was given before.
    async fn give(&mut self, chunk: Bytes, mode: Mode) {
        match self.told.take() {
            // Nobody takes them who dropped the stream, and this with it.
            Some(told) => drop(told.send((chunk, mode))),
            None => drop(self.sender.send(chunk).await),
        }
    }

    fn batch_rows(&self) -> usize {
        let cost = self.model.estimate().map_or(u64::MAX, |cost| cost.per_item.max(1));
        let by_time = usize::try_from(BATCH_TIME.as_nanos() as u64 / cost).unwrap_or(usize::MAX);
        let by_bytes = BATCH_BYTES / self.work.row_bytes().max(1);
        by_time.min(by_bytes).clamp(*BATCH_ROWS.start(), *BATCH_ROWS.end())
    }
}

/// What was made so far.
struct Made {
    /// How, all in all.
    mode: Mode,
    /// Whether there were bytes.
    opened: bool,
}

impl Default for Made {
    fn default() -> Self {
        Made { mode: Mode::Sequential(Reason::TooSmall), opened: false }
    }
}

/// How two batches were made, all in all.
fn together(one: Mode, other: Mode) -> Mode {
    match (one, other) {
        (Mode::Parallel { participants: a, chunks: x }, Mode::Parallel { participants: b, chunks: y }) => {
            Mode::Parallel { participants: a.max(b), chunks: x + y }
        }
        (parallel @ Mode::Parallel { .. }, Mode::Sequential(_))
        | (Mode::Sequential(_), parallel @ Mode::Parallel { .. }) => parallel,
        (Mode::Sequential(Reason::TooSmall), other) => other,
        (one, Mode::Sequential(_)) => one,
    }
}

/// So many rows of a statement as a stream of their own; fewer if they become more bytes than expected.
struct Batch<'r, 'c, DB: SqlDatabase, W> {
    rows: &'r mut Rows<'c, DB>,
    work: &'r W,
    left: usize,
}

impl<DB: SqlDatabase, W> Unpin for Batch<'_, '_, DB, W> {}

impl<DB: SqlDatabase, W: Rendering> Stream for Batch<'_, '_, DB, W> {
    type Item = Result<DB::Item, ListError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.left == 0 || this.work.batch_bytes() >= BATCH_BYTES {
            return Poll::Ready(None);
        }
        let next = task::ready!(Pin::new(&mut *this.rows).poll_next(context));
        this.left -= 1;
        Poll::Ready(next)
    }
}
