//! Whether anybody wrote: a connection of its own whose `data_version` changes whenever another one has
//! committed. Asked from any thread, within a few microseconds, since the hand on it is never let go.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use sqlx::SqliteConnection;

use super::Hand;

/// Answers with the database's version; opened when first needed, and again after it failed.
#[derive(Default)]
pub struct Sentinel {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The connection and the hand that borrows it, as a future that stands still between two questions.
    watching: Option<Watching>,
    /// How many connections there were: versions of two of them say nothing about each other.
    opened: i64,
}

struct Watching {
    body: Pin<Box<dyn Future<Output = ()> + Send>>,
    answer: Arc<Mutex<Option<i64>>>,
}

impl Watching {
    fn new(connection: SqliteConnection) -> Self {
        let answer = Arc::new(Mutex::new(None));
        let body = Box::pin(watch(connection, Arc::clone(&answer)));
        Watching { body, answer }
    }

    /// Goes on to the next answer; none is ready while the connection is waited for.
    fn resume(&mut self, context: &mut Context<'_>) -> Poll<Option<i64>> {
        let ended = self.body.as_mut().poll(context).is_ready();
        match self.answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(version) => Poll::Ready(Some(version)),
            None if ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// Gives an answer each time it is polled, once it has the hand on the connection; ends when it cannot.
async fn watch(mut connection: SqliteConnection, answer: Arc<Mutex<Option<i64>>>) {
    let Ok(Some(mut hand)) = Hand::on(&mut connection).await else { return };
    match hand.prepare("PRAGMA data_version", &[]) {
        Ok(true) => {}
        Ok(false) => return,
        Err(error) => return tracing::warn!(%error, "the database's version cannot be told"),
    }
    loop {
        match hand.number() {
            Ok(version) => *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(version),
            Err(error) => return tracing::warn!(%error, "the database's version cannot be told"),
        }
        let mut asked = false;
        poll_fn(|_| if std::mem::replace(&mut asked, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

impl Sentinel {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().watching.is_some()
    }

    /// Watches over this connection.
    pub(crate) async fn open(&self, connection: SqliteConnection) {
        let mut watching = Watching::new(connection);
        if poll_fn(|context| watching.resume(context)).await.is_some() {
            let mut inner = self.lock();
            // Another may have been quicker; either will do, but only one may go on.
            if inner.watching.is_none() {
                inner.opened += 1;
                inner.watching = Some(watching);
            }
        }
    }

    /// The version; none when it cannot be told. Equal versions mean that nobody committed in between.
    pub(crate) fn version(&self) -> Option<i64> {
        let mut inner = self.lock();
        let opened = inner.opened;
        let watching = inner.watching.as_mut()?;
        match watching.resume(&mut Context::from_waker(Waker::noop())) {
            // Nobody writes so often that the two parts meet.
            Poll::Ready(Some(version)) => Some(version + (opened << 40)),
            Poll::Ready(None) | Poll::Pending => {
                inner.watching = None;
                None
            }
        }
    }

    /// Closes the connection; `open` opens another.
    pub(crate) fn close(&self) {
        self.lock().watching = None;
    }
}
