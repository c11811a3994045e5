//! A pool's settings, and its start: what is checked before anything runs, and what is said once it does.

use std::any::TypeId;
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::admission::LoadLimit;
use crate::admission::load::{Load, LoadSource, Sampler, system_load};
use crate::core::{Core, Costs};
use crate::cursor_secret::CursorSecret;
use crate::db::{Ask, Control, Database};
use crate::error::{StartError, StartStep};
use crate::job::registry::Registry;
use crate::mode::Counters;
use crate::pool::{Multicore, start_workers};
#[cfg(feature = "process")]
use crate::process::{ProcessSettings, Processes, Registered};

/// More than any machine has cores; what is above is a slip of the keyboard.
const MOST_WORKERS: usize = 4_096;

/// Settings of a pool, and its start.
pub struct Builder<DB: Database> {
    name: String,
    workers: Option<usize>,
    cores: Option<usize>,
    max_load_average: Option<LoadLimit>,
    load_source: LoadSource,
    timeout: Option<Duration>,
    cursor_secret: Option<CursorSecret>,
    transaction_pooling: bool,
    servers: usize,
    pool: Option<DB::Pool>,
    #[cfg(feature = "process")]
    tasks: Option<Registered>,
    #[cfg(feature = "process")]
    processes: ProcessSettings,
}

impl<DB: Database> Default for Builder<DB> {
    fn default() -> Self {
        Builder {
            name: "multicore".to_owned(),
            workers: None,
            cores: None,
            max_load_average: None,
            load_source: Box::new(system_load),
            timeout: None,
            cursor_secret: None,
            transaction_pooling: false,
            servers: 1,
            pool: DB::no_pool(),
            #[cfg(feature = "process")]
            tasks: None,
            #[cfg(feature = "process")]
            processes: ProcessSettings::default(),
        }
    }
}

impl<DB: Database> fmt::Debug for Builder<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("workers", &self.workers)
            .field("cores", &self.cores)
            .field("max_load_average", &self.max_load_average)
            .field("timeout", &self.timeout)
            .field("cursor_secret", &self.cursor_secret)
            .finish_non_exhaustive()
    }
}

impl<DB: Database> Builder<DB> {
    /// What the workers' threads are called, followed by `-` and a number. Default `multicore`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How many worker threads, each with a connection of its own. Default: the cores this process may
    /// use. More are of no use to computing; fewer save connections. Zero is an error at start.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// How many cores to count on. Default: what the system says this process may use, read again
    /// every ten seconds, a container's quota included; and for a second after that quota was used up no
    /// help is given. Lower it to keep cores free for other processes: then these are what counts,
    /// whatever the quota. Zero is an error at start.
    #[must_use]
    pub fn cores(mut self, cores: usize) -> Self {
        self.cores = Some(cores);
        self
    }

    /// The 1-minute load average per core above which no help is given. Default: none.
    #[must_use]
    pub fn max_load_average(mut self, limit: LoadLimit) -> Self {
        self.max_load_average = Some(limit);
        self
    }

    /// Where the load average comes from, asked once a second on a thread of its own. Default: the
    /// system's, which in a container is the host's. None means unknown, which never vetoes.
    #[must_use]
    pub fn load_source(mut self, source: impl Fn() -> Option<f64> + Send + Sync + 'static) -> Self {
        self.load_source = Box::new(source);
        self
    }

    /// How long a list, a map, ranges or a task's `get` may take. Default: no limit. Zero is an error
    /// at start. Needs the timer of the callers' runtime.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// What signs the cursors of lists. Default: a random secret for each start. Cursors then last until
    /// the server stops, and of several servers only the one that made a cursor understands it; so give
    /// all servers of an application the same secret.
    #[must_use]
    pub fn cursor_secret(mut self, secret: CursorSecret) -> Self {
        self.cursor_secret = Some(secret);
        self
    }

    /// Whether there is a pooler in transaction mode, such as PgBouncer, between here and the database.
    /// Then each list is one statement in a transaction of its own, nothing stays prepared on a
    /// connection, and pages are not read in ranges. Default: false.
    #[must_use]
    pub fn transaction_pooling(mut self, on: bool) -> Self {
        self.transaction_pooling = on;
        self
    }

    /// How many servers like this one share the database, to check at start that it takes all their
    /// connections. Default: 1. Zero is an error at start.
    #[must_use]
    pub fn servers(mut self, servers: usize) -> Self {
        self.servers = servers;
        self
    }

    /// The application's own connection pool: workers connect with its options, and lists read through
    /// it. Hooks set on the pool itself (such as `after_connect`) do not reach the workers.
    #[must_use]
    pub fn pool(mut self, pool: DB::Pool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Tasks for worker processes, which are started with the pool. Default: none, and no processes.
    #[cfg(feature = "process")]
    #[must_use]
    pub fn processes(mut self, tasks: Registered) -> Self {
        self.tasks = Some(tasks);
        self
    }

    /// Settings of worker processes. Default: [`ProcessSettings::default`].
    #[cfg(feature = "process")]
    #[must_use]
    pub fn process_settings(mut self, settings: ProcessSettings) -> Self {
        self.processes = settings;
        self
    }

    /// Starts the workers and opens their connections; all are up when this returns. Must be called
    /// on a Tokio runtime, whose threads count as busy cores from then on.
    ///
    /// # Errors
    /// A setting that means nothing, or the first worker that failed and the step at which it did.
    /// Nothing is left running then.
    ///
    /// # Panics
    /// Where there is no cursor secret and the system has no random numbers to make one of.
    ///
    /// # Cancel safety
    /// Dropped before it returns, it stops what it started.
    pub async fn start(self) -> Result<Multicore<DB>, StartError> {
        self.check()?;
        let source = self.pool.ok_or(StartError::NoPool { database: DB::NAME })?;
        if let Some(why) = DB::not_shareable(&source) {
            return Err(StartError::NotShareable { database: DB::NAME, why });
        }
        let has_secret = self.cursor_secret.is_some();
        let cursors = self.cursor_secret.unwrap_or_else(CursorSecret::random);
        let runtime = tokio::runtime::Handle::try_current().ok();
        let load = Load::new(runtime, self.cores, self.max_load_average, self.load_source);
        let load = Arc::new(load);
        let workers = self.workers.unwrap_or_else(|| load.cores());
        #[cfg(feature = "process")]
        let processes = match self.tasks {
            Some(tasks) => Processes::start(&self.name, workers, tasks, self.processes).await?,
            None => Processes::default(),
        };
        let sampler = Sampler::start(&self.name, &load).map_err(|error| StartError::Worker {
            worker: format!("{}-load", self.name),
            step: StartStep::Thread,
            source: error.into(),
        })?;
        let core = Arc::new(Core {
            name: self.name,
            registry: Registry::new(workers),
            load,
            decisions: Counters::default(),
            costs: Costs::default(),
            sentinel: DB::Sentinel::default(),
            control: Control::new(source.clone(), tokio::runtime::Handle::try_current().ok()),
            transaction_pooling: self.transaction_pooling,
            losses: AtomicUsize::new(0),
            #[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
            shapes: Default::default(),
            source,
            timeout: self.timeout,
            cursors,
            halted: CancellationToken::new(),
            running: AtomicUsize::new(0),
            cut: AtomicUsize::new(0),
            can_move: OnceLock::new(),
        });
        #[cfg_attr(not(feature = "process"), expect(unused_mut, reason = "only they are added later"))]
        let mut threads = start_workers(workers, &core, sampler).await?;
        #[cfg(feature = "process")]
        {
            threads.processes = processes;
        }
        let multicore = Multicore::new(core, threads);
        let core = &multicore.core;
        if core.control.home().is_some() {
            if let Err(source) = core.control.open().await {
                let worker = format!("{}-control", core.name);
                multicore.shutdown(Duration::ZERO).await;
                return Err(StartError::Worker { worker, step: StartStep::Connect, source });
            }
            budget(core, self.servers).await;
        }
        announce(core, self.max_load_average, has_secret);
        Ok(multicore)
    }

    /// Checks what [`start`](Builder::start) would check before it starts anything.
    ///
    /// # Errors
    /// With the key, the value and what is accepted.
    pub fn check(&self) -> Result<(), StartError> {
        for (key, value) in [("workers", self.workers), ("cores", self.cores)] {
            if let Some(value) = value.filter(|value| !(1..=MOST_WORKERS).contains(value)) {
                let accepted = "a whole number from 1 to 4096";
                return Err(StartError::Setting { key, value: value.to_string(), accepted });
            }
        }
        if self.servers == 0 {
            let accepted = "a whole number from 1";
            return Err(StartError::Setting { key: "servers", value: "0".to_owned(), accepted });
        }
        if self.timeout == Some(Duration::ZERO) {
            let accepted = "a duration above zero, such as 30s";
            return Err(StartError::Setting { key: "timeout", value: "0s".to_owned(), accepted });
        }
        #[cfg(feature = "process")]
        self.processes.check()?;
        Ok(())
    }
}

/// Says what was understood, so that a wrong limit is seen on the first day.
fn announce<DB: Database>(core: &Core<DB>, limit: Option<LoadLimit>, has_secret: bool) {
    let name = &*core.name;
    let cores = core.load.cores();
    tracing::info!(
        pool = name,
        database = DB::NAME,
        workers = core.registry.workers(),
        cores,
        physical_cores = num_cpus::get_physical(),
        "multicore started"
    );
    match limit {
        Some(limit) => tracing::info!(
            pool = name,
            "max-load-average is {limit}: no help above a 1-minute load average of {:.2} on {cores} cores",
            limit.on(cores)
        ),
        None => tracing::info!(pool = name, "max-load-average is not set: the load average never vetoes"),
    }
    // Without a database there are no lists.
    if TypeId::of::<DB>() != TypeId::of::<()>() {
        if has_secret {
            tracing::info!(pool = name, "cursor-secret is set: servers that share it share cursors");
        } else {
            tracing::info!(
                pool = name,
                "cursor-secret is not set: cursors last until this server stops, and other servers do not \
                 understand them"
            );
        }
    }
}

/// Says how many connections this and the servers like it need, and warns if the database does not take
/// so many.
async fn budget<DB: Database>(core: &Core<DB>, servers: usize) {
    let (pool, workers) = (DB::pool_size(&core.source) as usize, core.registry.workers());
    let needed = servers.saturating_mul(pool + workers + 1);
    let name = &*core.name;
    match core.control.ask(Ask::ServerLimit).await {
        Ok(..0) => {}
        Ok(limit) if i64::try_from(needed).is_ok_and(|needed| needed <= limit) => tracing::info!(
            pool = name,
            needed,
            limit,
            "database connections: {servers} x ({pool} of the pool + {workers} workers + 1)"
        ),
        Ok(limit) => tracing::warn!(
            pool = name,
            needed,
            limit,
            "more database connections may be wanted than the server takes: {servers} x ({pool} of the pool + \
             {workers} workers + 1); lower `workers` or the pool's max_connections, or raise the server's limit"
        ),
        Err(error) => {
            tracing::warn!(pool = name, needed, %error, "the server's limit of connections is not known");
        }
    }
}
