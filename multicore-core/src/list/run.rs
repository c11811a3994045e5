//! Reading a page: one query streamed by the owner, rows decoded, rendered and encoded in chunks by
//! owner and helpers, bytes put together in order.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_core::stream::BoxStream;
use serde::Serialize;
use sqlx::{Either, FromRow};

use super::ListError;
use super::query::{ListQuery, Page, Paging, Start};
use crate::db::{SqlDatabase, Step};
use crate::error::BoxError;
use crate::job::owner::{Owner, Wish};
use crate::job::{Failure, Work};
use crate::mode::Mode;
use crate::pool::Multicore;
use crate::task::within;

/// A chunk that the owner adds to is closed beyond this size: a few socket writes' worth, and small
/// enough that growing it copies little.
const CHUNK_BYTES: usize = 64 * 1024;
/// What a rendered row is taken to need before the first was seen.
const ROW_BYTES: usize = 256;

/// A page as JSON, in pieces that follow each other.
#[derive(Debug)]
pub struct List {
    chunks: Vec<Bytes>,
    rows: usize,
    mode: Mode,
    around: Around,
}

/// What is around a page, as far as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// Whether rows follow; none where that was not looked at.
    pub has_next: Option<bool>,
    /// Whether rows come before; none where that was not looked at.
    pub has_previous: Option<bool>,
    /// A cursor to the rows that follow, on pages by cursor that have a next one.
    pub next_cursor: Option<String>,
    /// A cursor to the rows before, on pages by cursor that have a previous one.
    pub previous_cursor: Option<String>,
    /// How many rows the whole list has, where [`with_count`](super::ListQuery::with_count) asked.
    pub count: Option<u64>,
}

impl List {
    /// What is around it.
    pub fn around(&self) -> &Around {
        &self.around
    }

    /// The pieces of the JSON array, brackets included, in order.
    pub fn into_chunks(self) -> Vec<Bytes> {
        self.chunks
    }

    /// How many rows the page has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How it was made.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The JSON array in one piece.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.chunks.concat()
    }
}

impl<DB: SqlDatabase> Multicore<DB> {
    /// Reads one page and returns it as a JSON array. The caller's own task reads the rows from a
    /// connection of the application's pool and renders them; idle workers help if the work pays for
    /// waking them. The bytes are the same either way.
    ///
    /// `render` turns a row into what is serialised. It runs on several threads at a time.
    ///
    /// # Errors
    /// The first error in the order of the rows: a row that cannot be decoded or serialised, a panic
    /// of `render`, the database's own. Also when no connection is free in time, and when the pool's
    /// `timeout` passes.
    ///
    /// # Cancel safety
    /// Dropping the future gives the connection back, cancels what was not begun and drops the result.
    pub async fn list<R, V, F>(
        &self,
        query: ListQuery<R, DB>,
        page: impl Into<Paging>,
        render: F,
    ) -> Result<List, ListError>
    where
        R: for<'r> FromRow<'r, <DB as sqlx::Database>::Row> + 'static,
        V: Serialize + 'static,
        F: Fn(R) -> V + Send + Sync + 'static,
    {
        let page = page.into();
        let Start::Offset(offset) = page.start else { unreachable!("not built yet") };
        let read = self.read(query, Page { limit: page.limit, offset }, render);
        match self.core.timeout {
            None => read.await,
            Some(after) => within(after, read).await.unwrap_or(Err(ListError::Timeout { after })),
        }
    }

    async fn read<R, V, F>(&self, query: ListQuery<R, DB>, page: Page, render: F) -> Result<List, ListError>
    where
        R: for<'r> FromRow<'r, <DB as sqlx::Database>::Row> + 'static,
        V: Serialize + 'static,
        F: Fn(R) -> V + Send + Sync + 'static,
    {
        let wish = Wish { execution: query.execution, chunk_length: query.chunk_length };
        let statement = query.statement(page)?;
        let row_bytes = AtomicUsize::new(ROW_BYTES);
        let work = Render::<DB, R, V, F> { render, row_bytes, types: PhantomData };
        let model = self.core.costs.of::<Render<DB, R, V, F>>();
        let mut connection = DB::acquire(&self.core.source).await.map_err(no_connection)?;
        let expected = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let mut owner = Owner::new(&self.core, work, model, wish, expected);
        let read = {
            let rows = DB::rows(&mut connection, statement.sql, statement.arguments);
            let mut rows = Rows::<DB> { rows };
            owner.feed(Pin::new(&mut rows)).await
        };
        // Others may use it while the rest is rendered.
        drop(connection);
        let finished = owner.finish().await.map_err(|failure| match failure {
            Failure::Error(error) => error,
            Failure::Panicked(message) => ListError::Panicked { message },
        })?;
        // A row that failed comes before the end of the rows, so it was reported first.
        read?;
        let rows = finished.outs.iter().map(|chunk| chunk.rows).sum();
        let chunks = array(finished.outs.into_iter().map(|chunk| chunk.json));
        Ok(List { chunks, rows, mode: finished.mode, around: Around::default() })
    }
}

/// Why the pool gave no connection.
fn no_connection(error: BoxError) -> ListError {
    match error.downcast::<sqlx::Error>() {
        Ok(error) => ListError::from(*error),
        Err(error) => ListError::Database(error),
    }
}

/// Turns chunks of elements, each with a comma before it, into an array.
fn array(chunks: impl Iterator<Item = Vec<u8>>) -> Vec<Bytes> {
    let mut chunks: Vec<Vec<u8>> = chunks.filter(|chunk| !chunk.is_empty()).collect();
    let Some(first) = chunks.first_mut() else { return vec![Bytes::from_static(b"[]")] };
    first[0] = b'[';
    if let Some(last) = chunks.last_mut() {
        last.push(b']');
    }
    chunks.into_iter().map(Bytes::from).collect()
}

/// A statement's rows, without the statement's end.
struct Rows<'c, DB: SqlDatabase> {
    rows: BoxStream<'c, Step<DB>>,
}

impl<DB: SqlDatabase> Unpin for Rows<'_, DB> {}

impl<DB: SqlDatabase> Stream for Rows<'_, DB> {
    type Item = Result<<DB as sqlx::Database>::Row, ListError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            return Poll::Ready(match ready!(this.rows.as_mut().poll_next(context)) {
                Some(Ok(Either::Right(row))) => Some(Ok(row)),
                Some(Ok(Either::Left(_))) => continue,
                Some(Err(error)) => Some(Err(ListError::Database(error.into()))),
                None => None,
            });
        }
    }
}

/// Decodes, renders and encodes rows.
struct Render<DB, R, V, F> {
    render: F,
    /// What a rendered row needed last, for the size of the next chunk.
    row_bytes: AtomicUsize,
    types: PhantomData<fn(DB, R) -> V>,
}

/// Elements of the array, each with a comma before it.
struct Elements {
    json: Vec<u8>,
    rows: usize,
}

impl<DB, R, V, F> Work for Render<DB, R, V, F>
where
    DB: SqlDatabase,
    R: for<'r> FromRow<'r, <DB as sqlx::Database>::Row> + 'static,
    V: Serialize + 'static,
    F: Fn(R) -> V + Send + Sync + 'static,
{
    type Item = <DB as sqlx::Database>::Row;
    type Out = Elements;
    type Error = ListError;

    fn begin(&self, items: usize) -> Elements {
        let bytes = items.saturating_mul(self.row_bytes.load(Ordering::Relaxed)).min(CHUNK_BYTES);
        Elements { json: Vec::with_capacity(bytes + bytes / 8), rows: 0 }
    }

    fn add(&self, row: Self::Item, out: &mut Elements) -> Result<(), ListError> {
        let row = R::from_row(&row).map_err(|error| ListError::Decode(error.into()))?;
        let view = (self.render)(row);
        out.json.push(b',');
        serde_json::to_writer(&mut out.json, &view).map_err(|error| ListError::Encode(error.into()))?;
        out.rows += 1;
        if out.rows.is_power_of_two() {
            self.row_bytes.store(out.json.len() / out.rows, Ordering::Relaxed);
        }
        Ok(())
    }

    fn is_full(&self, out: &Elements) -> bool {
        out.json.len() >= CHUNK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_become_one_array() {
        let texts = |of: &[&str]| {
            let chunks = of.iter().map(|chunk| chunk.as_bytes().to_vec()).collect::<Vec<_>>();
            String::from_utf8(array(chunks.into_iter()).concat()).unwrap()
        };
        assert_eq!(texts(&[]), "[]");
        assert_eq!(texts(&["", ""]), "[]");
        assert_eq!(texts(&[",1"]), "[1]");
        assert_eq!(texts(&[",1,2", "", ",3"]), "[1,2,3]");
    }
}
