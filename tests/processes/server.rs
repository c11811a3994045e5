//! The server's process: its death, its signals, its other children, its file and its descriptors.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use multicore_core::process::{End, Json, ProcessError};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group};

use crate::system::{
    Gate, alone, children_of, descriptors, is_alive, itself, job, kill, soon, through, until, until_async,
    wait_at,
};
use crate::tasks::{pool, settings};

/// Where a program started by a test meets it.
const GATE: &str = "MULTICORE_TEST_GATE";

fn gate() -> String {
    std::env::var(GATE).unwrap()
}

#[tokio::test]
#[ignore = "run by a test"]
async fn server_that_is_killed() {
    let mc = pool(settings(3)).await;
    let (processes, path) = (mc.processes(), gate());
    let both = tokio::join!(
        processes.run::<_, Json<u32>>("gate", path.clone()),
        processes.run::<_, Json<u32>>("gate", path)
    );
    panic!("it is killed before that: {both:?}");
}

#[tokio::test]
async fn no_worker_outlives_a_server_that_is_killed() {
    let gate = Gate::new();
    let mut server =
        itself("server::server_that_is_killed").env(GATE, gate.path()).stdout(Stdio::null()).spawn().unwrap();
    let waiting = [gate.arrival().await, gate.arrival().await];
    let workers = children_of(server.id());
    assert_eq!(workers.len(), 3);
    kill(server.id(), Signal::KILL);
    server.wait().unwrap();
    for worker in workers {
        until("the worker is gone", || !is_alive(worker));
    }
    for waiting in waiting {
        waiting.until_cut().await;
    }
}

#[tokio::test]
#[ignore = "run by a test"]
async fn server_with_a_family_that_is_killed() {
    let mc = pool(settings(2)).await;
    let (processes, path) = (mc.processes(), gate());
    let both = tokio::join!(
        processes.run::<_, ()>("family", path.clone()),
        processes.run::<_, ()>("busy-family", path)
    );
    panic!("it is killed before that: {both:?}");
}

/// Whether their worker waits or computes, and they themselves wait.
#[tokio::test]
async fn what_a_worker_started_does_not_outlive_a_server_that_is_killed() {
    let gate = Gate::new();
    let mut server = itself("server::server_with_a_family_that_is_killed")
        .env(GATE, gate.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = [gate.arrival().await, gate.arrival().await];
    let workers = children_of(server.id());
    let started = started.map(|waiting| waiting.pid);
    assert!(started.iter().all(|pid| is_alive(*pid) && !workers.contains(pid)));
    kill(server.id(), Signal::KILL);
    server.wait().unwrap();
    for process in workers.into_iter().chain(started) {
        until("it is gone", || !is_alive(process));
    }
}

#[tokio::test]
#[ignore = "run by a test"]
async fn server_at_a_terminal() {
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).unwrap();
    let mc = pool(settings(1)).await;
    let processes = mc.processes().clone();
    let call = tokio::spawn(async move { processes.run::<_, Json<u32>>("gate", gate()).await });
    interrupt.recv().await.unwrap();
    tokio::task::spawn_blocking(|| wait_at(&gate(), 0)).await.unwrap().unwrap();
    assert!(call.await.unwrap().is_ok());
    assert_eq!(mc.processes().stats().died, 0);
    assert!(mc.shutdown(crate::system::PATIENCE).await.is_clean());
}

#[tokio::test]
async fn an_interrupt_of_the_servers_foreground_group_does_not_reach_workers() {
    let gate = Gate::new();
    let mut server = job("server::server_at_a_terminal").env(GATE, gate.path()).spawn().unwrap();
    let worker = gate.arrival().await;
    kill_process_group(Pid::from_raw(server.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    let interrupted = gate.arrival().await;
    assert_eq!(interrupted.pid, 0, "the server");
    worker.release().await;
    interrupted.release().await;
    let status = tokio::task::spawn_blocking(move || server.wait());
    assert!(soon(status).await.unwrap().unwrap().success());
}

/// Deaths of every kind and the pool's end, where the application does not leave the children's ends to it.
async fn deaths_are_told_and_workers_replaced(may_be: impl Fn(End) -> bool) {
    let mc = pool(settings(2)).await;
    let processes = mc.processes();
    for round in 1..=10 {
        let error = soon(processes.run::<_, ()>("abort", "words".to_owned())).await.unwrap_err();
        let ProcessError::Died { end, last_words, .. } = error else { panic!("{error}") };
        assert!(may_be(end) && last_words.as_str().contains("words"), "{end}");
        let Json(pid) = soon(processes.run::<_, Json<u32>>("pid", ())).await.unwrap();
        kill(pid, Signal::KILL);
        until_async("replaced", || {
            let stats = processes.stats();
            (stats.died, stats.ready) == (2 * round, 2)
        })
        .await;
    }
    assert!(soon(mc.shutdown(crate::system::PATIENCE)).await.is_clean());
    until_async("none is left", || children_of(std::process::id()).is_empty()).await;
}

#[tokio::test]
#[ignore = "run by a test"]
async fn server_that_ignores_sigchld() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    assert_ne!(ignored & (1 << (17 - 1)), 0, "SIGCHLD is ignored");
    deaths_are_told_and_workers_replaced(|end| end == End::Unknown).await;
}

#[test]
fn an_application_that_ignores_sigchld_has_workers_all_the_same() {
    let server = itself("server::server_that_ignores_sigchld");
    let status = Command::new("env")
        .arg("--ignore-signal=CHLD")
        .arg(server.get_program())
        .args(server.get_args())
        .env("MULTICORE_TEST_ALONE", "1")
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn an_application_that_waits_for_all_children_has_workers_all_the_same() {
    if !alone("server::an_application_that_waits_for_all_children_has_workers_all_the_same") {
        return;
    }
    let over = Arc::new(AtomicBool::new(false));
    let reaper = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let mut reaped = 0;
            while !over.load(Ordering::SeqCst) {
                match rustix::process::wait(WaitOptions::empty()) {
                    Ok(_) => reaped += 1,
                    // None at the moment.
                    Err(_) => std::thread::yield_now(),
                }
            }
            reaped
        }
    });
    deaths_are_told_and_workers_replaced(|end| matches!(end, End::Unknown | End::Signal(6))).await;
    over.store(true, Ordering::SeqCst);
    assert!(reaper.join().unwrap() > 0);
}

#[tokio::test]
async fn the_applications_own_children_are_left_alone() {
    let mc = pool(settings(1)).await;
    for _ in 0..10 {
        let mut own = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        soon(mc.processes().run::<_, ()>("exit", Json(3))).await.unwrap_err();
        assert_eq!(own.wait().unwrap().code(), Some(7));
    }
}

#[tokio::test]
#[ignore = "run by a test"]
async fn server_whose_file_goes() {
    let mc = pool(settings(1)).await;
    tokio::task::spawn_blocking(|| wait_at(&gate(), 0)).await.unwrap().unwrap();
    for _ in 0..2 {
        soon(mc.processes().run::<_, ()>("abort", String::new())).await.unwrap_err();
        let text: String = soon(mc.processes().run("shout", "on".to_owned())).await.unwrap();
        assert_eq!(text, "ON");
    }
}

#[tokio::test]
async fn a_server_whose_executable_is_replaced_or_deleted_starts_workers_all_the_same() {
    for replaced in [true, false] {
        // Beside the program: a second name of its file, not a copy.
        let own = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(own.parent().unwrap()).unwrap();
        let file = folder.path().join("server");
        fs::hard_link(&own, &file).unwrap();
        let gate = Gate::new();
        let mut server =
            through(&file, "server::server_whose_file_goes").env(GATE, gate.path()).spawn().unwrap();
        let ready = gate.arrival().await;
        fs::remove_file(&file).unwrap();
        if replaced {
            fs::write(&file, "no program").unwrap();
        }
        ready.release().await;
        let status = tokio::task::spawn_blocking(move || server.wait());
        assert!(soon(status).await.unwrap().unwrap().success());
    }
}

#[tokio::test]
async fn workers_inherit_no_descriptor() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for open in [file.as_file().as_fd(), listener.as_fd()] {
        rustix::io::fcntl_setfd(open, rustix::io::FdFlags::empty()).unwrap();
    }
    let mc = pool(settings(1)).await;
    let Json(pid) = mc.processes().run::<_, Json<u32>>("pid", ()).await.unwrap();
    let socket =
        fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&listener))).unwrap();
    let socket = format!("socket:[{}]", std::os::unix::fs::MetadataExt::ino(&socket));
    let of_server = descriptors(std::process::id());
    assert!(
        of_server.iter().any(|of| of == file.path()) && of_server.iter().any(|of| of.as_os_str() == &*socket)
    );
    let of_worker = descriptors(pid);
    assert!(!of_worker.iter().any(|of| of == file.path() || of.as_os_str() == &*socket), "{of_worker:?}");
    // The standard three, the socket to the server, and the map that was lent.
    assert!(of_worker.len() <= 6, "{of_worker:?}");
    drop(File::open(file.path()));
}

#[tokio::test]
async fn workers_go_first_where_memory_runs_out() {
    let mc = pool(settings(1)).await;
    let score: String = mc.processes().run("oom-score", ()).await.unwrap();
    assert_eq!(score.trim(), "500");
    let _bytes: Bytes = mc.processes().run("echo", Bytes::new()).await.unwrap();
}
