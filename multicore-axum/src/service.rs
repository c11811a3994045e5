//! The service the layer makes: puts the handle into the request and gets out of the way.

use std::fmt;
use std::task::{Context, Poll};

use http::Request;
use multicore_core::Database;
use tower_service::Service;

use crate::extract::Installed;
use crate::multicore::Multicore;

/// Puts the handle of a pool into every request before the inner service sees it.
pub struct MulticoreService<S, DB: Database> {
    inner: S,
    handle: Multicore<DB>,
}

impl<S, DB: Database> MulticoreService<S, DB> {
    pub(crate) fn new(inner: S, handle: Multicore<DB>) -> Self {
        MulticoreService { inner, handle }
    }
}

impl<S: Clone, DB: Database> Clone for MulticoreService<S, DB> {
    fn clone(&self) -> Self {
        MulticoreService { inner: self.inner.clone(), handle: self.handle.clone() }
    }
}

impl<S: fmt::Debug, DB: Database> fmt::Debug for MulticoreService<S, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MulticoreService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, B, DB> Service<Request<B>> for MulticoreService<S, DB>
where
    S: Service<Request<B>>,
    DB: Database,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        Installed::new(&self.handle).leave_in(request.extensions_mut());
        self.inner.call(request)
    }
}
