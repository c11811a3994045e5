//! A statement's rows as a list reads them: up to its length, with a look at the one behind it, and with
//! what has to be known of the first and the last.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::BoxStream;
use sqlx::{Either, Row};

use super::ListError;
use super::cursor::KeyValue;
use super::error::statement_error;
use crate::db::{SqlDatabase, Step};

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
}

/// What to see besides the rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    /// How many rows belong to the page.
    pub(super) rows: u64,
    /// How many order keys stand behind the query's own columns; none if they were not selected.
    pub(super) keys: usize,
    /// Whether the snapshot is the last column.
    pub(super) snapshot: bool,
    /// Whether the filters have values.
    pub(super) filtered: bool,
}

/// A statement's rows.
pub(super) struct Rows<'c, DB: SqlDatabase> {
    rows: BoxStream<'c, Step<DB>>,
    look: Look,
    pub(super) seen: Seen,
    /// Is set once a row has come.
    flowing: Option<Arc<AtomicBool>>,
    database: PhantomData<fn() -> DB>,
}

impl<'c, DB: SqlDatabase> Rows<'c, DB> {
    pub(super) fn new(rows: BoxStream<'c, Step<DB>>, look: Look) -> Self {
        Rows { rows, look, seen: Seen::default(), flowing: None, database: PhantomData }
    }

    /// Tells through this when rows come.
    pub(super) fn telling(mut self, flowing: Arc<AtomicBool>) -> Self {
        self.flowing = Some(flowing);
        self
    }

    fn see(&mut self, row: &DB::Row) -> Result<(), ListError> {
        let Look { rows, keys, snapshot, .. } = self.look;
        if snapshot && self.seen.rows == 0 {
            self.seen.snapshot = DB::snapshot(row).map_err(ListError::Decode)?;
        }
        if self.seen.rows == 0
            && let Some(flowing) = &self.flowing
        {
            flowing.store(true, Ordering::Relaxed);
        }
        self.seen.rows += 1;
        if keys > 0 && (self.seen.rows == 1 || self.seen.rows == rows) {
            let behind = usize::from(snapshot);
            let from = row.len() - keys - behind;
            let values = (from..from + keys).map(|index| DB::key(row, index));
            let values = values.collect::<Result<Vec<_>, _>>().map_err(ListError::Decode)?;
            if self.seen.rows == rows {
                self.seen.last = Some(values.clone());
            }
            if self.seen.rows == 1 {
                self.seen.first = Some(values);
            }
        }
        Ok(())
    }
}

impl<DB: SqlDatabase> Unpin for Rows<'_, DB> {}

impl<DB: SqlDatabase> Stream for Rows<'_, DB> {
    type Item = Result<DB::Row, ListError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            return Poll::Ready(match ready!(this.rows.as_mut().poll_next(context)) {
                Some(Ok(Either::Right(row))) if this.seen.rows < this.look.rows => {
                    Some(this.see(&row).map(|()| row))
                }
                Some(Ok(Either::Right(_))) => {
                    this.seen.more = true;
                    continue;
                }
                Some(Ok(Either::Left(_))) => continue,
                Some(Err(error)) => {
                    let error = statement_error::<DB>(error, this.look.filtered);
                    // What the database refuses has ended; what was lost is not used again.
                    this.seen.ended = !error.is_lost::<DB>();
                    Some(Err(error))
                }
                None => {
                    this.seen.ended = true;
                    None
                }
            });
        }
    }
}
