//! What the program says, how it ends and what it leaves behind when it cannot start. How settings
//! are judged one by one is tested beside their code.

use crate::support::process::{Ended, Start, program};

/// Requires this end, a short message on standard error that has these parts, no secret and no trace
/// of a panic, and nothing left behind but `files`.
fn refused(start: Start, code: i32, parts: &[&str], files: &[&str]) -> Ended {
    let ended = start.run();
    let message = &ended.stderr;
    assert_eq!(ended.status.code(), Some(code), "{message}");
    let errors: Vec<_> = message.lines().skip_while(|line| !line.starts_with("error: ")).collect();
    assert!((1..=8).contains(&errors.len()), "{message}");
    for part in parts {
        assert!(errors.join("\n").contains(part), "{part}: {message}");
    }
    for trace in ["panicked", "BACKTRACE", "secret", "{ ", "Os("] {
        assert!(!message.replace("`cursor-secret`", "").contains(trace), "{trace}: {message}");
    }
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.left_behind(), files);
    ended
}

#[test]
fn bad_flags_end_it_with_2_before_anything_is_made() {
    for (arguments, says) in [
        (["--workers", "0"], "multicore.workers is `0` (--workers); accepted: a whole number from 1"),
        (["--workers", "-1"], "multicore.workers is `-1` (--workers)"),
        (["--workers", "two"], "multicore.workers is `two` (--workers)"),
        (["--max-load-average", "0"], "multicore.max-load-average is `0` (--max-load-average); accepted are"),
        (
            ["--max-load-average", "-1"],
            "multicore.max-load-average is `-1` (--max-load-average); accepted are",
        ),
        (["--max-load-average", "busy"], "multicore.max-load-average is `busy` (--max-load-average)"),
        (["--listen", "localhost"], "listen is `localhost` (--listen); accepted: an address and a port"),
        (["--rows", "many"], "rows is `many` (--rows); accepted: a whole number from 0 to 2147483647"),
        (["--rows", "-5"], "rows is `-5` (--rows); accepted: a whole number from 0 to 2147483647"),
        (
            ["--database-url", "mongodb://user:secret@host/people"],
            "database-url is `mongodb://user@host/people` (--database-url); accepted: a URL that begins with \
             sqlite:, postgres:, mysql: or mariadb:",
        ),
        (["--database-url", "people.db"], "database-url is `people.db` (--database-url); accepted: a URL"),
        (["--database-url", "sqlite:"], "accepted after sqlite: is the path of a file"),
        (["--database-url", "postgres://user:secret@host:x/d"], "invalid port number"),
        (["--config", "no.toml"], "cannot read the configuration file no.toml: No such file"),
        (["--treads", "3"], "unexpected argument '--treads'"),
        (["--drain", "10"], "drain is `10` (--drain); accepted: a duration with units"),
    ] {
        refused(program(arguments), 2, &[says], &[]);
    }
}

#[test]
fn bad_variables_end_it_with_2_before_anything_is_made() {
    for (variable, value, says) in [
        ("APP__LISEN", "x", "lisen is `x` (APP__LISEN); no such setting; accepted: listen, database-url"),
        ("APP__MULTICORE__THREADS", "2", "multicore.threads is `2` (APP__MULTICORE__THREADS); unknown field"),
        ("APP__MULTICORE__WORKERS", "0", "multicore.workers is `0` (APP__MULTICORE__WORKERS); accepted"),
        ("APP__MULTICORE__WORKERS", "2.5", "multicore.workers is `2.5` (APP__MULTICORE__WORKERS)"),
        ("APP__MULTICORE__MAX_LOAD_AVERAGE", "NaN", "(APP__MULTICORE__MAX_LOAD_AVERAGE); accepted are"),
        ("APP__ROWS", "true", "rows is `true` (APP__ROWS); accepted: a whole number"),
        ("APP__CONFIG", "no.toml", "cannot read the configuration file no.toml"),
        ("RUST_LOG", "a=b=c", "RUST_LOG is `a=b=c`; accepted: directives such as info,sqlx=warn"),
    ] {
        refused(program([]).variable(variable, value), 2, &[says], &[]);
    }
}

#[test]
fn bad_files_end_it_with_2_before_anything_is_made() {
    for (text, says) in [
        ("lisen = 'x'", "lisen is `x` (app.toml); no such setting; accepted: listen, database-url"),
        ("workers = 2", "workers is `2` (app.toml); no such setting"),
        (
            "[multicore]\nthreads = 2",
            "multicore.threads is `2` (app.toml); unknown field `threads`, expected one of",
        ),
        (
            "[multicore]\nworkers = 'two'",
            "multicore.workers is `two` (app.toml); accepted: a whole number from 1",
        ),
        (
            "[multicore]\nmax-limit = 0",
            "multicore.max-limit is `0` (app.toml); accepted: a whole number from 1",
        ),
        ("rows = 1.5", "rows is `1.5` (app.toml); accepted: a whole number"),
        ("rows = ", "the configuration file app.toml is not TOML: TOML parse error at line 1, column 8"),
    ] {
        refused(program(["--config", "app.toml"]).file("app.toml", text), 2, &[says], &["app.toml"]);
    }
    // A folder is not a file.
    refused(program(["--config", "."]), 2, &["cannot read the configuration file .: Is a directory"], &[]);
}

#[test]
fn a_bad_setting_stops_seeding_too() {
    let start = program(["seed"]).variable("APP__MULTICORE__WORKERS", "0");
    refused(start, 2, &["multicore.workers is `0` (APP__MULTICORE__WORKERS)"], &[]);
}

#[test]
fn a_port_in_use_is_named_and_no_database_is_made() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let says = format!("cannot listen on {address}: Address already in use");
    refused(program(["--listen", &address]), 1, &[&says], &[]);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    // Not by permissions, which do not hold for root.
    for command in [&["--listen", "127.0.0.1:0"][..], &["seed"]] {
        let arguments = [command, &["--database-url", "sqlite:blocker/data/people.db"]].concat();
        let says = "cannot create the folder blocker/data for the database sqlite:blocker/data/people.db: \
                    Not a directory";
        refused(program(arguments).file("blocker", "a file"), 1, &[says], &["blocker"]);
    }
}

#[test]
fn what_is_no_sqlite_database_is_named_and_left_alone() {
    let arguments = ["--listen", "127.0.0.1:0", "--database-url", "sqlite:letter.txt"];
    let text = "not a database, but long enough to be taken for one. ".repeat(20);
    let start = program(arguments).file("letter.txt", &text);
    let parts = ["cannot connect to the database sqlite:letter.txt: ", "file is not a database"];
    let ended = refused(start, 1, &parts, &["letter.txt"]);
    assert_eq!(std::fs::read_to_string(ended.folder().join("letter.txt")).unwrap(), text);

    let arguments = ["--listen", "127.0.0.1:0", "--database-url", "sqlite:."];
    refused(program(arguments), 1, &["cannot connect to the database sqlite:.: ", "unable to open"], &[]);
}

#[test]
fn a_server_that_is_not_there_is_named_without_the_password() {
    // Bound and not listening: connections are refused, and nobody else gets the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    for scheme in ["postgres", "mysql", "mariadb"] {
        let url = format!("{scheme}://user:secret@{address}/people?password=secret");
        let url = if scheme == "postgres" { &url } else { url.split('?').next().unwrap() };
        for command in [&["--listen", "127.0.0.1:0"][..], &["seed"]] {
            let says = format!("cannot connect to the database {scheme}://user@{address}/people: ");
            let arguments = [command, &["--database-url", url]].concat();
            refused(program(arguments), 1, &[&says, "Connection refused"], &[]);
        }
    }
}
