//! The pool's end: what runs is finished or cut, and nothing is left.

use std::time::Duration;

use bytes::Bytes;
use multicore_core::process::{Json, Packed, ProcessError};
use rustix::process::Signal;

use crate::system::{
    Gate, PATIENCE, alone, children_of, exists, holdings, kill, soon, until_async, until_given_back,
};
use crate::tasks::{pool, settings};

fn children() -> Vec<u32> {
    children_of(std::process::id())
}

#[tokio::test]
async fn what_runs_and_what_waits_is_finished_and_nothing_new_is_taken() {
    let (mc, gate) = (pool(settings(1)).await, Gate::new());
    let run = || {
        let (processes, path) = (mc.processes().clone(), gate.path());
        tokio::spawn(async move { processes.run::<_, Json<u32>>("gate", path).await })
    };
    let calls = [run(), run(), run()];
    let running = gate.arrival().await;
    until_async("two wait", || mc.processes().stats().queue == 2).await;
    let shutdown = tokio::spawn({
        let mc = mc.clone();
        async move { mc.shutdown(PATIENCE).await }
    });
    until_async("closed", || {
        let refused = futures_util::FutureExt::now_or_never(mc.processes().run::<_, Json<u32>>("pid", ()));
        matches!(refused, Some(Err(ProcessError::Stopped)))
    })
    .await;
    running.release().await;
    gate.arrival().await.release().await;
    gate.arrival().await.release().await;
    for call in calls {
        if let Err(error) = soon(call).await.unwrap() {
            panic!("{error}");
        }
    }
    assert!(soon(shutdown).await.unwrap().is_clean());
    let again = soon(mc.shutdown(PATIENCE)).await;
    assert!(again.is_clean() && again.joined == 0);
}

#[tokio::test]
async fn what_is_not_done_by_the_deadline_is_killed_told_and_counted() {
    let (mc, gate) = (pool(settings(2)).await, Gate::new());
    let run = || {
        let (processes, path) = (mc.processes().clone(), gate.path());
        tokio::spawn(async move { processes.run::<_, Json<u32>>("gate", path).await })
    };
    let running = run();
    let first = gate.arrival().await;
    let (processes, path) = (mc.processes().clone(), gate.path());
    let blocking = tokio::task::spawn_blocking(move || processes.run_blocking::<_, Json<u32>>("gate", path));
    let _second = gate.arrival().await;
    let waits = run();
    until_async("one waits", || mc.processes().stats().queue == 1).await;
    let report = soon(mc.shutdown(Duration::from_millis(1))).await;
    assert_eq!(report.cut, 3, "{report}");
    for call in [running, waits, blocking] {
        let error = soon(call).await.unwrap().unwrap_err();
        assert!(matches!(error, ProcessError::Stopped), "{error}");
    }
    assert!(!exists(first.pid));
    assert_eq!(soon(mc.shutdown(PATIENCE)).await.cut, 0);
}

#[tokio::test]
async fn no_process_no_zombie_no_descriptor_and_no_map_is_left() {
    if !alone("shutdown::no_process_no_zombie_no_descriptor_and_no_map_is_left") {
        return;
    }
    // Opens what the runtime and the pool keep for good.
    pool(settings(1)).await.shutdown(PATIENCE).await;
    until_async("ended", || children().is_empty()).await;
    let before = holdings();
    for how in 0..6 {
        let (mc, gate) = (pool(settings(3)).await, Gate::new());
        let processes = mc.processes();
        assert_eq!(children().len(), 3);
        let held: Bytes = soon(processes.run("fill", Packed((300_000_usize, 7_u8)))).await.unwrap();
        let argument = Bytes::from(vec![1; 300_000]);
        drop(soon(processes.run::<_, Bytes>("echo", argument)).await.unwrap());
        soon(processes.run::<_, ()>("abort", String::new())).await.unwrap_err();
        let call = tokio::spawn({
            let (processes, path) = (processes.clone(), gate.path());
            async move { processes.run::<_, Json<u32>>("gate", path).await }
        });
        let waiting = gate.arrival().await;
        match how {
            0 => {
                waiting.release().await;
                assert!(soon(mc.shutdown(PATIENCE)).await.is_clean());
                assert_eq!(children(), [0; 0], "all were waited for when it returns");
            }
            1 => {
                assert_eq!(soon(mc.shutdown(Duration::from_millis(1))).await.cut, 1);
                waiting.until_cut().await;
                assert_eq!(children(), [0; 0]);
            }
            // The last handle goes, without a shutdown.
            2 => waiting.release().await,
            3 => {
                call.abort();
                waiting.until_cut().await;
            }
            // A shutdown that is not waited for.
            4 => {
                let _dropped = futures_util::FutureExt::now_or_never(mc.shutdown(PATIENCE));
                waiting.release().await;
            }
            // Workers that do not end when they are asked.
            _ => {
                waiting.release().await;
                // Not one that is only being started: what starts it would be stopped with it.
                until_async("all are up", || processes.stats().ready == 3).await;
                children().iter().for_each(|worker| kill(*worker, Signal::STOP));
                soon(mc.shutdown(PATIENCE)).await;
                assert_eq!(children(), [0; 0]);
            }
        }
        let _ended = soon(call).await;
        drop((mc, gate));
        assert!(held.iter().all(|byte| *byte == 7));
        drop(held);
        until_async("no child is left", || children().is_empty()).await;
        until_given_back(&before).await;
    }
}
