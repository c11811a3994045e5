//! `parallel_map`: one function over many items, on the cores that are idle.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::db::Database;
use crate::error::TaskError;
use crate::job::owner::{Owner, Wish};
use crate::job::{Failure, Work};
use crate::mode::{Execution, Mode};
use crate::pool::Multicore;
use crate::task::within;

struct MapWork<I, T, F> {
    map: F,
    /// Counts finished items, where a timeout may have to tell.
    finished: Option<Arc<AtomicUsize>>,
    types: PhantomData<fn(I) -> T>,
}

impl<I, T, F> Work for MapWork<I, T, F>
where
    I: Send + 'static,
    T: Send + 'static,
    F: Fn(I) -> T + Send + Sync + 'static,
{
    type Item = I;
    type Out = Vec<T>;
    type Error = Infallible;

    fn begin(&self, items: usize) -> Vec<T> {
        Vec::with_capacity(items)
    }

    fn add(&self, item: I, out: &mut Vec<T>) -> Result<(), Infallible> {
        out.push((self.map)(item));
        if let Some(finished) = &self.finished {
            finished.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl<DB: Database> Multicore<DB> {
    /// Applies `map` to each item and returns the results in the items' order. The caller's own task
    /// works on the items and idle workers help if the work pays for waking them. It gives the async
    /// thread to others after 0.2 to 1 ms while all of them are busy, and after 10 ms at the latest. Items
    /// that take more than a millisecond run with the thread's other tasks moved elsewhere; on a
    /// current-thread runtime they hold it, so give such work to a [`task`](Multicore::task) there.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let mc = multicore_core::Multicore::<()>::builder().start().await?;
    /// let lengths = mc.parallel_map(vec!["a", "bcd"], |text| text.len()).await?;
    /// assert_eq!(lengths, [1, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// When `map` panics for an item, or the pool's `timeout` passes.
    ///
    /// # Cancel safety
    /// Dropping the future cancels what was not begun and drops the results.
    pub async fn parallel_map<I, T, F>(
        &self,
        items: impl IntoIterator<Item = I>,
        map: F,
    ) -> Result<Vec<T>, TaskError>
    where
        I: Send + 'static,
        T: Send + 'static,
        F: Fn(I) -> T + Send + Sync + 'static,
    {
        let items: Vec<I> = items.into_iter().collect();
        Ok(self.map_as(Execution::Auto, items, map).await?.0)
    }

    /// As [`parallel_map`](Multicore::parallel_map), forced onto a path, and saying how it ran.
    ///
    /// # Errors
    /// As [`parallel_map`](Multicore::parallel_map).
    pub async fn map_as<I, T, F>(
        &self,
        execution: Execution,
        items: Vec<I>,
        map: F,
    ) -> Result<(Vec<T>, Mode), TaskError>
    where
        I: Send + 'static,
        T: Send + 'static,
        F: Fn(I) -> T + Send + Sync + 'static,
    {
        let Some(after) = self.core.timeout else {
            return self.run_map(execution, items, map, None).await;
        };
        let of = items.len();
        let finished = Arc::new(AtomicUsize::new(0));
        let run = self.run_map(execution, items, map, Some(Arc::clone(&finished)));
        within(after, run).await.unwrap_or_else(|| {
            Err(TaskError::Timeout { after, finished: finished.load(Ordering::Relaxed), of })
        })
    }

    async fn run_map<I, T, F>(
        &self,
        execution: Execution,
        items: Vec<I>,
        map: F,
        finished: Option<Arc<AtomicUsize>>,
    ) -> Result<(Vec<T>, Mode), TaskError>
    where
        I: Send + 'static,
        T: Send + 'static,
        F: Fn(I) -> T + Send + Sync + 'static,
    {
        let of = items.len();
        let work = MapWork { map, finished, types: PhantomData };
        let model = self.core.costs.of::<MapWork<I, T, F>>();
        let wish = Wish { execution, ..Wish::default() };
        let mut owner = Owner::new(&self.core, Arc::new(work), model, wish, of);
        owner.fill(items);
        match owner.finish().await {
            Ok(finished) => {
                // One chunk, if nobody helped: then it is the result as it is.
                let mut chunks = finished.outs.into_iter();
                let mut results = chunks.next().unwrap_or_default();
                results.reserve_exact(of.saturating_sub(results.len()));
                chunks.for_each(|chunk| results.extend(chunk));
                Ok((results, finished.mode))
            }
            Err(Failure::Panicked(message)) => Err(TaskError::Panicked { run: 0, message }),
            Err(Failure::Error(never)) => match never {},
        }
    }
}
