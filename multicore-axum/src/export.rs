//! `parallel_stream` and its response: a whole list as a body that is made as the client takes it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum_core::body::Body;
use axum_core::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use multicore_core::{Export, Format, ListQuery, Mode, SqlDatabase};
use serde::Serialize;

use crate::list_problem::ListError;
use crate::listing::{MULTICORE, insert};
use crate::multicore::Multicore;

impl<DB: SqlDatabase> Multicore<DB> {
    /// Streams all rows of `query` in `format`, rendered on the cores that are idle, in order and from one
    /// snapshot. The body is made as the client takes it: some megabytes are in memory at a time, whatever
    /// the list's length, and a slow client slows down the database.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite-driver")] mod example {
    /// use multicore_axum::{Format, ListError, ListQuery, Multicore, StreamedListing, asc};
    /// # #[derive(sqlx::FromRow, serde::Serialize)] struct UserRow { id: i64 }
    ///
    /// async fn export(mc: Multicore<sqlx::Sqlite>) -> Result<StreamedListing, ListError> {
    ///     let query = ListQuery::<UserRow>::select("id").from("users").order_by([asc("id")]);
    ///     mc.parallel_stream(query, |row: UserRow| row, Format::Ndjson).await
    /// }
    /// # }
    /// ```
    ///
    /// The pool's `timeout` does not limit it; [`ListQuery::timeout`] does.
    ///
    /// # Errors
    /// As [`parallel_list`](Multicore::parallel_list), for what fails before the first bytes. What fails
    /// later breaks the body off, so that the client sees that it is not whole, and is logged.
    ///
    /// # Cancel safety
    /// Dropping the future, or the response's body (the client is gone), cancels the statement in the
    /// database and gives the connection back once it is clean.
    pub async fn parallel_stream<R, V, F>(
        &self,
        query: ListQuery<R, DB>,
        render: F,
        format: Format,
    ) -> Result<StreamedListing, ListError>
    where
        R: 'static,
        V: Serialize + 'static,
        F: Fn(R) -> V + Send + Sync + 'static,
    {
        Ok(StreamedListing { export: self.stream(query, render, format).await? })
    }
}

/// A whole list as a streamed response.
#[derive(Debug)]
#[must_use = "a streamed listing is a response: return it from the handler"]
pub struct StreamedListing {
    export: Export,
}

impl StreamedListing {
    /// How its first batch was made.
    pub fn mode(&self) -> Mode {
        self.export.mode()
    }

    /// The media type of its format.
    pub fn content_type(&self) -> &'static str {
        match self.export.format() {
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            _ => "application/json",
        }
    }
}

impl IntoResponse for StreamedListing {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        insert(&mut headers, MULTICORE, self.mode().to_string());
        (headers, Body::new(Streamed { export: self.export, sent: false })).into_response()
    }
}

/// A body of unknown length. An error in it makes the server close the connection, or reset the stream,
/// without the end that a whole body has.
struct Streamed {
    export: Export,
    /// A whole batch was given away that may still wait to be sent.
    sent: bool,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = ListError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ListError>>> {
        if std::mem::take(&mut self.sent) {
            // The server sends what it has when there is no more for the moment. Without this it would keep a
            // batch while the next one is made, and drop it, the head of the answer included, should that fail.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = ready!(Pin::new(&mut self.export).poll_next(context));
        Poll::Ready(next.map(|next| match next {
            Ok(bytes) => {
                // Within a batch the server may collect what it likes to write at once.
                self.sent = !self.export.has_more_made();
                Ok(Frame::data(bytes))
            }
            Err(error) => {
                let error = ListError::from(error);
                // There is no response left to tell it to the client.
                error.log();
                Err(error)
            }
        }))
    }

    /// Known with the last bytes, so that the body's end is written with them: alone it would wait for the
    /// client's acknowledgement of what went before.
    fn is_end_stream(&self) -> bool {
        self.export.is_over()
    }
}
