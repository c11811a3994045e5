//! `stream`: a whole list as bytes that are made as they are taken. One statement, so one snapshot; its
//! rows are rendered batch by batch, each on the cores that are idle, and the next batch is not begun
//! before the last one was taken. So memory stays flat however long the list is, and a slow client slows
//! down the database instead of filling the memory.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use serde::Serialize;
use tokio::sync::mpsc;

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
/// Chunks of a batch are put together up to so many bytes: a chunk of rows that cost much is short, and a server
/// writes whenever it has some pieces, 16 of them in hyper.
const PIECE_BYTES: usize = 16 * 1024;
/// How many rows a batch has, whatever is known of them.
const BATCH_ROWS: std::ops::RangeInclusive<usize> = 64..=8_192;

/// A list as a stream of bytes.
///
/// Ends with an error when something fails after the first bytes were given; what has come by then is not
/// a whole document, and must not be passed on as one.
#[must_use = "a stream does nothing unless it is read"]
pub struct Export {
    /// What is made and was not taken yet.
    made: VecDeque<Bytes>,
    batches: mpsc::Receiver<(Vec<Bytes>, Mode)>,
    /// Makes batches while it is polled; none once it has ended.
    making: Option<Making>,
    /// Why it ended, told behind the last batch.
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

    /// Whether the next bytes are there already, and taking them makes nothing.
    pub fn has_more_made(&self) -> bool {
        !self.made.is_empty()
    }

    /// Whether it ended well, and all was taken.
    pub fn is_over(&self) -> bool {
        self.made.is_empty() && self.making.is_none() && self.failed.is_none() && self.batches.is_empty()
    }

    /// Takes over the next batch, if one is made.
    fn take_batch(&mut self) -> Option<Mode> {
        let (batch, mode) = self.batches.try_recv().ok()?;
        self.made = batch.into();
        Some(mode)
    }
}

impl Stream for Export {
    type Item = Result<Bytes, ListError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(chunk) = this.made.pop_front() {
                return Poll::Ready(Some(Ok(chunk)));
            }
            // What is made already goes first, also before an error that came after it.
            if this.take_batch().is_some() {
                continue;
            }
            let Some(making) = &mut this.making else { return Poll::Ready(this.failed.take().map(Err)) };
            match making.as_mut().poll(context) {
                Poll::Ready(ended) => {
                    this.making = None;
                    this.failed = ended.err();
                }
                Poll::Pending if this.batches.is_empty() => return Poll::Pending,
                Poll::Pending => {}
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
            let (sender, batches) = mpsc::channel(1);
            let maker = Maker {
                core: Arc::clone(&self.core),
                request: Arc::clone(&request),
                work: Arc::clone(&work),
                model: Arc::clone(model),
                format,
                until,
                sender,
            };
            let mut export = Export {
                made: VecDeque::new(),
                batches,
                making: Some(Box::pin(maker.make())),
                failed: None,
                format,
                mode: Mode::Sequential(Reason::TooSmall),
            };
            // To the first bytes, so that what fails before them is an error like a list's.
            match poll_fn(|context| export.begin(context)).await {
                Ok(mode) => return Ok(Export { mode, ..export }),
                Err(error) if error.may_pass::<DB>() && !retried => {
                    error.log_retry::<DB>();
                    retried = true;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Export {
    /// Makes until there are first bytes; an error only if there were none before it.
    fn begin(&mut self, context: &mut Context<'_>) -> Poll<Result<Mode, ListError>> {
        let making = self.making.as_mut().map(|making| making.as_mut().poll(context));
        if let Some(Poll::Ready(_)) = making {
            self.making = None;
        }
        let ended = match making {
            Some(Poll::Ready(ended)) => ended.err(),
            Some(Poll::Pending) | None => None,
        };
        match self.take_batch() {
            Some(mode) => {
                self.failed = ended;
                Poll::Ready(Ok(mode))
            }
            None if self.making.is_some() => Poll::Pending,
            None => {
                let nothing = || ListError::Database("the export ended before it began".into());
                Poll::Ready(Err(ended.unwrap_or_else(nothing)))
            }
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
    sender: mpsc::Sender<(Vec<Bytes>, Mode)>,
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
        let Made { batch, mode, .. } = lease.settle(result)?;
        // Nothing comes behind it, so who takes it can tell that it is the last.
        self.give(batch, mode);
        Ok(())
    }

    /// Gives all batches but the last one, which it returns.
    async fn read_on(&mut self, lease: &mut Lease<DB>) -> Result<Made, ListError> {
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
        if !close.is_empty() || made.batch.is_empty() {
            put(&mut made.batch, close.to_vec());
        }
        core.decisions.count(made.mode);
        lease.end_transaction().await?;
        Ok(made)
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

    /// Makes batch after batch until the rows end, or stall, and gives each once it is known not to be the
    /// last.
    async fn batches(
        &mut self,
        core: &Core<DB>,
        rows: &mut Rows<'_, DB>,
        pace: Reading,
        made: &mut Made,
    ) -> Result<(), ListError> {
        while !rows.seen.ended && !rows.seen.stalled {
            if !made.batch.is_empty() {
                self.give(mem::take(&mut made.batch), made.mode);
                self.taken().await;
            }
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
                put(&mut made.batch, chunk);
            }
        }
        Ok(())
    }

    /// Gives a batch to the reader, who has taken the one before.
    fn give(&self, batch: Vec<Vec<u8>>, mode: Mode) {
        let batch = batch.into_iter().map(Bytes::from).collect();
        // Nobody takes it who dropped the stream, and this with it.
        let _dropped = self.sender.try_send((batch, mode));
    }

    /// Waits until the reader has taken what was given.
    async fn taken(&self) {
        let _gone = self.sender.reserve().await;
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
    /// What was made last and is not given yet.
    batch: Vec<Vec<u8>>,
}

/// Adds a chunk to a batch's pieces.
fn put(batch: &mut Vec<Vec<u8>>, chunk: Vec<u8>) {
    match batch.last_mut() {
        Some(last) if last.len() + chunk.len() <= PIECE_BYTES => last.extend_from_slice(&chunk),
        _ => batch.push(chunk),
    }
}

impl Default for Made {
    fn default() -> Self {
        Made { mode: Mode::Sequential(Reason::TooSmall), opened: false, batch: Vec::new() }
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
