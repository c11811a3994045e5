//! The program as its users meet it: starts, serves, seeds, ends.

use crate::support::process::{Signal, program};
use crate::support::servers::{with_mysql, with_postgres};
use crate::support::web::{ANSWERS, sha256};

const ANY_PORT: [&str; 2] = ["--listen", "127.0.0.1:0"];

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&ANY_PORT, more].concat()
}

/// Starts it on a database, and requires the right bytes and a good end.
fn serves_and_ends(url: &str) {
    let mut running = program(arguments(&["--database-url", url, "--rows", "1000"])).listen();
    for (limit, _, digest) in ANSWERS {
        let (head, body) = running.get(&format!("/users/?limit={limit}"));
        assert!(head.starts_with("http/1.1 200 ok"), "{head}");
        assert!(head.contains("\r\nmulticore: mode="), "{head}");
        assert_eq!(sha256(&body), digest);
    }
    if cfg!(target_os = "linux") {
        let (head, _) = running.get("/articles/1/thumbnail");
        assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    }
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn it_makes_its_database_serves_and_ends_at_sigterm() {
    let mut running = program(arguments(&["--rows", "1000", "--workers", "2"])).listen();
    let (_, body) = running.get("/users/?limit=1000");
    assert_eq!(sha256(&body), ANSWERS[1].2);
    let (head, body) = running.get("/articles/?limit=1&offset=199");
    assert!(head.contains("\r\nlink: <"), "{head}");
    assert!(String::from_utf8(body).unwrap().starts_with(r#"{"count":200,"#));
    assert!(running.folder.path().join("data/example.db").is_file());
    running.signal(Signal::TERM);
    running.logged("SIGTERM received");
    running.logged("2 workers joined, 0 runs cut");
    assert_eq!(running.wait().code(), Some(0));
    // Closed in good order, SQLite's log is merged into the file.
    assert!(!running.folder.path().join("data/example.db-wal").exists());
}

#[test]
fn ctrl_c_ends_it_too() {
    let mut running = program(arguments(&["--rows", "1"])).listen();
    running.signal(Signal::INT);
    running.logged("SIGINT received");
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn it_serves_from_a_database_in_memory() {
    serves_and_ends("sqlite::memory:");
}

#[tokio::test]
async fn it_serves_from_postgres() {
    with_postgres(|_, url| async move {
        tokio::task::spawn_blocking(move || serves_and_ends(&url)).await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn it_serves_from_mysql() {
    with_mysql(|_, url| async move {
        let mariadb = url.replacen("mysql:", "mariadb:", 1);
        tokio::task::spawn_blocking(move || serves_and_ends(&mariadb)).await.unwrap();
    })
    .await;
}

#[test]
fn while_it_drains_it_is_live_but_not_ready_and_a_second_signal_ends_it_at_once() {
    let mut running = program(arguments(&["--rows", "1", "--drain-notice", "1h"])).listen();
    assert!(running.get("/health/ready").0.starts_with("http/1.1 200 ok"));
    running.signal(Signal::TERM);
    running.logged("draining: /health/ready says 503 from now on");
    let (head, body) = running.get("/health/ready");
    assert!(head.starts_with("http/1.1 503 service unavailable"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains(r#""code":"draining""#));
    assert!(running.get("/health/live").0.starts_with("http/1.1 200 ok"));
    assert!(running.get("/users/").0.starts_with("http/1.1 200 ok"));
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(1));
}

#[test]
fn a_request_that_does_not_end_does_not_keep_it() {
    // A hundred seconds of computing, cut after a millisecond.
    let mut running = program(arguments(&["--rows", "1000", "--drain", "1ms"])).listen();
    let mut client = std::net::TcpStream::connect(&running.address).unwrap();
    std::io::Write::write_all(
        &mut client,
        b"GET /users/?limit=1000&render_us=100000 HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    .unwrap();
    // Whether the request has begun by now makes no difference to what must hold.
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn settings_come_from_file_environment_and_flags() {
    let running = program(["--config", "app.toml", "--workers", "3"])
        .file(
            "app.toml",
            "listen = '127.0.0.1:0'\ndatabase-url = 'sqlite:from-file.db'\nrows = 30\n\
             [multicore]\nworkers = 1\ndefault-limit = 20",
        )
        .variable("APP__DATABASE_URL", "sqlite:a/b/from-environment.db")
        .variable("APP__MULTICORE__MAX_LOAD_AVERAGE", "85%")
        .listen();
    running.logged("sqlite:a/b/from-environment.db users=30 articles=6");
    running.logged("workers=3");
    running.logged("max-load-average is 0.85 per core");
    let (_, body) = running.get("/users/");
    let people: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
    assert_eq!(people.len(), 20);
    assert!(running.folder.path().join("a/b/from-environment.db").is_file());
}

#[test]
fn seed_only_seeds() {
    let ended = program(["seed", "--rows", "50", "--listen"]).run();
    assert_eq!(ended.status.code(), Some(2), "seed takes no address: {}", ended.stderr);

    let ended = program(["seed", "--rows", "50"]).run();
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("users: 50 (50 new), articles: 10 (10 new)"), "{}", ended.stderr);
    assert_eq!(ended.left_behind(), ["data"]);
}

#[test]
fn a_database_with_rows_is_served_as_it_is_unless_more_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("people.db").display());
    let seed = |rows| program(["seed", "--database-url", &url, "--rows", rows]).run();
    assert_eq!(seed("50").status.code(), Some(0));
    let served = |more: &[&str]| {
        let running = program(arguments(&[&["--database-url", &url], more].concat())).listen();
        let (_, body) = running.get("/users/?limit=10000");
        serde_json::from_slice::<Vec<serde_json::Value>>(&body).unwrap().len()
    };
    assert_eq!(served(&[]), 50);
    assert_eq!(served(&["--rows", "60"]), 60);
    assert_eq!(served(&["--rows", "10"]), 60);
}

#[test]
fn standard_output_that_takes_nothing_does_not_stop_it() {
    let mut running = program(arguments(&["--rows", "1"])).without_output();
    running.logged("listening on http://127.0.0.1:");
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn durations_of_the_library_are_settings_too() {
    let running = program(arguments(&["--rows", "1000"])).variable("APP__MULTICORE__TIMEOUT", "1ms").listen();
    let (head, body) = running.get("/users/?limit=1000&render_us=1000&mode=sequential");
    assert!(head.starts_with("http/1.1 504 gateway timeout"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains(r#""code":"timeout""#));
}
