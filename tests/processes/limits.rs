//! Memory, tasks and time: what a worker may have, and when it is replaced.

use std::time::Duration;

use bytes::Bytes;
use multicore_core::process::{Json, ProcessError};

use crate::system::{Gate, soon, until_async};
use crate::tasks::{pool, settings};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn a_task_that_eats_memory_is_refused_more_and_told() {
    let mc = pool(settings(1).max_memory(64 * MIB)).await;
    let processes = mc.processes();
    let error = soon(processes.run::<_, Bytes>("eat", Bytes::new())).await.unwrap_err();
    assert!(matches!(error, ProcessError::Memory { limit, .. } if limit == 64 * MIB), "{error}");
    assert!(
        error.to_string().starts_with("test-process-0 used up max-memory, 67108864 bytes, over task `eat`")
    );
    let answered: Json<usize> =
        soon(processes.run("leak", Json(1_usize))).await.map(|_: Json<u32>| Json(1)).unwrap();
    assert_eq!(answered.0, 1);
}

#[tokio::test]
async fn memory_that_the_system_does_not_limit_is_watched() {
    let (mc, gate) = (pool(settings(1).max_memory(64 * MIB)).await, Gate::new());
    let processes = mc.processes();
    let error = soon(processes.run::<_, ()>("eat-unseen", gate.path())).await.unwrap_err();
    assert!(matches!(error, ProcessError::Memory { limit, .. } if limit == 64 * MIB), "{error}");
    let _next: Json<u32> = soon(processes.run("pid", ())).await.unwrap();
    assert_eq!(processes.stats().killed, 1);
}

#[tokio::test]
async fn a_worker_is_replaced_after_its_tasks_by_whoever_has_called() {
    let mc = pool(settings(1).max_tasks(3)).await;
    let processes = mc.processes().clone();
    let pids = tokio::task::spawn_blocking(move || {
        (0..9).map(|_| processes.run_blocking::<_, Json<u32>>("pid", ()).unwrap().0).collect::<Vec<_>>()
    });
    let mut pids = soon(pids).await.unwrap();
    for _ in 0..9 {
        pids.push(soon(mc.processes().run::<_, Json<u32>>("pid", ())).await.unwrap().0);
    }
    assert!(pids.chunks(3).all(|of_one| of_one.iter().all(|pid| *pid == of_one[0])), "{pids:?}");
    pids.dedup();
    assert_eq!(pids.len(), 6);
    until_async("the last is replaced", || processes_recycled(&mc) == 6).await;
    assert_eq!((mc.processes().stats().died, mc.processes().stats().killed), (0, 0));
}

fn processes_recycled(mc: &multicore_core::Multicore<()>) -> u64 {
    mc.processes().stats().recycled
}

#[tokio::test]
async fn a_worker_that_has_leaked_is_replaced_after_its_task() {
    let mc = pool(settings(1).max_rss(64 * MIB)).await;
    // Several times: one that is forgotten may be found again by chance.
    for blocking in [false, true, true, true, true] {
        let processes = mc.processes().clone();
        let before = processes.stats().recycled;
        // Not weighed with every task, so it may take some.
        until_leaked(&processes, blocking).await;
        until_async("replaced", || processes.stats().recycled > before).await;
        assert_eq!(processes.stats().died, 0);
    }
}

/// Leaks until the worker is due, and calls nothing after that: what is due must not be forgotten.
async fn until_leaked(processes: &multicore_core::process::Processes, blocking: bool) {
    let processes = processes.clone();
    // The worker was up for longer than the time between two looks once it has copied so much.
    let leak = Json(96 * MIB as usize);
    let leaked: Json<u32> = if blocking {
        soon(tokio::task::spawn_blocking(move || processes.run_blocking("leak", leak)))
            .await
            .unwrap()
            .unwrap()
    } else {
        soon(processes.run("leak", leak)).await.unwrap()
    };
    assert_ne!(leaked.0, 0);
}

#[tokio::test]
async fn a_task_that_hangs_is_killed_when_its_time_is_up() {
    let mc = pool(settings(1)).await;
    let short = mc.processes().with_timeout(Duration::from_millis(50));
    let error = soon(short.run::<_, ()>("hang", ())).await.unwrap_err();
    let says = "task `hang` was not done within 50ms by test-process-0";
    assert!(error.to_string().starts_with(says), "{error}");
    let _next: Json<u32> = soon(mc.processes().run("pid", ())).await.unwrap();
    let call = tokio::task::spawn_blocking(move || short.run_blocking::<_, ()>("hang", ()));
    let error = soon(call).await.unwrap().unwrap_err();
    assert!(error.to_string().starts_with(says), "{error}");
    let _next: Json<u32> = soon(mc.processes().run("pid", ())).await.unwrap();
    assert_eq!((mc.processes().stats().killed, mc.processes().stats().died), (2, 0));
}

#[tokio::test]
async fn a_task_that_hangs_takes_what_it_started_along() {
    let (mc, gate) = (pool(settings(1)).await, Gate::new());
    // Long enough for the grandchild to be seen, on a machine that is busy.
    let short = mc.processes().with_timeout(Duration::from_secs(2));
    let (call, grandchild) = tokio::join!(short.run::<_, ()>("family", gate.path()), async {
        let waiting = gate.arrival().await;
        let pid = waiting.pid;
        waiting.until_cut().await;
        pid
    });
    assert!(matches!(call.unwrap_err(), ProcessError::Timeout { .. }));
    until_async("gone", || !crate::system::is_alive(grandchild)).await;
}
