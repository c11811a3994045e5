//! The layer: clones a handle, boots nothing. axum calls `layer` several times a route, and again
//! for every connection.

use std::fmt;

use multicore_core::Database;
use tower_layer::Layer;

use crate::multicore::{Builder, Multicore};
use crate::service::MulticoreService;

/// Puts the handle of a pool into every request that passes.
pub struct MulticoreLayer<DB: Database> {
    handle: Multicore<DB>,
}

impl<DB: Database> MulticoreLayer<DB> {
    /// A layer for a pool that runs already.
    pub fn new(handle: Multicore<DB>) -> Self {
        MulticoreLayer { handle }
    }

    /// Settings for a new pool; [`start`](Builder::start) starts it, once, and gives the layer.
    pub fn builder() -> Builder<DB, MulticoreLayer<DB>> {
        Builder::new()
    }

    /// The handle, for statistics, shutting down and work outside requests.
    pub fn handle(&self) -> Multicore<DB> {
        self.handle.clone()
    }
}

impl<DB: Database> From<Multicore<DB>> for MulticoreLayer<DB> {
    fn from(handle: Multicore<DB>) -> Self {
        MulticoreLayer::new(handle)
    }
}

impl<DB: Database> Clone for MulticoreLayer<DB> {
    fn clone(&self) -> Self {
        MulticoreLayer { handle: self.handle.clone() }
    }
}

impl<DB: Database> fmt::Debug for MulticoreLayer<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MulticoreLayer").field("handle", &self.handle).finish()
    }
}

impl<S, DB: Database> Layer<S> for MulticoreLayer<DB> {
    type Service = MulticoreService<S, DB>;

    fn layer(&self, inner: S) -> Self::Service {
        MulticoreService::new(inner, self.handle.clone())
    }
}
