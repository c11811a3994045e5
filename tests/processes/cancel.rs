//! Callers that leave, or whose time is up: nothing of their call reaches anybody.

use std::time::Duration;

use bytes::Bytes;
use multicore_core::process::{Json, Packed, ProcessError, Processes};
use tokio::task::JoinHandle;

use crate::system::{Gate, soon, until_async};
use crate::tasks::{pool, settings};

fn at_gate(processes: &Processes, gate: &Gate) -> JoinHandle<Result<Json<u32>, ProcessError>> {
    let (processes, path) = (processes.clone(), gate.path());
    tokio::spawn(async move { processes.run("gate", path).await })
}

#[tokio::test]
async fn a_call_dropped_over_its_task_kills_the_worker_and_the_next_is_answered() {
    let (mc, gate) = (pool(settings(1)).await, Gate::new());
    let processes = mc.processes();
    let call = at_gate(processes, &gate);
    let waiting = gate.arrival().await;
    let pid = waiting.pid;
    call.abort();
    waiting.until_cut().await;
    let next: Json<u32> = soon(processes.run("pid", ())).await.unwrap();
    assert_ne!(next.0, pid);
    assert_eq!((processes.stats().killed, processes.stats().died), (1, 0));
}

#[tokio::test]
async fn a_call_dropped_while_it_waits_never_runs_and_frees_its_place() {
    let (mc, gate, never) = (pool(settings(1).max_queue(2)).await, Gate::new(), Gate::new());
    let processes = mc.processes();
    let first = at_gate(processes, &gate);
    let running = gate.arrival().await;
    let waits = at_gate(processes, &gate);
    until_async("one waits", || processes.stats().queue == 1).await;
    let left = at_gate(processes, &never);
    until_async("two wait", || processes.stats().queue == 2).await;
    let error = soon(processes.run::<_, Json<u32>>("pid", ())).await.unwrap_err();
    assert_eq!(error.to_string(), "2 calls are waiting for a worker process already");
    assert!(matches!(error, ProcessError::Overloaded { queue: 2 }));
    left.abort();
    until_async("one is gone", || processes.stats().queue == 1).await;
    let last = at_gate(processes, &gate);
    until_async("its place is taken", || processes.stats().queue == 2).await;
    running.release().await;
    gate.arrival().await.release().await;
    gate.arrival().await.release().await;
    for call in [first, waits, last] {
        assert!(soon(call).await.unwrap().is_ok());
    }
    assert!(never.is_empty());
    assert_eq!((processes.stats().started, processes.stats().refused), (1, 1));
}

#[tokio::test]
async fn a_call_whose_time_is_up_while_it_waits_never_runs() {
    let (mc, gate, never) = (pool(settings(1)).await, Gate::new(), Gate::new());
    let processes = mc.processes();
    let first = at_gate(processes, &gate);
    let running = gate.arrival().await;
    let short = processes.with_timeout(Duration::from_millis(20));
    let error = soon(short.run::<_, Json<u32>>("gate", never.path())).await.unwrap_err();
    assert_eq!(error.to_string(), "task `gate` was not done within 20ms, for want of a free worker");
    let path = never.path();
    let call = tokio::task::spawn_blocking(move || short.run_blocking::<_, Json<u32>>("gate", path));
    assert!(matches!(soon(call).await.unwrap().unwrap_err(), ProcessError::Timeout { .. }));
    running.release().await;
    assert!(soon(first).await.unwrap().is_ok());
    let _after: Json<u32> = soon(processes.run("pid", ())).await.unwrap();
    assert!(never.is_empty());
    assert_eq!(processes.stats().started, 1, "no worker was killed for calls that had not begun");
}

/// Callers leave at every moment of a call, and the next on the same worker gets its own result.
#[tokio::test]
async fn no_late_result_reaches_the_next_caller() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    for round in 0..150_usize {
        let left = processes.run::<_, Bytes>("fill", Packed((round * 700, 255_u8)));
        {
            let mut left = std::pin::pin!(left);
            for _ in 0..round % 30 {
                tokio::select! {
                    biased;
                    _ = &mut left => break,
                    () = tokio::task::yield_now() => {}
                }
            }
        }
        let own: Bytes = soon(processes.run("fill", Packed((round, round as u8)))).await.unwrap();
        assert!(own.len() == round && own.iter().all(|byte| *byte == round as u8), "round {round}");
    }
    assert_eq!(processes.stats().died, 0);
}

#[tokio::test]
async fn a_map_that_fails_cancels_the_others() {
    let (mc, gate) = (pool(settings(2)).await, Gate::new());
    let processes = mc.processes();
    let paths = ["/no/such/gate".to_owned(), gate.path()];
    let error = soon(processes.map::<_, Json<u32>>("gate", paths)).await.unwrap_err();
    assert!(matches!(error, ProcessError::Failed { .. }), "{error}");
    until_async("all are up and idle", || {
        let stats = processes.stats();
        (stats.ready, stats.busy, stats.queue) == (2, 0, 0)
    })
    .await;
}
