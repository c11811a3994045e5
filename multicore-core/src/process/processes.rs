//! The handle that calls are made with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt};

use super::error::{ProcessError, ProcessStartError};
use super::portable::Portable;
use super::server::Workers;
use super::settings::ProcessSettings;
use super::stats::ProcessStats;
use super::tasks::Registered;
use crate::ranges::ranges;

/// The worker processes of a pool: cheap to clone. Calls wait in one queue, first come first served, and are
/// answered by whichever process is idle.
#[derive(Clone, Default)]
pub struct Processes {
    workers: Option<Arc<Workers>>,
    timeout: Option<Duration>,
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processes").field("stats", &self.stats()).finish()
    }
}

impl Processes {
    pub(crate) async fn start(
        name: &str,
        threads: usize,
        registered: Registered,
        settings: ProcessSettings,
    ) -> Result<Self, ProcessStartError> {
        settings.check()?;
        let Registered(program) = registered;
        program.tasks.check()?;
        let count = settings.workers.unwrap_or(threads);
        let timeout = settings.timeout;
        let workers = Workers::start(name, count, program, settings).await?;
        Ok(Processes { workers: Some(Arc::new(workers)), timeout })
    }

    /// With another limit of a call's time than the settings', or none; for the calls of this handle.
    #[must_use]
    pub fn with_timeout(&self, timeout: impl Into<Option<Duration>>) -> Self {
        Processes { workers: self.workers.clone(), timeout: timeout.into() }
    }

    fn workers(&self) -> Result<&Workers, ProcessError> {
        self.workers.as_deref().ok_or(ProcessError::NotConfigured)
    }

    /// Runs a task in a worker process and gives its result. A result that is taken as [`Bytes`] is not copied: it
    /// is the shared memory itself, which goes back to the worker when the last part of it is dropped.
    ///
    /// # Errors
    /// [`ProcessError`], as soon as it is known. A worker that dies over the task is replaced. A task that had not
    /// begun then is sent to another worker; one that had is not, unless it was added as idempotent.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call. If the task has begun, its worker is killed and replaced, so a late
    /// result cannot come.
    pub async fn run<A: Portable, R: Portable>(&self, task: &str, argument: A) -> Result<R, ProcessError> {
        let workers = self.workers()?;
        let index = workers.tasks().find::<A, R>(task)?;
        let argument = argument.into_bytes().map_err(|error| no_format(task, "argument", &*error))?;
        let result = workers.call(index, argument, self.timeout).await?;
        R::read(result).map_err(|error| no_format(task, "result", &*error))
    }

    /// The same for a thread that may wait; not for async code. It is faster than [`run`](Processes::run) for short
    /// tasks, since no other thread takes part if a worker is idle.
    ///
    /// # Errors
    /// As [`run`](Processes::run).
    pub fn run_blocking<A: Portable, R: Portable>(&self, task: &str, argument: A) -> Result<R, ProcessError> {
        let workers = self.workers()?;
        let index = workers.tasks().find::<A, R>(task)?;
        let argument = argument.into_bytes().map_err(|error| no_format(task, "argument", &*error))?;
        let result = workers.call_blocking(index, argument, self.timeout)?;
        R::read(result).map_err(|error| no_format(task, "result", &*error))
    }

    /// Runs a task for each of the items, on all workers, and gives the results in the items' order. No more items
    /// are under way than twice the workers, so that others' calls come in between.
    ///
    /// # Errors
    /// The error of the first item, in their order, that has one. The others are cancelled.
    ///
    /// # Cancel safety
    /// As [`run`](Processes::run), for all items.
    pub async fn map<A: Portable, R: Portable>(
        &self,
        task: &str,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, ProcessError> {
        let index = self.task::<A, R>(task)?;
        let arguments = items
            .into_iter()
            .map(|item| item.into_bytes().map_err(|error| no_format(task, "argument", &*error)));
        let read = |result| R::read(result).map_err(|error| no_format(task, "result", &*error));
        self.each(index, arguments, read).await
    }

    /// The number of a task with these types.
    pub(crate) fn task<A: 'static, R: 'static>(&self, name: &str) -> Result<u32, ProcessError> {
        self.workers()?.tasks().find::<A, R>(name)
    }

    /// Results as they came, in order.
    #[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
    pub(crate) async fn ordered(&self, task: u32, arguments: Vec<Bytes>) -> Result<Vec<Bytes>, ProcessError> {
        self.each(task, arguments.into_iter().map(Ok), Ok).await
    }

    async fn each<R>(
        &self,
        task: u32,
        mut arguments: impl Iterator<Item = Result<Bytes, ProcessError>>,
        read: impl Fn(Bytes) -> Result<R, ProcessError>,
    ) -> Result<Vec<R>, ProcessError> {
        let workers = self.workers()?;
        let most = 2 * workers.stats().workers;
        let call =
            |argument: Result<Bytes, _>| async move { workers.call(task, argument?, self.timeout).await };
        let mut results = Vec::new();
        let mut under_way = FuturesOrdered::new();
        loop {
            while under_way.len() < most
                && let Some(argument) = arguments.next()
            {
                under_way.push_back(call(argument));
            }
            let Some(result) = under_way.next().await else { return Ok(results) };
            results.push(read(result?)?);
        }
    }

    /// Runs a task for each part of `0..len`, as [`ranges`](crate::ranges()) cuts it for the workers with at least
    /// `min_len` each, and gives the results in order.
    ///
    /// # Errors
    /// As [`map`](Processes::map).
    ///
    /// # Cancel safety
    /// As [`map`](Processes::map).
    pub async fn parallel_ranges<R: Portable>(
        &self,
        task: &str,
        len: u64,
        min_len: u64,
    ) -> Result<Vec<R>, ProcessError> {
        // At least one, so that a pool without workers can say so.
        let workers = self.stats().workers.max(1);
        self.map(task, ranges(len, workers, min_len)).await
    }

    /// What they are doing and have done; all zero where there are none.
    pub fn stats(&self) -> ProcessStats {
        self.workers.as_ref().map(|workers| workers.stats()).unwrap_or_default()
    }

    /// Takes nothing new, finishes what waits and runs, and ends the processes. What is not done after `deadline` is
    /// killed, and its callers are told; how many those are is returned.
    ///
    /// The pool's own shutdown does this too.
    ///
    /// # Cancel safety
    /// Dropped early, they still take nothing new and end when their queue is empty.
    pub async fn shutdown(&self, deadline: Duration) -> usize {
        match &self.workers {
            Some(workers) => workers.shut_down(deadline).await,
            None => 0,
        }
    }
}

fn no_format(task: &str, what: &'static str, error: &dyn std::error::Error) -> ProcessError {
    ProcessError::Format { task: task.to_owned(), what, message: error.to_string() }
}
