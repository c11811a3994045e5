//! What calls give: values of every format and length, errors, and ranges in order.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use multicore_core::process::{Json, Packed, ProcessError};

use crate::system::soon;
use crate::tasks::{counted, pool, settings};

#[tokio::test]
async fn values_of_every_format_and_length_come_back() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    for len in [0, 1, 64, 16_383, 16_384, 16_385, 100_000, 1_000_000, 10_000_000] {
        let bytes: Bytes = (0..len).map(|at| at as u8).collect::<Vec<_>>().into();
        let back: Bytes = processes.run("echo", bytes.clone()).await.unwrap();
        assert!(back == bytes, "{len} bytes");
        let blocking = processes.clone();
        let sent = bytes.clone();
        let back = tokio::task::spawn_blocking(move || blocking.run_blocking::<_, Bytes>("echo", sent));
        assert!(back.await.unwrap().unwrap() == bytes, "{len} bytes from a thread");
    }
    let text: String = processes.run("shout", "größer ✓".to_owned()).await.unwrap();
    assert_eq!(text, "GRÖSSER ✓");
    let sum: Json<f64> = processes.run("sum", Packed(vec![0.1, 0.2])).await.unwrap();
    assert_eq!(sum.0, 0.1 + 0.2);
}

/// In a map that small results have used, in one that is lent again, and into the memory of a longer one.
#[tokio::test]
async fn results_written_in_place_are_what_was_written_in_whatever_pieces() {
    for copy in [false, true] {
        let mc = pool(settings(1).copy_results(copy)).await;
        for len in [100_000_usize, 9_000_000, 3_000_000, 9_000_001, 2_097_152] {
            for piece in [1_000_usize, 16_384, 2_500_000] {
                let result: Bytes = soon(mc.processes().run("pieces", Packed((len, piece)))).await.unwrap();
                assert!(result == counted(len), "{len} bytes in pieces of {piece}, copied: {copy}");
            }
        }
    }
}

#[tokio::test]
async fn a_result_that_fails_in_the_middle_is_an_error_and_its_map_is_used_again() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    for len in [100_usize, 50_000, 5_000_000] {
        let error = soon(processes.run::<_, Bytes>("half", Json(len))).await.unwrap_err();
        assert!(error.to_string().ends_with("there is no more"), "{error}");
        let result: Bytes = soon(processes.run("pieces", Packed((len + 1, 20_000_usize)))).await.unwrap();
        assert!(result == counted(len + 1), "{len}");
    }
    assert_eq!(processes.stats().died, 0);
}

#[tokio::test]
async fn an_error_and_a_panic_are_told_and_the_next_call_is_answered() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    let error = processes.run::<_, ()>("fail", "no such picture".to_owned()).await.unwrap_err();
    assert_eq!(error.to_string(), "task `fail` failed: no such picture");
    let before: Json<u32> = processes.run("pid", ()).await.unwrap();
    let error = processes.run::<_, ()>("panic", "out of luck".to_owned()).await.unwrap_err();
    assert_eq!(error.to_string(), "task `panic` panicked in test-process-0: out of luck");
    let after: Json<u32> = processes.run("pid", ()).await.unwrap();
    assert_ne!(before, after, "a worker that panicked is replaced");
    assert_eq!(processes.stats().recycled, 1);
}

#[tokio::test]
async fn a_pool_without_tasks_says_so() {
    let mc = multicore_core::Multicore::<()>::builder().workers(1).start().await.unwrap();
    let error = mc.processes().run::<_, Bytes>("echo", Bytes::new()).await.unwrap_err();
    assert!(matches!(error, ProcessError::NotConfigured), "{error}");
    assert_eq!(mc.processes().shutdown(Duration::ZERO).await, 0);
}

#[tokio::test]
async fn many_more_jobs_than_workers_are_all_answered_with_their_own_results() {
    let mc = pool(settings(2)).await;
    let calls = (0..200_usize).map(|index| {
        let processes = mc.processes().clone();
        async move {
            let (len, byte) = (index * 997, index as u8);
            let result: Bytes = processes.run("fill", Packed((len, byte))).await.unwrap();
            assert!(result.len() == len && result.iter().all(|found| *found == byte), "job {index}");
        }
    });
    soon(join_all(calls)).await;
    assert_eq!(mc.processes().stats().calls, 200);
}

#[tokio::test]
async fn a_task_that_writes_much_is_not_held_up_and_its_last_words_are_the_last() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    let () = soon(processes.run("flood", Json(2_000_000_usize))).await.unwrap();
    let error = processes.run::<_, ()>("abort", "the end".to_owned()).await.unwrap_err();
    let ProcessError::Died { last_words, .. } = error else { panic!("{error}") };
    assert!(last_words.as_str().contains("the end") && last_words.as_str().len() <= 4_096 * 3);
}

#[tokio::test]
async fn copied_results_are_the_same() {
    let mc = pool(settings(1).copy_results(true)).await;
    let processes = mc.processes();
    let (first, second): (Bytes, Bytes) = (
        processes.run("fill", Packed((1_000_000_usize, 1_u8))).await.unwrap(),
        processes.run("fill", Packed((1_000_000_usize, 2_u8))).await.unwrap(),
    );
    assert!(first.iter().all(|byte| *byte == 1) && second.iter().all(|byte| *byte == 2));
    assert!(first.len() == 1_000_000 && second.len() == 1_000_000);
}

#[tokio::test]
async fn a_result_above_the_limit_is_an_error_and_the_worker_goes_on() {
    let mc = pool(settings(1).max_result(100_000)).await;
    let processes = mc.processes();
    let before: Json<u32> = processes.run("pid", ()).await.unwrap();
    let error = processes.run::<_, Bytes>("fill", Packed((100_001_usize, 1_u8))).await.unwrap_err();
    assert_eq!(error.to_string(), "the result of task `fill` is longer than max-result, 100000 bytes");
    let whole: Bytes = processes.run("fill", Packed((100_000_usize, 1_u8))).await.unwrap();
    assert_eq!(whole.len(), 100_000);
    assert_eq!(processes.run::<_, Json<u32>>("pid", ()).await.unwrap(), before);
}

#[tokio::test]
async fn ranges_come_in_order_and_the_first_error_is_the_first_items() {
    let mc = pool(settings(2)).await;
    let processes = mc.processes();
    let texts = (0..50).map(|index| format!("ä{index}"));
    let shouted: Vec<String> = processes.map("shout", texts).await.unwrap();
    assert!(shouted.iter().enumerate().all(|(index, text)| *text == format!("Ä{index}")));
    let error = processes.map::<_, ()>("fail", ["one", "two"].map(str::to_owned)).await.unwrap_err();
    assert_eq!(error.to_string(), "task `fail` failed: one");
}

/// Slow without optimisation, and takes its length three times: in the task, in the map, in the argument back.
#[tokio::test]
#[ignore = "takes gigabytes of memory"]
async fn a_result_of_a_gigabyte_needs_no_setting() {
    let mc = pool(settings(1)).await;
    let result: Bytes = soon(mc.processes().run("fill", Packed((1_usize << 30, 7_u8)))).await.unwrap();
    assert!(result.len() == 1 << 30 && result.iter().all(|byte| *byte == 7));
}
