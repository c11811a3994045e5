//! Starts that fail, each with a clear error and nothing left.

use std::convert::Infallible;
use std::time::Duration;

use multicore_core::Multicore;
use multicore_core::process::{Json, ProcessError, ProcessSettings, Registered, Tasks};
use rustix::process::Signal;

use crate::rogue::chain;
use crate::system::{alone, children_of, soon};
use crate::tasks::{pool, registered_through, settings};

fn children() -> Vec<u32> {
    children_of(std::process::id())
}

/// Set in workers.
fn is_worker() -> bool {
    std::env::var_os("MULTICORE_WORKER_OF").is_some()
}

async fn start(tasks: Registered, settings: ProcessSettings) -> String {
    let started = Multicore::<()>::builder()
        .name("test")
        .workers(1)
        .processes(tasks)
        .process_settings(settings)
        .start();
    let error = soon(started).await.unwrap_err();
    chain(&error)
}

/// A program that does not call `init` where its workers begin.
#[test]
fn worker_without_init() {}

/// One that waits for something else first.
#[test]
fn worker_that_is_silent() {
    if is_worker() {
        eprintln!("reading the configuration");
        loop {
            std::thread::park();
        }
    }
}

/// One that cannot begin.
#[test]
fn worker_that_exits() {
    if is_worker() {
        eprintln!("no configuration");
        std::process::exit(5);
    }
}

/// How many starts of this server's workers are to fail yet.
fn failures(server: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("multicore-failures-{server}"))
}

/// One that cannot begin for a while.
#[test]
fn worker_that_fails_for_a_while() {
    let Ok(server) = std::env::var("MULTICORE_WORKER_OF") else { return };
    let left = std::fs::read_to_string(failures(&server)).map_or(0, |left| left.parse().unwrap_or(0_usize));
    if left > 0 {
        std::fs::write(failures(&server), (left - 1).to_string()).unwrap();
        std::process::exit(5);
    }
    let _server = crate::tasks::registered();
}

#[tokio::test]
async fn calls_wait_for_a_start_that_fails_once_and_are_told_when_it_fails_again_and_again() {
    let failures = failures(&std::process::id().to_string());
    let mc = Multicore::<()>::builder()
        .workers(1)
        .processes(registered_through("starts::worker_that_fails_for_a_while"))
        .process_settings(settings(1))
        .start();
    let mc = soon(mc).await.unwrap();
    let processes = mc.processes();
    let kill = || async {
        let Json(pid) = soon(processes.run::<_, Json<u32>>("pid", ())).await.unwrap();
        crate::system::kill(pid, Signal::KILL);
        crate::system::until_async("seen", || processes.stats().ready == 0).await;
    };
    std::fs::write(&failures, "1").unwrap();
    kill().await;
    let _answered: Json<u32> = soon(processes.run("pid", ())).await.unwrap();
    std::fs::write(&failures, "1000").unwrap();
    kill().await;
    let error = soon(processes.run::<_, Json<u32>>("pid", ())).await.unwrap_err();
    assert!(matches!(error, ProcessError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("exited with status 5 before it was ready"), "{error}");
    std::fs::remove_file(&failures).unwrap();
    crate::system::until_async("up again", || processes.stats().ready == 1).await;
    let _answered: Json<u32> = soon(processes.run("pid", ())).await.unwrap();
}

/// One that builds its registry in another way.
#[test]
fn worker_with_other_tasks() {
    let _server = Tasks::new().add("other", |(): ()| Ok::<_, Infallible>(())).init();
}

#[tokio::test]
async fn a_worker_that_never_calls_init_is_an_error_and_no_fork_bomb() {
    let error = start(registered_through("starts::worker_without_init"), settings(2)).await;
    assert!(error.contains("exited with status 0 before it was ready"), "{error}");
    assert!(error.contains("is `Tasks::init` the first thing in `main`?"), "{error}");
}

#[tokio::test]
async fn a_worker_that_says_nothing_in_time_is_an_error_with_its_last_words() {
    let settings = settings(1).start_timeout(Duration::from_millis(500));
    let error = start(registered_through("starts::worker_that_is_silent"), settings).await;
    assert!(error.contains("worker process test-process-0 was not ready within 500ms"), "{error}");
}

#[tokio::test]
async fn a_worker_that_exits_before_its_hello_is_an_error_with_its_last_words() {
    let error = start(registered_through("starts::worker_that_exits"), settings(1)).await;
    assert!(error.contains("exited with status 5 before it was ready"), "{error}");
    assert!(error.contains("no configuration"), "{error}");
}

#[tokio::test]
async fn a_worker_with_other_tasks_is_refused() {
    let error = start(registered_through("starts::worker_with_other_tasks"), settings(1)).await;
    assert!(error.contains("is not of this program: it has other tasks"), "{error}");
}

#[tokio::test]
async fn two_tasks_of_one_name_and_settings_that_mean_nothing_are_refused() {
    let nothing = |(): ()| Ok::<_, Infallible>(());
    let error = start(Tasks::new().add("twice", nothing).add("twice", nothing).init(), settings(1)).await;
    assert!(error.contains("two tasks are named `twice`"), "{error}");
    let error = start(Tasks::new().add("once", nothing).init(), settings(0)).await;
    assert!(error.contains("processes.workers is `0`"), "{error}");
}

/// For a worker to run.
#[test]
#[ignore = "run by a test"]
fn a_server_inside_a_worker() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("{}", runtime.block_on(start(crate::tasks::registered(), settings(1))));
}

#[tokio::test]
async fn a_pool_inside_a_worker_and_in_what_a_worker_started_is_a_clear_error() {
    let mc = pool(settings(1)).await;
    let says = "this process is a worker process, or was started by one, and may have none of its own";
    let told: String = soon(mc.processes().run("pool-inside", ())).await.unwrap();
    assert!(told.contains(says), "{told}");
    let test = "starts::a_server_inside_a_worker".to_owned();
    let told: String = soon(mc.processes().run("run-itself", test)).await.unwrap();
    assert!(told.contains(says), "{told}");
}

#[tokio::test]
async fn a_start_that_fails_or_is_dropped_leaves_nothing() {
    if !alone("starts::a_start_that_fails_or_is_dropped_leaves_nothing") {
        return;
    }
    let before = crate::system::holdings();
    for test in
        ["starts::worker_without_init", "starts::worker_that_exits", "starts::worker_with_other_tasks"]
    {
        start(registered_through(test), settings(3)).await;
        assert_eq!(children(), [0; 0], "{test}");
    }
    let silent = registered_through("starts::worker_that_is_silent");
    let started =
        Multicore::<()>::builder().workers(1).processes(silent).process_settings(settings(2)).start();
    {
        let mut started = std::pin::pin!(started);
        tokio::select! {
            biased;
            _ = &mut started => panic!("it is silent"),
            () = crate::system::until_async("started", || children().len() == 2) => {}
        }
    }
    crate::system::until_async("gone", || children().is_empty()).await;
    crate::system::until_given_back(&before).await;
}
