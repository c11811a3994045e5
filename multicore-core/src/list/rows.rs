//! A statement's rows as a list reads them: up to its length, with a look at the one behind it, and with
//! what has to be known of the first and the last.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::BoxStream;
use sqlx::Either;

use super::ListError;
use super::cursor::KeyValue;
use super::error::statement_error;
use super::render::Rendering;
use crate::db::{Next, SqlDatabase, Step, Stepping};
use crate::job::owner::Owner;

/// What was seen of the rows besides the rows.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) rows: u64,
    /// Whether there was a row behind the last one asked for.
    pub(super) more: bool,
    /// The keys of the first row and of the last one asked for.
    pub(super) first: Option<Vec<KeyValue>>,
    pub(super) last: Option<Vec<KeyValue>>,
    pub(super) snapshot: Option<i64>,
    /// Whether the statement came to its end.
    pub(super) ended: bool,
    /// Whether it stalled where it was stepped, so that the driver must go on behind these rows.
    pub(super) stalled: bool,
}

/// What to see besides the rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    /// How many rows belong to the page.
    pub(super) rows: u64,
    /// How many order keys stand behind the query's own columns; none if they were not selected.
    pub(super) keys: usize,
    /// Whether the page does without the keys where they cannot be decoded.
    pub(super) spares_keys: bool,
    /// Whether the snapshot is the last column.
    pub(super) snapshot: bool,
    /// Whether the filters have values.
    pub(super) filtered: bool,
}

impl Seen {
    /// Looks at the next row of the page.
    pub(super) fn see<DB: SqlDatabase>(&mut self, look: &Look, row: &DB::Item) -> Result<(), ListError> {
        let Look { rows, keys, snapshot, spares_keys, .. } = *look;
        if snapshot && self.rows == 0 {
            self.snapshot = DB::item_snapshot(row).map_err(ListError::Decode)?;
        }
        self.rows += 1;
        if keys > 0 && (self.rows == 1 || self.rows == rows) {
            let behind = usize::from(snapshot);
            let from = DB::width(row) - keys - behind;
            let values = (from..from + keys).map(|index| DB::item_key(row, index));
            let values = match values.collect::<Result<Vec<_>, _>>() {
                Ok(values) => values,
                Err(_) if spares_keys => return Ok(()),
                Err(error) => return Err(ListError::Decode(error)),
            };
            if self.rows == rows {
                self.last = Some(values.clone());
            }
            if self.rows == 1 {
                self.first = Some(values);
            }
        }
        Ok(())
    }

    /// The statement ended with an error.
    pub(super) fn fail<DB: SqlDatabase>(&mut self, look: &Look, error: sqlx::Error) -> ListError {
        let error = statement_error::<DB>(error, look.filtered);
        // What the database refuses has ended; what was lost is not used again.
        self.ended = !error.is_lost::<DB>();
        error
    }
}

/// A statement's rows.
pub(super) struct Rows<'c, DB: SqlDatabase> {
    source: Source<'c, DB>,
    look: Look,
    pub(super) seen: Seen,
    /// How many rows to pass over, which have been seen already.
    pass: u64,
    /// Is set once a row has come.
    flowing: Option<Arc<AtomicBool>>,
}

/// Who steps the statement.
enum Source<'c, DB: SqlDatabase> {
    Driver(BoxStream<'c, Step<DB>>),
    Here(&'c mut (dyn Stepping<DB::Item> + 'c)),
}

impl<'c, DB: SqlDatabase> Rows<'c, DB> {
    /// Of a statement that the driver steps.
    pub(super) fn new(rows: BoxStream<'c, Step<DB>>, look: Look) -> Self {
        Rows { source: Source::Driver(rows), look, seen: Seen::default(), pass: 0, flowing: None }
    }

    /// Of a statement that is stepped here.
    pub(super) fn stepped(hand: &'c mut (dyn Stepping<DB::Item> + 'c), look: Look) -> Self {
        Rows { source: Source::Here(hand), look, seen: Seen::default(), pass: 0, flowing: None }
    }

    /// Goes on behind what another statement of the same text has given on the same snapshot.
    pub(super) fn behind(mut self, seen: Seen) -> Self {
        self.pass = seen.rows;
        self.seen = Seen { stalled: false, ..seen };
        self
    }

    /// Tells through this when rows come.
    pub(super) fn telling(mut self, flowing: Arc<AtomicBool>) -> Self {
        self.flowing = Some(flowing);
        self
    }

    /// Works on them.
    pub(super) async fn feed<W>(
        &mut self,
        owner: &mut Owner<'_, DB, W>,
        backward: bool,
    ) -> Result<(), ListError>
    where
        W: Rendering<Item = DB::Item>,
    {
        if !backward {
            return owner.feed(Pin::new(self)).await;
        }
        // Read from the end, and turned around before anyone sees them.
        let mut all = Vec::new();
        while let Some(row) = poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await {
            all.push(row?);
        }
        if self.seen.stalled {
            return Ok(());
        }
        all.reverse();
        owner.fill(all);
        Ok(())
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Result<Next<DB::Item>, sqlx::Error>> {
        match &mut self.source {
            Source::Driver(rows) => loop {
                return Poll::Ready(match ready!(rows.as_mut().poll_next(context)) {
                    Some(Ok(Either::Right(row))) => Ok(Next::Row(DB::item(row))),
                    Some(Ok(Either::Left(_))) => continue,
                    Some(Err(error)) => Err(error),
                    None => Ok(Next::End),
                });
            },
            Source::Here(hand) => Poll::Ready(hand.next()),
        }
    }
}

impl<DB: SqlDatabase> Unpin for Rows<'_, DB> {}

impl<DB: SqlDatabase> Stream for Rows<'_, DB> {
    type Item = Result<DB::Item, ListError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            return Poll::Ready(match ready!(this.poll_source(context)) {
                Ok(Next::Row(_)) if this.pass > 0 => {
                    this.pass -= 1;
                    continue;
                }
                Ok(Next::Row(row)) if this.seen.rows < this.look.rows => {
                    if let Some(flowing) = this.flowing.take() {
                        flowing.store(true, Ordering::Relaxed);
                    }
                    Some(this.seen.see::<DB>(&this.look, &row).map(|()| row))
                }
                Ok(Next::Row(_)) => {
                    this.seen.more = true;
                    continue;
                }
                Ok(Next::End) => {
                    this.seen.ended = true;
                    None
                }
                Ok(Next::Stalled) => {
                    this.seen.stalled = true;
                    None
                }
                Err(error) => Some(Err(this.seen.fail::<DB>(&this.look, error))),
            });
        }
    }
}
