//! How workers die, and what their callers hear.

use bytes::Bytes;
use multicore_core::process::{End, Json, ProcessError, Processes};
use rustix::process::Signal;

use crate::system::{Gate, exists, is_alive, kill, soon, stop, until_async};
use crate::tasks::{pool, settings};

/// The error of a death.
async fn death(processes: &Processes, task: &str) -> (End, String) {
    let error = soon(processes.run::<_, Bytes>(task, Bytes::new())).await.unwrap_err();
    match error {
        ProcessError::Died { task: of, worker, end, last_words } => {
            assert_eq!((&*of, &*worker), (task, "test-process-0"));
            (end, last_words.as_str().to_owned())
        }
        other => panic!("{task}: {other}"),
    }
}

async fn pid(processes: &Processes) -> u32 {
    soon(processes.run::<_, Json<u32>>("pid", ())).await.unwrap().0
}

#[tokio::test]
async fn a_worker_that_aborts_or_exits_is_named_with_its_last_words_and_replaced() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    let error = processes.run::<_, ()>("abort", "bad pixel".to_owned()).await.unwrap_err();
    let ProcessError::Died { task, worker, end, last_words } = error else { panic!("{error}") };
    assert_eq!((&*task, &*worker, end), ("abort", "test-process-0", End::Signal(6)));
    assert!(last_words.as_str().contains("bad pixel"));
    let error = processes.run::<_, ()>("exit", Json(3)).await.unwrap_err();
    assert!(matches!(error, ProcessError::Died { end: End::Exit(3), .. }), "{error}");
    pid(processes).await;
    let stats = processes.stats();
    assert_eq!((stats.died, stats.started, stats.repeated), (2, 3, 0));
}

#[tokio::test]
async fn a_fault_a_sent_fault_and_a_stack_overflow_are_told_apart() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    assert_eq!(death(processes, "fault").await.0, End::Signal(11));
    assert_eq!(death(processes, "segv").await.0, End::Signal(11));
    let (end, words) = death(processes, "overflow").await;
    assert_eq!(end, End::Signal(6), "{words}");
    assert!(words.contains("has overflowed its stack"), "{words}");
    pid(processes).await;
    assert_eq!(processes.stats().died, 3);
}

#[tokio::test]
async fn a_worker_killed_over_a_task_is_told_with_the_signal_and_the_next_is_answered() {
    let (mc, gate) = (pool(settings(1)).await, Gate::new());
    let processes = mc.processes().clone();
    let call = tokio::spawn({
        let (processes, path) = (processes.clone(), gate.path());
        async move { processes.run::<_, Json<u32>>("gate", path).await }
    });
    let waiting = gate.arrival().await;
    kill(waiting.pid, Signal::KILL);
    let error = soon(call).await.unwrap().unwrap_err().to_string();
    assert!(error.starts_with("test-process-0 was killed by SIGKILL over task `gate`"), "{error}");
    assert_ne!(pid(&processes).await, waiting.pid);
    assert!(gate.is_empty(), "it was not run again");
    assert!(!exists(waiting.pid), "waited for");
}

#[tokio::test]
async fn a_thread_that_waits_itself_hears_of_a_death_as_well() {
    let (mc, gate) = (pool(settings(1)).await, Gate::new());
    let (processes, path) = (mc.processes().clone(), gate.path());
    let call = tokio::task::spawn_blocking(move || {
        let killed = processes.run_blocking::<_, Json<u32>>("gate", path);
        (killed, processes.run_blocking::<_, Json<u32>>("pid", ()))
    });
    kill(gate.arrival().await.pid, Signal::KILL);
    let (killed, next) = soon(call).await.unwrap();
    assert!(matches!(killed.unwrap_err(), ProcessError::Died { end: End::Signal(9), .. }));
    assert!(next.is_ok());
}

#[tokio::test]
async fn an_idle_worker_that_is_killed_is_replaced_without_a_call() {
    let mc = pool(settings(2)).await;
    let processes = mc.processes();
    for round in 1..=10 {
        let first = pid(processes).await;
        kill(first, Signal::KILL);
        until_async("replaced", || {
            let stats = processes.stats();
            (stats.died, stats.ready, stats.started) == (round, 2, 2 + round)
        })
        .await;
        assert!(!exists(first));
    }
    assert_eq!(processes.stats().killed, 0);
}

#[tokio::test]
async fn a_call_that_had_not_begun_is_sent_again_in_silence() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    for _ in 0..20 {
        // Whether the server has seen the end by the next call is open; the answer is not.
        kill(pid(processes).await, Signal::KILL);
        pid(processes).await;
    }
    // One that is stopped does not begin.
    let stopped = pid(processes).await;
    stop(stopped).await;
    let call = tokio::spawn({
        let processes = processes.clone();
        async move { pid(&processes).await }
    });
    until_async("sent", || processes.stats().busy == 1).await;
    kill(stopped, Signal::KILL);
    assert_ne!(soon(call).await.unwrap(), stopped);
    assert!(processes.stats().repeated >= 1);
}

#[tokio::test]
async fn an_idempotent_task_is_run_once_more_and_not_a_third_time() {
    let (mc, gate) = (pool(settings(1)).await, Gate::new());
    let run = || {
        let (processes, path) = (mc.processes().clone(), gate.path());
        tokio::spawn(async move { processes.run::<_, Json<u32>>("gate-again", path).await })
    };
    let call = run();
    kill(gate.arrival().await.pid, Signal::KILL);
    let second = gate.arrival().await;
    let pid = second.pid;
    second.release().await;
    assert_eq!(soon(call).await.unwrap().unwrap().0, pid);
    let call = run();
    kill(gate.arrival().await.pid, Signal::KILL);
    kill(gate.arrival().await.pid, Signal::KILL);
    let error = soon(call).await.unwrap().unwrap_err();
    assert!(matches!(error, ProcessError::Died { end: End::Signal(9), .. }), "{error}");
    assert!(gate.is_empty());
}

/// Of two deaths one was not the task's, so it does not count as the one that is allowed.
#[tokio::test]
async fn a_death_before_it_began_does_not_take_the_second_try_of_an_idempotent_task() {
    let (mc, gate) = (pool(settings(1)).await, Gate::new());
    let processes = mc.processes();
    let stopped = pid(processes).await;
    stop(stopped).await;
    let call = tokio::spawn({
        let (processes, path) = (processes.clone(), gate.path());
        async move { processes.run::<_, Json<u32>>("gate-again", path).await }
    });
    until_async("sent", || processes.stats().busy == 1).await;
    kill(stopped, Signal::KILL);
    kill(gate.arrival().await.pid, Signal::KILL);
    gate.arrival().await.release().await;
    assert!(soon(call).await.unwrap().is_ok());
}

#[tokio::test]
async fn an_answer_given_before_the_end_counts() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes().clone();
    for round in 1..=20 {
        let answer: Bytes = if round % 2 == 0 {
            soon(processes.run("answer-and-die", Bytes::new())).await.unwrap()
        } else {
            let processes = processes.clone();
            let call = move || processes.run_blocking("answer-and-die", Bytes::new());
            soon(tokio::task::spawn_blocking(call)).await.unwrap().unwrap()
        };
        assert!(answer.is_empty());
        // Without another call, which would find out by itself.
        until_async("replaced", || {
            let stats = processes.stats();
            (stats.died, stats.ready) == (round, 1)
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_killed_worker_had_started_is_gone_with_it() {
    let (mc, gate) = (pool(settings(1)).await, Gate::new());
    let (processes, path) = (mc.processes().clone(), gate.path());
    let call = tokio::spawn(async move { processes.run::<_, ()>("family", path).await });
    let waiting = gate.arrival().await;
    let grandchild = waiting.pid;
    assert!(is_alive(grandchild));
    call.abort();
    waiting.until_cut().await;
    until_async("gone", || !is_alive(grandchild)).await;
}
