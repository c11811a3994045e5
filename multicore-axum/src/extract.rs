//! How a handler gets the handle: what the layer lays out while a request's future is polled, and the
//! extractor that finds it.
//!
//! It is not among the request's extensions: putting something there allocates on every request, also of
//! routes that never ask for it. The future around the handler holds the handle, and lends it to its
//! thread for as long as a poll takes, which costs no allocation and no shared write.

use std::any::Any;
use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::Arc;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use multicore_core::Database;

use crate::config::PageLimits;
use crate::multicore::{Inner, Multicore};
use crate::problem::Problem;

thread_local! {
    /// What the layers around the future that is being polled laid out, the innermost last.
    static AROUND: RefCell<Vec<Installed>> = const { RefCell::new(Vec::new()) };
}

/// What a layer lays out. One type whatever the database, so that what does not depend on it (page
/// limits, error messages) finds it too.
pub(crate) struct Installed {
    handle: Arc<dyn Any + Send + Sync>,
    #[cfg_attr(
        not(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only lists need it")
    )]
    limits: PageLimits,
    database: &'static str,
}

impl Installed {
    pub(crate) fn new<DB: Database>(handle: &Multicore<DB>) -> Self {
        let limits = handle.0.limits;
        Installed { handle: Arc::clone(&handle.0) as _, limits, database: DB::NAME }
    }
}

/// Runs with `installed` laid out for extractors on this thread; it is back in its place afterwards, also
/// after a panic.
pub(crate) fn within<R>(installed: &mut Option<Installed>, run: impl FnOnce() -> R) -> R {
    struct TakeBack<'a>(&'a mut Option<Installed>);
    impl Drop for TakeBack<'_> {
        fn drop(&mut self) {
            *self.0 = AROUND.with_borrow_mut(Vec::pop);
        }
    }
    let Some(laid_out) = installed.take() else { return run() };
    AROUND.with_borrow_mut(|around| around.push(laid_out));
    let _take_back = TakeBack(installed);
    run()
}

/// The page limits of the layer around this handler, if there is one.
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
pub(crate) fn installed_limits() -> Option<PageLimits> {
    AROUND.with_borrow(|around| around.last().map(|installed| installed.limits))
}

fn installed<DB: Database>() -> Result<Multicore<DB>, MissingLayer> {
    let wanted = DB::NAME;
    AROUND.with_borrow(|around| {
        let mut layers = around.iter().rev();
        layers
            .find_map(|installed| Arc::clone(&installed.handle).downcast::<Inner<DB>>().ok())
            .map(Multicore)
            .ok_or(MissingLayer { wanted, found: around.last().map(|installed| installed.database) })
    })
}

/// A handler asked for a [`Multicore`] that no layer put into the request. Answers 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingLayer {
    wanted: &'static str,
    found: Option<&'static str>,
}

impl std::fmt::Display for MissingLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let MissingLayer { wanted, found } = self;
        match found {
            None => write!(
                f,
                "the handler takes Multicore for {wanted} database, and no MulticoreLayer is around it: \
                 add `.layer(multicore)` to the router after its routes (and put a middleware that spawns the \
                 request as a task of its own outside of it)"
            ),
            Some(found) => write!(
                f,
                "the handler takes Multicore for {wanted} database, and the MulticoreLayer around it is \
                 for {found} database"
            ),
        }
    }
}

impl std::error::Error for MissingLayer {}

impl IntoResponse for MissingLayer {
    fn into_response(self) -> Response {
        tracing::error!("{self}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "multicore-missing", self.to_string()).into_response()
    }
}

impl<S: Sync, DB: Database> FromRequestParts<S> for Multicore<DB> {
    type Rejection = MissingLayer;

    async fn from_request_parts(_parts: &mut Parts, _state: &S) -> Result<Self, MissingLayer> {
        installed()
    }
}

impl<S: Sync, DB: Database> OptionalFromRequestParts<S> for Multicore<DB> {
    type Rejection = Infallible;

    async fn from_request_parts(_parts: &mut Parts, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(installed().ok())
    }
}
