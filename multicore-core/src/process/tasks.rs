//! Registering functions for worker processes, and `init`, which makes a process a worker if it was started as one.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::Home;
use super::portable::{Output, Portable};
use super::registry::{Failure, Program, Registry, Run};
use super::rows::{Rendered, Rows, render_rows};
use crate::error::BoxError;

/// The functions that worker processes run, by name. The server and its workers build the same registry,
/// since they are one program.
///
/// ```no_run
/// use bytes::Bytes;
/// use multicore_core::process::Tasks;
///
/// fn thumbnail(picture: Bytes) -> Result<Vec<u8>, std::io::Error> {
///     # let shrink = |picture: Bytes| Ok(picture.to_vec());
///     shrink(picture) // in a library that may crash
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::new().add("thumbnail", thumbnail).init();   // first in main
/// let mc = multicore_core::Multicore::<()>::builder().processes(tasks).start().await?;
/// let small: Bytes = mc.processes().run("thumbnail", Bytes::from_static(b"a picture")).await?;
/// # let _ = small; Ok(()) }
/// ```
///
/// `C` is the type of a connection that each worker keeps for its tasks, if [`connect`](Tasks::connect) says how to
/// open one.
#[must_use = "tasks are registered by `init`"]
pub struct Tasks<C = ()> {
    registry: Registry,
    home: Option<Arc<Home<C>>>,
}

impl<C> fmt::Debug for Tasks<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registry.fmt(f)
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Tasks::new()
    }
}

impl Tasks {
    /// Without any task.
    pub fn new() -> Self {
        Tasks { registry: Registry::default(), home: None }
    }

    /// Says how a worker opens a connection of its own: from the text that the server gives by
    /// [`Registered::with_url`]. It is opened on a runtime of the worker's when a task first needs it, and kept; after
    /// a task that returned an error it is dropped, and opened again for the next.
    ///
    /// ```no_run
    /// # use multicore_core::process::{Packed, Tasks};
    /// # struct Connection;
    /// # async fn connect(url: &str) -> Result<Connection, std::io::Error> { Ok(Connection) }
    /// # impl Connection { async fn count(&mut self, of: &str) -> Result<u64, std::io::Error> { Ok(0) } }
    /// let tasks = Tasks::new()
    ///     .connect(async |url: String| connect(&url).await)
    ///     .add_with_connection("count", async |connection: &mut Connection, table: String| {
    ///         connection.count(&table).await.map(Packed)
    ///     })
    ///     .init()
    ///     .with_url("sqlite:data/example.db");
    /// # let _ = tasks;
    /// ```
    pub fn connect<C, E, F>(self, open: F) -> Tasks<C>
    where
        C: Send + 'static,
        E: Into<BoxError>,
        F: AsyncFn(String) -> Result<C, E> + Send + Sync + Clone + 'static,
    {
        Tasks { registry: self.registry, home: Some(Arc::new(Home::new(open))) }
    }
}

impl<C: Send + 'static> Tasks<C> {
    /// Adds a function that is given the worker's connection. In a `Tasks` without [`connect`](Tasks::connect) there
    /// is none, and calls say so.
    pub fn add_with_connection<A, R, E, F>(self, name: impl Into<String>, task: F) -> Self
    where
        A: Portable,
        R: Portable,
        E: fmt::Display,
        F: AsyncFn(&mut C, A) -> Result<R, E> + Send + Sync + 'static,
    {
        let home = self.home.clone();
        let run = move |argument, out: &mut Output<'_>| {
            let argument = A::read(argument).map_err(Failure::Argument)?;
            let Some(home) = &home else {
                return Err(Failure::Failed("the tasks were not told how to connect".to_owned()));
            };
            home.run(&task, argument, out)
        };
        self.entry::<A, R>(name.into(), false, Box::new(run))
    }

    /// Adds a function under a name. Its error is passed on as text.
    pub fn add<A, R, E, F>(self, name: impl Into<String>, task: F) -> Self
    where
        A: Portable,
        R: Portable,
        E: fmt::Display,
        F: Fn(A) -> Result<R, E> + Send + Sync + 'static,
    {
        self.entry::<A, R>(name.into(), false, run(task))
    }

    /// Adds a function that may be run twice for one call: if its worker dies over it, it is tried once more on
    /// another one.
    pub fn add_idempotent<A, R, E, F>(self, name: impl Into<String>, task: F) -> Self
    where
        A: Portable,
        R: Portable,
        E: fmt::Display,
        F: Fn(A) -> Result<R, E> + Send + Sync + 'static,
    {
        self.entry::<A, R>(name.into(), true, run(task))
    }

    /// Adds a function that renders rows of lists, for `Multicore::list_in_processes`: a row comes as MessagePack with
    /// the names of its fields, what is made of it goes back as JSON.
    pub fn add_render<R, V, F>(self, name: impl Into<String>, render: F) -> Self
    where
        R: DeserializeOwned + 'static,
        V: Serialize,
        F: Fn(R) -> V + Send + Sync + 'static,
    {
        let run = move |rows: Bytes, out: &mut Output<'_>| render_rows(&render, &rows, out);
        self.entry::<Rows<R>, Rendered>(name.into(), false, Box::new(run))
    }

    fn entry<A: 'static, R: 'static>(mut self, name: String, idempotent: bool, run: Box<Run>) -> Self {
        self.registry.add::<A, R>(name, idempotent, run);
        self
    }

    /// In a worker process, works as one and never returns. In any other, gives what a pool's builder wants.
    ///
    /// Call it first in `main`: what stands before it is done by every worker too. Descriptors that were
    /// inherited are closed.
    ///
    /// In tests that the harness runs there is no `main` of one's own: there the workers run a test that calls
    /// this, see [`Registered::through_test`].
    pub fn init(self) -> Registered {
        #[cfg(target_os = "linux")]
        super::worker::become_one(&self.registry);
        Registered(Program { tasks: self.registry, arguments: Vec::new(), url: String::new() })
    }
}

fn run<A, R, E, F>(task: F) -> Box<Run>
where
    A: Portable,
    R: Portable,
    E: fmt::Display,
    F: Fn(A) -> Result<R, E> + Send + Sync + 'static,
{
    Box::new(move |argument, out| {
        let argument = A::read(argument).map_err(Failure::Argument)?;
        let result = task(argument).map_err(|error| Failure::Failed(error.to_string()))?;
        result.write(out).map_err(Failure::Result)
    })
}

/// Tasks of a process that is no worker: what a pool's builder takes.
#[must_use = "give it to the builder"]
pub struct Registered(pub(super) Program);

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL, which may have a password.
        f.debug_struct("Registered").field("tasks", &self.0.tasks).finish_non_exhaustive()
    }
}

impl Registered {
    /// For programs with Rust's test harness: workers run the test of this name, which must call the same
    /// `Tasks::init` and do nothing else.
    ///
    /// ```no_run
    /// # use multicore_core::process::{Registered, Tasks};
    /// fn tasks() -> Registered {
    ///     let double = |text: String| Ok::<_, std::convert::Infallible>(text.repeat(2));
    ///     Tasks::new().add("double", double).init().through_test("worker_process")
    /// }
    ///
    /// #[test]
    /// fn worker_process() {
    ///     let _server = tasks();
    /// }
    /// ```
    pub fn through_test(self, test: &str) -> Self {
        self.with_arguments([test, "--exact", "--nocapture", "--test-threads=1"])
    }

    /// Starts workers with these command-line arguments. Default: none.
    pub fn with_arguments<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.0.arguments = arguments.into_iter().map(Into::into).collect();
        self
    }

    /// What workers connect to, for tasks with a connection. It goes to them over their socket, so it is in no
    /// command line and no environment.
    pub fn with_url(mut self, url: impl Into<String>) -> Self {
        self.0.url = url.into();
        self
    }
}
