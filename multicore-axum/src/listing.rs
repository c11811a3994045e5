//! `parallel_list` and its response: the pieces of JSON as a body, and headers that say how they were
//! made.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::{Duration, Instant};

use axum_core::body::Body;
use axum_core::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use multicore_core::{Around, List, ListQuery, Mode, Paging, SqlDatabase, Strategy};
use serde::Serialize;

use crate::list_problem::ListError;
use crate::multicore::Multicore;
use crate::page::{LinkStyle, PageRequest, links};
use crate::pieces::Pieces;

/// Says how a list was made.
pub(crate) const MULTICORE: HeaderName = HeaderName::from_static("multicore");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

impl<DB: SqlDatabase> Multicore<DB> {
    /// Reads one page of `query` and renders its rows to a JSON array, on the cores that are idle. The
    /// request's own task does the work, and gives the async thread to others after 0.2 to 1 ms while all of
    /// them are busy and after 10 ms at the latest; idle workers help if that pays. The bytes are the
    /// same either way, and the response says in its `Multicore` header how it went.
    ///
    /// `render` turns a row into what is serialised; it runs on several threads at a time.
    ///
    /// # Errors
    /// A page outside the limits, a cursor of another list, and whatever fails first in the order of the rows; as a response,
    /// [`ListError`] is a problem with a stable code.
    ///
    /// # Cancel safety
    /// Dropping the future (the client is gone) gives the connection back and cancels what was not
    /// begun.
    pub async fn parallel_list<R, V, F>(
        &self,
        query: ListQuery<R, DB>,
        page: impl PageRequest,
        render: F,
    ) -> Result<Listing, ListError>
    where
        R: 'static,
        V: Serialize + 'static,
        F: Fn(R) -> V + Send + Sync + 'static,
    {
        let started = self.0.server_timing.then(Instant::now);
        let paging = page.resolve(self.0.limits)?;
        let list = self.list(query, paging.clone(), render).await?;
        Ok(Listing::new(list, paging, &page, started))
    }

    /// As [`parallel_list`](Multicore::parallel_list), with the rows rendered in the pool's worker processes, by the
    /// function that was registered under the name `render` with
    /// [`add_render`](multicore_core::process::Tasks::add_render). For rendering that may crash, leak or hang; see
    /// [`list_in_processes`](multicore_core::Multicore::list_in_processes) for what it costs.
    ///
    /// # Errors
    /// As [`parallel_list`](Multicore::parallel_list), and what becomes of the workers.
    ///
    /// # Cancel safety
    /// As [`parallel_list`](Multicore::parallel_list). Workers that have begun with rows are killed and replaced.
    #[cfg(feature = "process")]
    pub async fn parallel_list_in_processes<R>(
        &self,
        query: ListQuery<R, DB>,
        page: impl PageRequest,
        render: &str,
    ) -> Result<Listing, ListError>
    where
        R: Serialize + Send + 'static,
    {
        let started = self.0.server_timing.then(Instant::now);
        let paging = page.resolve(self.0.limits)?;
        let list = self.list_in_processes(query, paging.clone(), render).await?;
        Ok(Listing::new(list, paging, &page, started))
    }
}

/// A page of a list as a response: a JSON array, or with [`envelope`](Listing::envelope) an object
/// around it.
///
/// Either way a `Link` header (RFC 8288) leads to the next and the previous page, as far as it is known
/// that there are any. Links are relative to the request's own URL and keep its other query parameters.
#[derive(Debug)]
#[must_use = "a listing is a response: return it from the handler"]
pub struct Listing {
    list: List,
    around: Around,
    paging: Paging,
    link_style: LinkStyle,
    others: Vec<(String, String)>,
    enveloped: bool,
    took: Option<Duration>,
}

impl Listing {
    fn new(list: List, paging: Paging, page: &impl PageRequest, started: Option<Instant>) -> Self {
        Listing {
            around: list.around().clone(),
            list,
            paging,
            link_style: page.link_style(),
            others: page.other_parameters().to_vec(),
            enveloped: false,
            took: started.map(|started| started.elapsed()),
        }
    }

    /// How it was made.
    pub fn mode(&self) -> Mode {
        self.list.mode()
    }

    /// How it was read: [`Single`](Strategy::Single) or [`Ranges`](Strategy::Ranges).
    pub fn strategy(&self) -> Strategy {
        self.list.strategy()
    }

    /// Whether its first row was found from one whose place in the list an earlier page had seen, instead of from the
    /// list's start.
    pub fn is_from_known_place(&self) -> bool {
        self.list.is_from_known_place()
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.list.rows()
    }

    /// What is around it, as far as it is known.
    pub fn around(&self) -> &Around {
        &self.around
    }

    /// Says how many rows the whole list has, where the application knows it otherwise than by
    /// [`with_count`](ListQuery::with_count). Where nobody looked whether there is a next page, the count
    /// tells.
    pub fn count(mut self, rows: u64) -> Self {
        self.around.count = Some(rows);
        self
    }

    /// Puts the array into `{"count": …, "next": …, "previous": …, "results": […]}`. `count` is null where
    /// neither [`with_count`](ListQuery::with_count) asked for it nor [`count`](Listing::count) said it;
    /// `next` and `previous` are the links of the `Link` header, or null.
    pub fn envelope(mut self) -> Self {
        self.enveloped = true;
        self
    }
}

/// What stands around the results.
#[derive(Serialize)]
struct Envelope<'a> {
    count: Option<u64>,
    next: Option<&'a str>,
    previous: Option<&'a str>,
}

impl IntoResponse for Listing {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut made = String::with_capacity(96);
        let _infallible = write!(made, "{}", self.list.mode());
        if self.list.strategy() == Strategy::Ranges {
            made.push_str(", strategy=ranges");
        }
        if self.list.is_from_known_place() {
            made.push_str(", from=known-place");
        }
        if self.list.in_processes() {
            made.push_str(", isolation=processes");
        }
        insert(&mut headers, MULTICORE, made);
        if let Some(took) = self.took {
            let milliseconds = took.as_secs_f64() * 1_000.0;
            insert(&mut headers, SERVER_TIMING, format!("multicore;dur={milliseconds:.3}"));
        }
        let links = links(&self.paging, self.link_style, &self.others, &self.around);
        if let Some(link) = links.header() {
            insert(&mut headers, header::LINK, link);
        }
        let mut chunks = VecDeque::from(self.list.into_chunks());
        if self.enveloped {
            let count = self.around.count;
            let envelope =
                Envelope { count, next: links.next.as_deref(), previous: links.previous.as_deref() };
            // Numbers and text always serialise.
            let mut opening = serde_json::to_string(&envelope).unwrap_or_default();
            opening.pop();
            opening.push_str(",\"results\":");
            chunks.push_front(Bytes::from(opening));
            chunks.push_back(Bytes::from_static(b"}"));
        }
        let mut response = Response::new(Body::new(Pieces::new(chunks)));
        *response.headers_mut() = headers;
        response
    }
}

pub(crate) fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    // Made of numbers, names and percent-encoded text; were it ever not a header, the page still is.
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
        headers.insert(name, value);
    }
}
