//! `parallel_map`: one function over many items, by the caller and by workers that are free.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::Poll;
use std::thread::ThreadId;
use std::time::Duration;

use multicore_core::{Execution, Mode, Multicore, TaskError};
use tokio::sync::mpsc;

use crate::support::{
    PATIENCE, Visitors, builder, burn, gate, is_worker, pool, soon, unique, until, until_idle,
};

const ALL: [Execution; 3] = [Execution::Auto, Execution::Parallel, Execution::Sequential];

/// A pool of one worker, parked, and its name.
async fn named() -> (String, Multicore<()>) {
    let name = unique();
    let mc = builder(1).name(&name).start().await.unwrap();
    until_idle(&mc).await;
    (name, mc)
}

/// The first item of a map, done before there is anything to share, says what the others will cost:
/// enough for chunks of a few items, so that the caller's never has all of them.
fn dear() {
    burn(100);
}

#[tokio::test]
async fn results_come_in_the_order_of_the_items_on_every_path() {
    let mc = pool(3).await;
    for execution in ALL {
        for len in [0, 1, 2, 3, 50, 5_000] {
            let (squares, mode) =
                soon(mc.map_as(execution, (0..len).collect(), |n: u64| n * n)).await.unwrap();
            assert_eq!(squares, (0..len).map(|n| n * n).collect::<Vec<_>>(), "{execution:?} {len}");
            if execution == Execution::Sequential {
                assert!(matches!(mode, Mode::Sequential(_)), "{mode:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_really_takes_part() {
    let mc = pool(1).await;
    // Nobody passes alone: the caller and the worker meet here, once.
    let meeting = Barrier::new(2);
    let met: Mutex<HashSet<ThreadId>> = Mutex::default();
    let (items, mode) = soon(mc.map_as(Execution::Parallel, (0..100).collect(), move |item: u32| {
        if item == 0 {
            dear();
        } else if met.lock().unwrap().insert(std::thread::current().id()) {
            meeting.wait();
        }
        item
    }))
    .await
    .unwrap();
    assert_eq!(items, (0..100).collect::<Vec<_>>());
    assert!(matches!(mode, Mode::Parallel { participants: 2, chunks: 3.. }), "{mode:?}");
    assert_eq!(mc.stats().decisions.parallel(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_participants_told_are_no_more_than_the_caller_and_the_workers_that_worked() {
    let name = unique();
    let mc = builder(4).name(&name).start().await.unwrap();
    for round in 0..500 {
        until_idle(&mc).await;
        let visitors = Visitors::default();
        let (seen, pool) = (visitors.clone(), name.clone());
        let work = mc.map_as(Execution::Parallel, (0..8).collect(), move |_: u32| {
            seen.note(&pool);
            burn(30);
        });
        let (_, mode) = soon(work).await.unwrap();
        let told = match mode {
            Mode::Parallel { participants, .. } => participants,
            _ => 1,
        };
        let most = 1 + visitors.count();
        assert!(told <= most, "round {round}: {mode:?}, but {} workers worked", most - 1);
    }
}

#[tokio::test]
async fn a_panic_is_an_error_with_its_message_on_every_path() {
    let mc = pool(2).await;
    for execution in ALL {
        let mapped = mc.map_as(execution, (0..100).collect(), |item: u32| {
            assert!(item != 70, "item {item} is bad");
            item
        });
        let error = soon(mapped).await.unwrap_err();
        let TaskError::Panicked { message, .. } = &error else { panic!("{error:?}") };
        assert_eq!(message, "item 70 is bad", "{execution:?}");
        assert_eq!(mc.stats().owners, 0);
        assert_eq!(soon(mc.parallel_map(0..100, |item| item)).await.unwrap().len(), 100);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_panics_the_first_in_the_order_of_the_items_is_told() {
    let mc = pool(2).await;
    for execution in ALL {
        for _ in 0..50 {
            let mapped = mc.map_as(execution, (0..200).collect(), |item: u32| {
                if item % 40 == 33 {
                    std::panic::resume_unwind(Box::new(format!("item {item}")));
                }
            });
            let error = soon(mapped).await.unwrap_err();
            assert!(
                matches!(&error, TaskError::Panicked { message, .. } if message == "item 33"),
                "{error:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_how_many_items_were_done() {
    let after = Duration::from_secs(10);
    let mc = builder(1).timeout(after).start().await.unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let mapped = tokio::spawn({
        let mc = mc.clone();
        async move {
            mc.map_as(Execution::Sequential, vec![(); 1_000_000], move |()| {
                count.fetch_add(1, Ordering::Relaxed);
                burn(20);
            })
            .await
        }
    });
    until("some are done", || done.load(Ordering::Relaxed) > 0).await;
    tokio::time::advance(after).await;
    let error = mapped.await.unwrap().unwrap_err();
    let TaskError::Timeout { finished, of: 1_000_000, .. } = error else { panic!("{error:?}") };
    assert_eq!(finished, done.load(Ordering::Relaxed));
    assert!(finished < 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_future_stops_the_worker_after_its_chunk_and_leaks_nothing() {
    let (name, mc) = named().await;
    let token = Arc::new(());
    let begun = Arc::new(AtomicUsize::new(0));
    let (key, closed) = gate();
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let count = Arc::clone(&begun);
    let items: Vec<_> = (0..1_000).map(|_| Arc::clone(&token)).collect();
    let mapped = tokio::spawn({
        let (mc, worker_is_there) = (mc.clone(), AtomicBool::new(false));
        let first = AtomicBool::new(true);
        async move {
            mc.map_as(Execution::Parallel, items, move |item| {
                if is_worker(&name) {
                    worker_is_there.store(true, Ordering::Relaxed);
                    count.fetch_add(1, Ordering::Relaxed);
                    let _sent = arrived.send(());
                    closed.pass();
                } else if first.swap(false, Ordering::Relaxed) {
                    dear();
                } else {
                    // With the second item the worker is called.
                    let start = std::time::Instant::now();
                    while !worker_is_there.load(Ordering::Relaxed) && start.elapsed() < PATIENCE {
                        std::thread::yield_now();
                    }
                }
                item
            })
            .await
        }
    });
    soon(arrivals.recv()).await.unwrap();
    mapped.abort();
    assert!(soon(mapped).await.unwrap_err().is_cancelled());
    assert_eq!((mc.stats().owners, mc.stats().jobs), (0, 0));
    key.open();
    until("the items are dropped", || Arc::strong_count(&token) == 1).await;
    assert!(begun.load(Ordering::Relaxed) < 1_000 / 2 + 1, "more than a chunk");
}

#[tokio::test]
async fn a_future_that_is_dropped_while_it_works_leaves_no_owner_behind() {
    let mc = pool(2).await;
    let token = Arc::new(());
    let items: Vec<_> = (0..10_000).map(|_| Arc::clone(&token)).collect();
    let mut mapped = Box::pin(mc.parallel_map(items, |item| {
        burn(10);
        item
    }));
    let polled = poll_fn(|context| Poll::Ready(mapped.as_mut().poll(context))).await;
    assert!(polled.is_pending(), "it gives way");
    assert_eq!(mc.stats().owners, 1);
    drop(mapped);
    assert_eq!(mc.stats().owners, 0);
    until("the items are dropped", || Arc::strong_count(&token) == 1).await;
}

/// Panics when it is dropped, if armed.
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        if std::mem::take(&mut self.0) {
            panic!("a bomb went off");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_panics_when_dropped_costs_no_worker() {
    let (name, mc) = named().await;
    // One only: two at once would end the process.
    let items: Vec<_> = (0..33).map(|item| Bomb(item == 32)).collect();
    let (key, closed) = gate();
    let first = AtomicBool::new(true);
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mapped = tokio::spawn({
        let mc = mc.clone();
        async move {
            mc.map_as(Execution::Parallel, items, move |item| {
                if is_worker(&name) {
                    let _sent = arrived.send(());
                    // The job is closed, and the items nobody has claimed are dropped by this thread.
                    std::panic::resume_unwind(Box::new("on purpose"));
                }
                if first.swap(false, Ordering::Relaxed) {
                    dear();
                } else {
                    closed.pass();
                }
                std::mem::forget(item);
            })
            .await
        }
    });
    soon(arrivals.recv()).await.unwrap();
    let mut next = mc.task().unwrap();
    next.run(|| 1);
    let outcome = next.get_timeout(Duration::from_secs(5)).await;
    key.open();
    // An error, or the panic itself where the items were dropped by their owner.
    assert!(!matches!(soon(mapped).await, Ok(Ok(_))));
    assert_eq!(outcome, Ok(vec![1]), "the worker is gone");
}
