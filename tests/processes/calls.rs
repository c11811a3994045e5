//! What calls give: values of every format and length, errors, and ranges in order.

use std::time::Duration;

use bytes::Bytes;
use multicore_core::process::{Json, Packed, ProcessError};

use crate::tasks::{pool, settings};

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
