//! How a handler gets the handle: what the layer leaves in a request, and the extractor that finds it.

use std::any::Any;
use std::convert::Infallible;
use std::sync::Arc;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Extensions, StatusCode};
use multicore_core::Database;

use crate::config::PageLimits;
use crate::multicore::{Inner, Multicore};
use crate::problem::Problem;

/// What the layer leaves in a request. One entry whatever the database, so that what does not depend
/// on it (page limits, error messages) finds it too.
#[derive(Clone)]
pub(crate) struct Installed {
    handle: Arc<dyn Any + Send + Sync>,
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only lists need it")
    )]
    limits: PageLimits,
    database: &'static str,
    /// What a layer further out left, of another database perhaps.
    outer: Option<Box<Installed>>,
}

impl Installed {
    pub(crate) fn new<DB: Database>(handle: &Multicore<DB>) -> Self {
        let limits = handle.0.limits;
        Installed { handle: Arc::clone(&handle.0) as _, limits, database: DB::NAME, outer: None }
    }

    /// Leaves this in a request, around what is there already.
    pub(crate) fn leave_in(self, extensions: &mut Extensions) {
        if let Some(outer) = extensions.insert(self)
            && let Some(inner) = extensions.get_mut::<Installed>()
        {
            inner.outer = Some(Box::new(outer));
        }
    }
}

/// The page limits of the layer around this handler, if there is one.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub(crate) fn installed_limits(extensions: &Extensions) -> Option<PageLimits> {
    extensions.get::<Installed>().map(|installed| installed.limits)
}

fn installed<DB: Database>(extensions: &Extensions) -> Result<Multicore<DB>, MissingLayer> {
    let wanted = DB::NAME;
    let Some(installed) = extensions.get::<Installed>() else {
        return Err(MissingLayer { wanted, found: None });
    };
    let mut layers = std::iter::successors(Some(installed), |installed| installed.outer.as_deref());
    layers
        .find_map(|installed| Arc::clone(&installed.handle).downcast::<Inner<DB>>().ok())
        .map(Multicore)
        .ok_or(MissingLayer { wanted, found: Some(installed.database) })
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
                 add `.layer(multicore)` to the router after its routes"
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

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, MissingLayer> {
        installed(&parts.extensions)
    }
}

impl<S: Sync, DB: Database> OptionalFromRequestParts<S> for Multicore<DB> {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(installed(&parts.extensions).ok())
    }
}
