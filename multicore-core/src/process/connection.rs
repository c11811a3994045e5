//! A connection that a worker process keeps for its tasks. Opened when a task first needs it, and again after one
//! that failed, since nobody knows what state it left it in.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, Runtime};

use super::portable::{Output, Portable};
use super::registry::Failure;
use crate::error::BoxError;

/// What the server said to connect to. One a process, which is a worker once and for all.
static URL: OnceLock<String> = OnceLock::new();

/// Notes what to connect to.
pub(super) fn set_url(url: String) {
    // A worker is welcomed once.
    let _already = URL.set(url);
}

type Open<C> = dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<C, BoxError>>>> + Send + Sync;

/// A worker's connection of type `C`, and how it is opened.
pub(super) struct Home<C> {
    open: Box<Open<C>>,
    kept: Mutex<Kept<C>>,
}

struct Kept<C> {
    runtime: Option<Runtime>,
    connection: Option<C>,
}

impl<C: Send + 'static> Home<C> {
    pub(super) fn new<E, F>(open: F) -> Self
    where
        E: Into<BoxError>,
        F: AsyncFn(String) -> Result<C, E> + Send + Sync + Clone + 'static,
    {
        let open = move |url| {
            let open = open.clone();
            let opening = async move { open(url).await.map_err(Into::into) };
            Box::pin(opening) as Pin<Box<dyn Future<Output = Result<C, BoxError>>>>
        };
        Home { open: Box::new(open), kept: Mutex::new(Kept { runtime: None, connection: None }) }
    }

    /// Runs a task with the connection.
    pub(super) fn run<A, R, E>(
        &self,
        task: &impl AsyncFn(&mut C, A) -> Result<R, E>,
        argument: A,
        out: &mut Output<'_>,
    ) -> Result<(), Failure>
    where
        R: Portable,
        E: Display,
    {
        // One task at a time; after a panic the process ends.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { runtime, connection } = &mut *kept;
        let runtime = match runtime {
            Some(runtime) => runtime,
            None => runtime.insert(
                Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|error| Failure::Failed(format!("the worker has no runtime: {error}")))?,
            ),
        };
        let result = runtime.block_on(async {
            let mut taken = match connection.take() {
                Some(taken) => taken,
                None => (self.open)(URL.get().cloned().unwrap_or_default())
                    .await
                    .map_err(|error| Failure::Failed(format!("the worker could not connect: {error}")))?,
            };
            let result =
                task(&mut taken, argument).await.map_err(|error| Failure::Failed(error.to_string()))?;
            *connection = Some(taken);
            Ok(result)
        })?;
        result.write(out).map_err(Failure::Result)
    }
}
