//! The layer: clones a handle, boots nothing. axum calls `layer` several times a route, and again
//! for every connection.

use std::fmt;

use multicore_core::Database;
use tower_layer::Layer;

use crate::multicore::{Builder, Multicore};
use crate::service::MulticoreService;

/// Lays the handle of a pool out for the handlers of every request that passes.
///
/// Extractors find it while they run within the request's own future, whatever layers are between. A
/// middleware that hands the request to a task of its own (`tokio::spawn`) belongs outside of this layer;
/// or the handler takes the handle from the application's state.
///
/// On a route that does not ask for it, it costs no allocation and some nanoseconds.
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
