//! Tasks: closures on the workers, with every outcome a closure can have (a result, an error, a panic,
//! slow, never, dropped) and nothing of one task ever reaching another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use multicore_core::{LoadLimit, Multicore, Task, TaskError};
use tokio::sync::mpsc;

use crate::support::{Gate, Key, builder, gate, occupy, pool, soon, until, until_idle};

/// Waits until so many of the task's runs have finished.
async fn until_finished<T: Send + 'static>(task: &Task<T>, finished: usize) {
    let says = format!("finished: {finished},");
    until(&says, || format!("{task:?}").contains(&says)).await;
}

/// That the pool does what it is asked to, on every worker at once.
async fn assert_usable(mc: &Multicore<()>) {
    let workers = mc.stats().workers;
    let barrier = Arc::new(std::sync::Barrier::new(workers));
    let mut task = mc.task().unwrap();
    for run in 0..workers {
        let barrier = Arc::clone(&barrier);
        task.run(move || {
            barrier.wait();
            run
        });
    }
    assert_eq!(soon(task.get()).await, Ok((0..workers).collect()));
}

#[tokio::test]
async fn results_come_in_run_order_whatever_the_finishing_order() {
    let mc = pool(3).await;
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (keys, gates): (Vec<Key>, Vec<Gate>) = (0..3).map(|_| gate()).unzip();
        let mut task = mc.task().unwrap();
        for (run, gate) in gates.into_iter().enumerate() {
            task.run(move || {
                gate.pass();
                format!("run {run}")
            });
        }
        for (finished, run) in order.into_iter().enumerate() {
            keys[run].open();
            until_finished(&task, finished + 1).await;
        }
        assert_eq!(soon(task.get()).await.unwrap(), ["run 0", "run 1", "run 2"], "{order:?}");
    }
}

#[tokio::test]
async fn an_empty_task_gives_an_empty_list() {
    let mc = pool(1).await;
    assert_eq!(soon(mc.task::<u8>().unwrap().get()).await, Ok(vec![]));
    assert_eq!(soon(mc.task::<u8>().unwrap().get_timeout(Duration::ZERO)).await, Ok(vec![]));
    assert_eq!(soon(mc.task::<Result<u8, ()>>().unwrap().try_get()).await, Ok(Ok(vec![])));
}

#[tokio::test]
async fn there_is_no_task_while_the_load_is_above_the_limit() {
    let load = Arc::new(AtomicU64::new(f64::to_bits(8.1)));
    let source = Arc::clone(&load);
    let mc = builder(1)
        .cores(10)
        .max_load_average(LoadLimit::from_number(0.8).unwrap())
        .load_source(move || Some(f64::from_bits(source.load(Ordering::Relaxed))))
        .start()
        .await
        .unwrap();
    assert!(mc.task::<()>().is_none(), "the load is known from the start");
    load.store(f64::to_bits(8.0), Ordering::Relaxed);
    mc.sample_load();
    let mut task = mc.task().expect("the limit itself is not above it");
    load.store(f64::to_bits(9.0), Ordering::Relaxed);
    mc.sample_load();
    assert!(mc.task::<()>().is_none());
    task.run(|| 1);
    assert_eq!(soon(task.get()).await, Ok(vec![1]), "what was granted stays so");
}

#[tokio::test]
async fn there_is_no_task_once_the_pool_has_stopped() {
    let mc = pool(1).await;
    let mut early = mc.task().unwrap();
    let token = Arc::new(());
    mc.shutdown(Duration::from_secs(60)).await;
    assert!(mc.task::<()>().is_none());
    let held = Arc::clone(&token);
    early.run(move || drop(held));
    assert_eq!(Arc::strong_count(&token), 1, "a refused closure is dropped at once");
    assert_eq!(soon(early.get()).await, Err(TaskError::Stopped { finished: 0, of: 1 }));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_how_many_runs_had_finished() {
    let mc = pool(2).await;
    let (_key, closed) = gate();
    let mut task = mc.task().unwrap();
    task.run(|| ());
    task.run(move || closed.pass());
    task.run(|| ());
    until_finished(&task, 2).await;
    let after = Duration::from_secs(10);
    let error = task.get_timeout(after).await.unwrap_err();
    assert_eq!(error, TaskError::Timeout { after, finished: 2, of: 3 });
    assert_eq!(error.to_string(), "2 of 3 runs finished within 10s");
}

#[tokio::test(start_paused = true)]
async fn the_pools_own_timeout_holds_for_get_and_try_get() {
    let after = Duration::from_secs(7);
    let mc = builder(1).timeout(after).start().await.unwrap();
    let (_key, closed) = gate();
    let mut task = mc.task().unwrap();
    let also_closed = closed.clone();
    task.run(move || closed.pass());
    assert_eq!(task.get().await, Err(TaskError::Timeout { after, finished: 0, of: 1 }));
    let mut task = mc.task().unwrap();
    task.run(move || {
        also_closed.pass();
        Ok::<(), ()>(())
    });
    assert_eq!(task.try_get().await, Err(TaskError::Timeout { after, finished: 0, of: 1 }));
}

#[tokio::test(start_paused = true)]
async fn a_late_result_reaches_no_one() {
    let mc = pool(1).await;
    for round in 0..20 {
        let (key, closed) = gate();
        let mut late = mc.task().unwrap();
        late.run(move || {
            closed.pass();
            "late"
        });
        assert!(matches!(late.get_timeout(Duration::from_secs(1)).await, Err(TaskError::Timeout { .. })));
        let mut next = mc.task().unwrap();
        next.run(|| "mine");
        key.open();
        assert_eq!(next.get().await.unwrap(), ["mine"], "round {round}");
    }
}

#[tokio::test]
async fn a_panic_arrives_at_once_with_its_message_while_others_hang() {
    let mc = pool(2).await;
    let (_key, closed) = gate();
    let mut task = mc.task().unwrap();
    task.run(move || closed.pass());
    task.run(|| panic!("boom {}", 1 + 1));
    let error = soon(task.get()).await.unwrap_err();
    assert_eq!(error, TaskError::Panicked { run: 1, message: "boom 2".to_owned() });
    assert_eq!(error.to_string(), "run 1 panicked: boom 2");
}

#[tokio::test]
async fn a_panic_cancels_the_runs_that_have_not_begun() {
    let mc = pool(1).await;
    let ran = Arc::new(AtomicUsize::new(0));
    let (held, key) = occupy(&mc).await;
    let mut task = mc.task().unwrap();
    task.run(|| panic!("first"));
    for _ in 0..5 {
        let ran = Arc::clone(&ran);
        task.run(move || {
            ran.fetch_add(1, Ordering::Relaxed);
        });
    }
    key.open();
    soon(held.get()).await.unwrap();
    assert!(matches!(soon(task.get()).await, Err(TaskError::Panicked { run: 0, .. })));
    assert_usable(&mc).await;
    assert_eq!(ran.load(Ordering::Relaxed), 0);
    assert_eq!(Arc::strong_count(&ran), 1);
}

#[tokio::test]
async fn panics_without_words_are_reported_too() {
    let mc = pool(1).await;
    let mut task = mc.task().unwrap();
    task.run(|| std::panic::panic_any(42));
    assert_eq!(
        soon(task.get()).await,
        Err::<Vec<()>, _>(TaskError::Panicked { run: 0, message: "a panic without a message".to_owned() })
    );
    let mut task = mc.task().unwrap();
    task.run(|| std::panic::panic_any("static"));
    assert_eq!(
        soon(task.get()).await,
        Err::<Vec<()>, _>(TaskError::Panicked { run: 0, message: "static".to_owned() })
    );
}

#[tokio::test]
async fn the_first_error_arrives_at_once_while_others_hang() {
    let mc = pool(2).await;
    let (_key, closed) = gate();
    let mut task = mc.task().unwrap();
    task.run(move || {
        closed.pass();
        Ok(0)
    });
    task.run(|| Err("no"));
    assert_eq!(soon(task.try_get()).await, Ok(Err("no")));
}

#[tokio::test]
async fn closures_that_all_succeed_give_their_values_in_order() {
    let mc = pool(2).await;
    let mut task = mc.task().unwrap();
    (0..50).for_each(|run| task.run(move || Ok::<_, ()>(run)));
    assert_eq!(soon(task.try_get()).await, Ok(Ok((0..50).collect())));
}

#[tokio::test]
async fn any_number_of_runs_is_taken() {
    let mc = pool(2).await;
    let mut task = mc.task().unwrap();
    (0..10_000_u32).for_each(|run| task.run(move || run));
    assert_eq!(soon(task.get()).await, Ok((0..10_000).collect()));
}

#[tokio::test]
async fn a_result_of_two_hundred_megabytes_arrives_without_being_copied() {
    let mc = pool(1).await;
    let mut task = mc.task().unwrap();
    task.run(|| {
        let bytes = vec![0_u8; 200_000_000];
        (bytes.as_ptr() as usize, bytes)
    });
    let (made_at, bytes) = soon(task.get()).await.unwrap().pop().unwrap();
    assert_eq!((bytes.len(), bytes.as_ptr() as usize), (200_000_000, made_at));
}

#[tokio::test]
async fn any_text_and_any_bytes_arrive_as_they_are() {
    let mc = pool(2).await;
    let texts = [
        "",
        "é",
        "\u{1F468}\u{200D}\u{1F469} \u{1F980}",
        "\0NUL\0",
        "\u{2028}\u{FFFF}\u{10FFFF}",
        "\"\\\u{8}\n",
        "\u{5E9}\u{5DC}",
    ];
    let mut task = mc.task().unwrap();
    texts.into_iter().for_each(|text| task.run(move || text.to_owned()));
    assert_eq!(soon(task.get()).await.unwrap(), texts);
    // A lone surrogate, an overlong slash, and every byte there is: not UTF-8.
    let bytes = [vec![0xED, 0xA0, 0x80], vec![0xC0, 0xAF], (0..=255).collect::<Vec<u8>>()];
    let mut task = mc.task().unwrap();
    bytes.iter().cloned().for_each(|bytes| task.run(move || bytes));
    assert_eq!(soon(task.get()).await.unwrap(), bytes);
}

#[tokio::test(start_paused = true)]
async fn dropped_and_timed_out_tasks_leak_nothing() {
    let mc = pool(1).await;
    let token = Arc::new(());
    let filled = || {
        let mut task = mc.task().unwrap();
        for _ in 0..100 {
            let held = Arc::clone(&token);
            task.run(move || held);
        }
        task
    };
    let (held, key) = occupy(&mc).await;

    let task = filled();
    assert_eq!(Arc::strong_count(&token), 101);
    drop(task);
    assert_eq!(Arc::strong_count(&token), 1, "a dropped task");

    let mut waiting = Box::pin(filled().get());
    let pending = std::future::poll_fn(|context| std::task::Poll::Ready(waiting.as_mut().poll(context)));
    assert!(pending.await.is_pending());
    drop(waiting);
    assert_eq!(Arc::strong_count(&token), 1, "a dropped future");

    assert!(filled().get_timeout(Duration::from_secs(1)).await.is_err());
    assert_eq!(Arc::strong_count(&token), 1, "a timeout");

    key.open();
    held.get().await.unwrap();
    assert_eq!(filled().get().await.unwrap().len(), 100);
    until("the results are gone", || Arc::strong_count(&token) == 1).await;
    until_idle(&mc).await;
    assert_eq!(mc.stats().queue, 0);
}

#[tokio::test]
async fn a_run_whose_task_was_dropped_ends_and_its_result_is_dropped() {
    let mc = pool(1).await;
    let token = Arc::new(());
    let (key, closed) = gate();
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let held = Arc::clone(&token);
    let mut task = mc.task().unwrap();
    task.run(move || {
        arrived.send(()).unwrap();
        closed.pass();
        held
    });
    soon(arrivals.recv()).await.unwrap();
    drop(task);
    assert_eq!(Arc::strong_count(&token), 2, "what runs goes on");
    key.open();
    until("the result is dropped", || Arc::strong_count(&token) == 1).await;
    assert_usable(&mc).await;
}

#[tokio::test]
async fn the_pool_is_as_good_as_new_after_each_of_a_thousand_tasks_however_they_ended() {
    let mc = pool(2).await;
    for job in 0..1_000_u32 {
        let mut task = mc.task().unwrap();
        let (key, closed) = gate();
        match job % 5 {
            0 => task.run(move || Ok(job)),
            1 => task.run(|| panic!("on purpose")),
            2 => task.run(move || Err(job)),
            _ => {
                let closed = closed.clone();
                task.run(move || {
                    closed.pass();
                    Ok(job)
                });
            }
        }
        task.run(|| Ok(7));
        match job % 5 {
            0 => assert_eq!(soon(task.try_get()).await, Ok(Ok(vec![job, 7])), "job {job}"),
            1 => assert!(matches!(soon(task.try_get()).await, Err(TaskError::Panicked { run: 0, .. }))),
            2 => assert_eq!(soon(task.try_get()).await, Ok(Err(job))),
            3 => assert!(matches!(task.get_timeout(Duration::ZERO).await, Err(TaskError::Timeout { .. }))),
            _ => drop(task),
        }
        drop(key);
    }
    assert_usable(&mc).await;
}

/// Panics when it is dropped, once.
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        if std::mem::take(&mut self.0) {
            panic!("a bomb went off");
        }
    }
}

#[tokio::test]
async fn a_late_result_that_panics_when_dropped_costs_no_worker() {
    let mc = pool(1).await;
    let (key, closed) = gate();
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut task = mc.task().unwrap();
    task.run(move || {
        arrived.send(()).unwrap();
        closed.pass();
        Bomb(true)
    });
    soon(arrivals.recv()).await.unwrap();
    drop(task);
    key.open();
    let mut next = mc.task().unwrap();
    next.run(|| 1);
    assert_eq!(next.get_timeout(Duration::from_secs(5)).await, Ok(vec![1]), "the worker is gone");
}

#[tokio::test]
async fn a_panic_payload_that_panics_when_dropped_costs_no_worker() {
    let mc = pool(1).await;
    let mut task = mc.task::<()>().unwrap();
    task.run(|| std::panic::panic_any(Bomb(true)));
    let outcome = task.get_timeout(Duration::from_secs(5)).await;
    assert!(matches!(outcome, Err(TaskError::Panicked { run: 0, .. })), "{outcome:?}");
    let mut next = mc.task().unwrap();
    next.run(|| 1);
    assert_eq!(next.get_timeout(Duration::from_secs(5)).await, Ok(vec![1]), "the worker is gone");
}
