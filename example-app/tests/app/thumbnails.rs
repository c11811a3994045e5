//! Thumbnails from the running program, and what becomes of pictures that kill the processes that draw them.
#![cfg(target_os = "linux")]

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::process::{PATIENCE, Running, Signal, Start, program};

/// One worker process, so that the one which died is the one that is asked next; and time, since others may
/// use this machine.
fn service() -> Start {
    program(["--listen", "127.0.0.1:0", "--rows", "10", "--workers", "1"])
        .variable("APP__MULTICORE__PROCESSES__TIMEOUT", "60s")
}

fn picture(content: &str) -> String {
    format!("<svg xmlns='http://www.w3.org/2000/svg' width='80' height='40'>{content}</svg>")
}

/// The README's poison, made by the README's command: ten thousand patterns, each filled with the next one.
fn poison() -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let command = readme.split("```sh\n").find(|block| block.starts_with("awk ")).unwrap();
    let command = command.split("curl ").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("sh").args(["-c", command]).current_dir(folder.path()).status().unwrap();
    assert!(status.success());
    std::fs::read_to_string(folder.path().join("poison.svg")).unwrap()
}

/// Width and height, as the PNG's head says.
fn png_size((head, body): (String, Vec<u8>)) -> (u32, u32) {
    assert!(head.starts_with("http/1.1 200 ok"), "{head} {}", String::from_utf8_lossy(&body));
    assert!(head.contains("\r\ncontent-type: image/png\r\n"), "{head}");
    assert!(body.starts_with(b"\x89PNG\r\n\x1a\n"));
    let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

/// The code of a problem, which must tell nothing of the inside.
fn code(status: &str, (head, body): (String, Vec<u8>)) -> String {
    let body = String::from_utf8(body).unwrap();
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head} {body}");
    assert!(head.contains("\r\ncontent-type: application/problem+json\r\n"), "{head}");
    for inside in ["overflow", "SIG", "signal", "usvg", "resvg", "alloc", "process-0", "parsing"] {
        assert!(!body.contains(inside), "{inside}: {body}");
    }
    let problem: Value = serde_json::from_str(&body).unwrap();
    problem["code"].as_str().unwrap().to_owned()
}

fn post(running: &Running, picture: &str) -> (String, Vec<u8>) {
    running.request("POST", "/thumbnails", picture.as_bytes())
}

#[test]
fn an_article_and_a_picture_have_thumbnails() {
    let running = service().listen();
    for id in [1, 2] {
        assert_eq!(png_size(running.get(&format!("/articles/{id}/thumbnail"))), (480, 300));
    }
    assert_eq!(png_size(post(&running, &picture("<circle r='20'/>"))), (256, 128));
    for id in ["3", "0", "-1", "99999999999", "x", "%00"] {
        assert_eq!(code("404", running.get(&format!("/articles/{id}/thumbnail"))), "not-found");
    }
    assert_eq!(code("405", running.get("/thumbnails")), "method-not-allowed");
}

#[test]
fn what_is_no_picture_or_too_long_is_refused() {
    let running = service().listen();
    for nothing in ["", "GIF89a", "<svg", "<html/>"] {
        assert_eq!(code("422", post(&running, nothing)), "failed", "{nothing}");
    }
    let comment = |length| picture(&format!("<!--{}-->", " ".repeat(length)));
    let rest = comment(0).len();
    assert_eq!(png_size(post(&running, &comment(1024 * 1024 - rest))), (256, 128));
    assert_eq!(code("413", post(&running, &comment(1024 * 1024 - rest + 1))), "too-large");
}

#[test]
fn a_picture_that_crashes_its_process_costs_one_request() {
    let running = service().listen();
    let poison = poison();
    for _ in 0..3 {
        assert_eq!(code("422", post(&running, &poison)), "crash");
        assert_eq!(png_size(post(&running, &picture("<circle r='20'/>"))), (256, 128));
        assert_eq!(png_size(running.get("/articles/1/thumbnail")), (480, 300));
    }
    // For the log it has a name, and says what the dying process said.
    running.logged("was killed by SIGABRT over task `thumbnail`; it wrote last:");
}

#[test]
fn a_picture_that_takes_all_memory_costs_one_request() {
    let running = service().listen();
    let (open, close) = ("<g opacity='.5'>".repeat(1_000), "</g>".repeat(1_000));
    let layers = picture(&format!("{open}<path d='M0 0h80v40H0z'/>{close}"));
    let small = service().variable("APP__MULTICORE__PROCESSES__MAX_MEMORY", "32MiB").listen();
    for running in [running, small] {
        assert_eq!(code("422", post(&running, &layers)), "memory");
        assert_eq!(png_size(post(&running, &picture("<circle r='20'/>"))), (256, 128));
    }
}

#[test]
fn a_picture_that_takes_too_long_costs_one_request() {
    let running = service().variable("APP__MULTICORE__PROCESSES__TIMEOUT", "2s").listen();
    let clouds = "<filter id='f'><feTurbulence baseFrequency='.1' numOctaves='99999999'/></filter>\
                  <path filter='url(#f)' d='M0 0h80v40H0z'/>";
    assert_eq!(code("504", post(&running, &picture(clouds))), "timeout");
    assert_eq!(png_size(post(&running, &picture("<circle r='20'/>"))), (256, 128));
}

#[test]
fn a_process_that_is_killed_while_it_has_nothing_to_do_is_replaced() {
    let running = service().listen();
    let killed = running.workers();
    assert_eq!(killed.len(), 1);
    killed[0].kill();
    // Whether its death is noticed by now makes no difference to what must hold.
    assert_eq!(png_size(running.get("/articles/1/thumbnail")), (480, 300));
    assert!(killed[0].ends_within(PATIENCE));
    assert!(running.workers().iter().any(|worker| worker.pid != killed[0].pid));
}

#[test]
fn no_process_is_left_after_sigterm() {
    let mut running = service().variable("APP__MULTICORE__PROCESSES__WORKERS", "3").listen();
    assert_eq!(png_size(running.get("/articles/1/thumbnail")), (480, 300));
    let workers = running.workers();
    assert_eq!(workers.len(), 3);
    running.signal(Signal::TERM);
    running.logged("worker processes ended");
    assert_eq!(running.wait().code(), Some(0));
    assert!(workers.iter().all(|worker| worker.ends_within(Duration::ZERO)));
}

#[test]
fn no_process_outlives_a_server_that_is_killed() {
    let mut running = service().variable("APP__MULTICORE__PROCESSES__WORKERS", "3").listen();
    let workers = running.workers();
    assert_eq!(workers.len(), 3);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code(), None);
    assert!(workers.iter().all(|worker| worker.ends_within(PATIENCE)));
}
