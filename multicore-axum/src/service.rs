//! The service the layer makes: gives each request's future the handle and gets out of the way.

use std::fmt;
use std::task::{Context, Poll};

use http::Request;
use multicore_core::Database;
use tower_service::Service;

use crate::extract::{Installed, within};
use crate::future::MulticoreFuture;
use crate::multicore::Multicore;

/// Lays the handle of a pool out for extractors while the inner service works on a request.
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
    type Future = MulticoreFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> MulticoreFuture<S::Future> {
        let mut installed = Some(Installed::new(&self.handle));
        // A service may extract before it gives its future away.
        let future = within(&mut installed, || self.inner.call(request));
        MulticoreFuture { future, installed }
    }
}
