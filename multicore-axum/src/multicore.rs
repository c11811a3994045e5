//! The handle handlers work with: the core's, with what axum needs around it.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use multicore_core::{Database, StartError};

use crate::config::{Config, PageLimits};

/// The per-server pool, as an extractor and as a handle: cheap to clone. It dereferences to the core's
/// handle, so `task`, `parallel_map`, `parallel_ranges`, `stats` and `shutdown` are all here.
///
/// As an extractor it finds what [`MulticoreLayer`](crate::MulticoreLayer) laid out for the request, and
/// answers 500 with what to add if there is none; `Option<Multicore<DB>>` makes that `None`. Kept in
/// the application's state it comes through `State<Multicore<DB>>` and `FromRef` like anything else.
pub struct Multicore<DB: Database>(pub(crate) Arc<Inner<DB>>);

pub(crate) struct Inner<DB: Database> {
    core: multicore_core::Multicore<DB>,
    pub(crate) limits: PageLimits,
    #[cfg_attr(
        not(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only lists need it")
    )]
    pub(crate) server_timing: bool,
}

impl<DB: Database> Multicore<DB> {
    /// Settings for a new pool; [`start`](Builder::start) gives the handle.
    pub fn builder() -> Builder<DB> {
        Builder::new()
    }

    /// The page limits of the configuration.
    pub fn page_limits(&self) -> PageLimits {
        self.0.limits
    }
}

impl<DB: Database> Clone for Multicore<DB> {
    fn clone(&self) -> Self {
        Multicore(Arc::clone(&self.0))
    }
}

impl<DB: Database> Deref for Multicore<DB> {
    type Target = multicore_core::Multicore<DB>;

    fn deref(&self) -> &Self::Target {
        &self.0.core
    }
}

impl<DB: Database> fmt::Debug for Multicore<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.core, f)
    }
}

/// Settings of a pool, and its start. What it makes is the handle, or a layer around it.
pub struct Builder<DB: Database, Made = Multicore<DB>> {
    core: multicore_core::Builder<DB>,
    config: Config,
    made: PhantomData<fn() -> Made>,
}

impl<DB: Database, Made> fmt::Debug for Builder<DB, Made> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("core", &self.core).field("config", &self.config).finish()
    }
}

impl<DB: Database, Made: From<Multicore<DB>>> Builder<DB, Made> {
    pub(crate) fn new() -> Self {
        let core = multicore_core::Multicore::builder();
        Builder { core, config: Config::default(), made: PhantomData }
    }

    /// The configuration. Default: [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The application's own connection pool. Workers connect with its options, and lists read through
    /// it.
    #[must_use]
    pub fn pool(mut self, pool: DB::Pool) -> Self {
        self.core = self.core.pool(pool);
        self
    }

    /// What the workers' threads are called. Default: `multicore`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.core = self.core.name(name);
        self
    }

    /// Tasks for worker processes, which are started with the pool, as the configuration's table `processes` says.
    /// Default: none, and no processes.
    #[cfg(feature = "process")]
    #[must_use]
    pub fn processes(mut self, tasks: multicore_core::process::Registered) -> Self {
        self.core = self.core.processes(tasks);
        self
    }

    /// How many cores to count on. Default: what the system says this process may use.
    #[must_use]
    pub fn cores(mut self, cores: usize) -> Self {
        self.core = self.core.cores(cores);
        self
    }

    /// Where the load average comes from. Default: the system's; see
    /// [`load_source`](multicore_core::Builder::load_source) of the core.
    #[must_use]
    pub fn load_source(mut self, source: impl Fn() -> Option<f64> + Send + Sync + 'static) -> Self {
        self.core = self.core.load_source(source);
        self
    }

    /// Starts the workers and opens their connections; all are up when this returns.
    ///
    /// # Errors
    /// A setting that means nothing, or the first worker that failed and the step at which it did.
    /// Nothing is left running then.
    ///
    /// # Panics
    /// Where there is no `cursor-secret` and the system has no random numbers to make one of.
    ///
    /// # Cancel safety
    /// Dropped before it returns, it stops what it started.
    pub async fn start(self) -> Result<Made, StartError> {
        let limits = self.config.page_limits()?;
        let server_timing = self.config.server_timing;
        let core = self.config.apply(self.core)?.start().await?;
        Ok(Made::from(Multicore(Arc::new(Inner { core, limits, server_timing }))))
    }
}
