//! How workers die, and what their callers hear.

use multicore_core::process::{End, Json, ProcessError};

use crate::tasks::{pool, settings};

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
    let _answers: Json<u32> = processes.run("pid", ()).await.unwrap();
    let stats = processes.stats();
    assert_eq!((stats.died, stats.started, stats.repeated), (2, 3, 0));
}
