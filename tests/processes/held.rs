//! Results that are held: nothing changes them, and they outlive their workers.

use bytes::Bytes;
use multicore_core::process::{End, Json, Packed, ProcessError};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::system::{alone, kill, soon};
use crate::tasks::{pool, settings};

#[tokio::test]
async fn two_hundred_results_held_over_twelve_crashes_stay_as_they_were() {
    let mc = pool(settings(2)).await;
    let processes = mc.processes();
    let mut held = Vec::new();
    for index in 0..200_usize {
        if index % 16 == 15 {
            let Json(pid) = soon(processes.run::<_, Json<u32>>("pid", ())).await.unwrap();
            kill(pid, Signal::KILL);
        }
        let argument = Packed((20_000 + index * 1_000, index as u8));
        let result: Bytes = soon(processes.run("fill", argument)).await.unwrap();
        // Part of it is let go, so that maps are lent again between.
        held.push((index, if index % 3 == 0 { result.slice(9..) } else { result }));
        if index % 5 == 0 {
            let _dropped: Bytes = soon(processes.run("fill", Packed((50_000_usize, 255_u8)))).await.unwrap();
        }
    }
    assert_eq!(processes.stats().died, 12);
    for (index, result) in &held {
        let len = 20_000 + index * 1_000 - if index % 3 == 0 { 9 } else { 0 };
        assert!(result.len() == len && result.iter().all(|byte| *byte == *index as u8), "result {index}");
    }
    mc.shutdown(crate::system::PATIENCE).await;
    drop(mc);
    assert!(held.iter().all(|(index, result)| result[0] == *index as u8), "they outlive the pool");
}

/// In a server that may have few descriptors open, which its clients' connections need.
#[tokio::test]
async fn results_are_held_by_the_thousand_without_descriptors() {
    if !alone("held::results_are_held_by_the_thousand_without_descriptors") {
        return;
    }
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum }).unwrap();
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    for _ in 0..2 {
        let mut held = Vec::new();
        for index in 0..1_500_usize {
            let len = 17_000 + index * 100;
            let result: Bytes = soon(processes.run("fill", Packed((len, index as u8)))).await.unwrap();
            held.push(result);
        }
        for (index, result) in held.iter().enumerate() {
            assert!(result.len() == 17_000 + index * 100 && result.iter().all(|byte| *byte == index as u8));
        }
    }
    let stats = processes.stats();
    assert_eq!((stats.started, stats.died), (1, 0));
}

/// Then the server is told of the map's length only with a later and shorter result.
#[tokio::test]
async fn a_map_that_has_grown_for_a_result_that_was_too_large_serves_the_next_ones() {
    let mc = pool(settings(1).max_result(150_000)).await;
    let processes = mc.processes();
    for _ in 0..2 {
        // Written piece by piece, up to the limit.
        let error =
            soon(processes.run::<_, Json<Vec<u32>>>("count-up", Json(100_000_u32))).await.unwrap_err();
        assert!(matches!(error, ProcessError::TooLarge { limit: 150_000, .. }), "{error}");
        for len in [20_000_usize, 140_000, 70_000] {
            let result: Bytes = soon(processes.run("fill", Packed((len, 7_u8)))).await.unwrap();
            assert!(result.len() == len && result.iter().all(|byte| *byte == 7));
        }
    }
    assert_eq!((processes.stats().started, processes.stats().killed), (1, 0));
}

/// What the worker is told to forget then does not fit one message.
#[tokio::test]
async fn hundreds_of_results_dropped_at_once_cost_no_worker() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    for _ in 0..2 {
        let mut held = Vec::new();
        for index in 0..400_usize {
            held.push(
                soon(processes.run::<_, Bytes>("fill", Packed((20_000_usize, index as u8)))).await.unwrap(),
            );
        }
        drop(held);
        let argument = Bytes::from(vec![7; 16_384]);
        assert_eq!(soon(processes.run::<_, Bytes>("echo", argument.clone())).await.unwrap(), argument);
    }
    assert_eq!(processes.stats().started, 1);
}

#[tokio::test]
async fn a_wild_write_to_a_result_already_handed_over_kills_the_worker_and_not_the_result() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    let result: Bytes = soon(processes.run("fill", Packed((100_000_usize, 7_u8)))).await.unwrap();
    let error = soon(processes.run::<_, ()>("write-handed-over", ())).await.unwrap_err();
    assert!(matches!(error, ProcessError::Died { end: End::Signal(11), .. }), "{error}");
    assert!(result.iter().all(|byte| *byte == 7));
    let next: Bytes = soon(processes.run("fill", Packed((100_000_usize, 8_u8)))).await.unwrap();
    assert!(next.iter().all(|byte| *byte == 8) && result.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn a_worker_cannot_shrink_what_it_was_lent() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    let result: Bytes = soon(processes.run("fill", Packed((100_000_usize, 7_u8)))).await.unwrap();
    let told: Json<Vec<Option<i32>>> = soon(processes.run("shrink", ())).await.unwrap();
    assert!(!told.0.is_empty());
    assert!(told.0.iter().all(|error| *error == Some(1)), "all are refused with EPERM: {told:?}");
    assert!(result.iter().all(|byte| *byte == 7));
}
