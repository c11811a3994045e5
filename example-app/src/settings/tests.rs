//! Each setting, each source, and what is said of what is not accepted.

use std::io::Write;

use super::*;

/// Settings out of a file's text, variables and flags.
fn read(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Settings, String> {
    use clap::Parser;
    let mut cli = Cli::parse_from(["example-app"].iter().chain(flags));
    let mut path = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    path.write_all(file.as_bytes()).unwrap();
    cli.config = Some(path.path().to_owned());
    let variables = variables.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
    let name = path.path().display().to_string();
    Settings::read(&cli, Some(variables.collect())).map_err(|error| error.to_string().replace(&name, "FILE"))
}

#[test]
fn nothing_given_means_the_defaults() {
    let settings = Settings::read(&Cli::default(), Some(Map::new())).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:3000");
    assert_eq!(settings.database.to_string(), "sqlite:data/example.db");
    assert_eq!(settings.rows, None);
    assert_eq!((settings.drain, settings.drain_notice), (Duration::from_secs(10), Duration::ZERO));
    assert_eq!((settings.multicore.max_limit, settings.multicore.default_limit), (10_000, None));
    assert_eq!(settings.multicore.workers, None);
    let processes = settings.multicore.processes.settings();
    assert_eq!((processes.timeout, processes.max_memory), (Some(Duration::from_secs(5)), Some(128 << 20)));
}

#[test]
fn the_file_has_all_keys() {
    let settings = read(
        "listen = '[::1]:80'\ndatabase-url = 'postgres://h/d'\nrows = 5\ndrain = '1m 30s'\n\
         drain-notice = '5s'\n[multicore]\nworkers = 3\nmax-load-average = 0.85\nmax-limit = 500\n\
         default-limit = 50\ntimeout = '30s'\nserver-timing = true",
        &[],
        &[],
    )
    .unwrap();
    assert_eq!(settings.listen.to_string(), "[::1]:80");
    assert_eq!(settings.database.to_string(), "postgres://h/d");
    assert_eq!(settings.rows, Some(5));
    assert_eq!(settings.drain, Duration::from_secs(90));
    assert_eq!(settings.drain_notice, Duration::from_secs(5));
    let multicore = settings.multicore;
    assert_eq!((multicore.workers, multicore.max_limit, multicore.default_limit), (Some(3), 500, Some(50)));
    assert_eq!(multicore.max_load_average.unwrap().per_core(), 0.85);
    assert_eq!((multicore.timeout, multicore.server_timing), (Some(Duration::from_secs(30)), true));
}

#[test]
fn the_environment_has_the_same_keys_and_its_texts_are_numbers_where_they_look_so() {
    let settings = read(
        "",
        &[
            ("APP__LISTEN", "0.0.0.0:0"),
            ("APP__DATABASE_URL", "mysql://h/d"),
            ("APP__ROWS", "7"),
            ("APP__DRAIN_NOTICE", "3s"),
            ("APP__MULTICORE__WORKERS", "4"),
            ("APP__MULTICORE__MAX_LOAD_AVERAGE", "85%"),
            ("APP__MULTICORE__SERVER_TIMING", "true"),
            ("APP__CONFIG", "was read already"),
            ("APP_LISTEN", "is someone else's"),
            ("LISTEN", "is someone else's"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(settings.listen.to_string(), "0.0.0.0:0");
    assert_eq!(settings.database.to_string(), "mysql://h/d");
    assert_eq!((settings.rows, settings.drain_notice), (Some(7), Duration::from_secs(3)));
    assert_eq!((settings.multicore.workers, settings.multicore.server_timing), (Some(4), true));
    assert_eq!(settings.multicore.max_load_average.unwrap().per_core(), 0.85);
    for (text, per_core) in [("0.85", 0.85), ("85", 0.85), ("1", 1.0)] {
        let settings = read("", &[("APP__MULTICORE__MAX_LOAD_AVERAGE", text)], &[]).unwrap();
        assert_eq!(settings.multicore.max_load_average.unwrap().per_core(), per_core, "{text}");
    }
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let file = "rows = 1\nlisten = '127.0.0.1:1'\n[multicore]\nworkers = 1\nmax-load-average = 0.1";
    let variables = [("APP__ROWS", "2"), ("APP__MULTICORE__WORKERS", "2")];
    let settings = read(file, &variables, &["--workers", "3", "--max-load-average", "85%"]).unwrap();
    assert_eq!((settings.listen.port(), settings.rows), (1, Some(2)));
    assert_eq!(settings.multicore.workers, Some(3));
    assert_eq!(settings.multicore.max_load_average.unwrap().per_core(), 0.85);
}

#[test]
fn what_the_file_says_wrong_is_named_with_value_origin_and_what_is_accepted() {
    for (file, says) in [
        (
            "lisen = '127.0.0.1:1'",
            "lisen is `127.0.0.1:1` (FILE); no such setting; accepted: listen, database-url",
        ),
        ("workers = 2", "workers is `2` (FILE); no such setting; accepted: listen"),
        ("[multicor]\nworkers = 2", "multicor is `{\"workers\":2}` (FILE); no such setting"),
        ("multicore = 2", "multicore is `2` (FILE); no such setting"),
        ("max_limit = 2", "max_limit is `2` (FILE); no such setting"),
        ("listen = 3000", "listen is `3000` (FILE); accepted: an address and a port, such as 127.0.0.1:3000"),
        ("listen = 'localhost'", "listen is `localhost` (FILE); accepted: an address and a port"),
        ("rows = -1", "rows is `-1` (FILE); accepted: a whole number from 0 to 2147483647"),
        ("rows = 1.5", "rows is `1.5` (FILE); accepted: a whole number"),
        ("rows = true", "rows is `true` (FILE); accepted: a whole number"),
        ("rows = '10'", "rows is `10` (FILE); accepted: a whole number"),
        ("rows = 3000000000", "rows is `3000000000` (FILE); accepted: a whole number"),
        ("drain = 10", "drain is `10` (FILE); accepted: a duration with units, such as 10s"),
        ("database-url = 5", "database-url is `5` (FILE); accepted: a URL that begins with sqlite:"),
        (
            "database-url = 'mongodb://u:secret@h/d'",
            "database-url is `mongodb://u@h/d` (FILE); accepted: a URL that begins with sqlite:",
        ),
        ("[multicore]\nworkers = 0", "multicore.workers is `0` (FILE); accepted: a whole number from 1"),
        ("[multicore]\nworkers = -1", "multicore.workers is `-1` (FILE); accepted: a whole number from 1"),
        ("[multicore]\nworkers = 2.7", "multicore.workers is `2.7` (FILE); accepted: a whole number from 1"),
        ("[multicore]\nworkers = true", "multicore.workers is `true` (FILE); invalid type: boolean `true`"),
        (
            "[multicore]\nworkers = 'two'",
            "multicore.workers is `two` (FILE); accepted: a whole number from 1",
        ),
        (
            "[multicore]\nthreads = 2",
            "multicore.threads is `2` (FILE); unknown field `threads`, expected one of `workers`",
        ),
        (
            "[multicore]\nmax_load_average = 2",
            "unknown field `max_load_average`, expected one of `workers`, `max-load-average`",
        ),
        (
            "[multicore]\nmax-load-average = 0",
            "multicore.max-load-average is `0` (FILE); accepted are a load per core",
        ),
        (
            "[multicore]\nmax-load-average = nan",
            "multicore.max-load-average is `NaN` (FILE); accepted are a load per core",
        ),
        (
            "[multicore]\nmax-load-average = -0.5",
            "multicore.max-load-average is `-0.5` (FILE); accepted are a load per core",
        ),
        (
            "[multicore]\nmax-load-average = 'often'",
            "multicore.max-load-average is `often` (FILE); accepted are a load per core",
        ),
        ("[multicore]\nmax-load-average = [1]", "multicore.max-load-average is"),
        (
            "[multicore]\ntimeout = 'soon'",
            "multicore.timeout is `soon` (FILE); accepted: a duration with units",
        ),
        ("[multicore]\ntimeout = '0s'", "multicore.timeout is `0s` (FILE); accepted: a duration above zero"),
        ("[multicore]\nmax-limit = 0", "multicore.max-limit is `0` (FILE); accepted: a whole number from 1"),
        (
            "[multicore]\ndefault-limit = 0",
            "multicore.default-limit is `0` (FILE); accepted: a whole number from 1 to max-limit",
        ),
        (
            "[multicore]\nmax-limit = 50\ndefault-limit = 60",
            "multicore.default-limit is `60` (FILE); accepted: a whole number from 1 to max-limit",
        ),
        ("listen = ", "the configuration file FILE is not TOML: TOML parse error at line 1"),
    ] {
        let error = read(file, &[], &[]).unwrap_err();
        assert!(error.contains(says), "{file}: {error}");
        assert!(!error.replace("cursor-secret", "").contains("secret"), "{error}");
    }
}

#[test]
fn what_the_environment_says_wrong_is_named_with_the_variable() {
    for (variable, value, says) in [
        ("APP__LISEN", "x", "lisen is `x` (APP__LISEN); no such setting; accepted: listen"),
        ("APP__WORKERS", "2", "workers is `2` (APP__WORKERS); no such setting"),
        ("APP__MULTICORE", "2", "multicore is `2` (APP__MULTICORE); no such setting"),
        ("APP__MULTICORE__THREADS", "2", "multicore.threads is `2` (APP__MULTICORE__THREADS); unknown field"),
        ("APP__MULTICORE_WORKERS", "2", "multicore-workers is `2` (APP__MULTICORE_WORKERS); no such setting"),
        ("APP__MULTICORE__WORKERS", "0", "multicore.workers is `0` (APP__MULTICORE__WORKERS); accepted"),
        (
            "APP__MULTICORE__WORKERS",
            "",
            "multicore.workers is `` (APP__MULTICORE__WORKERS); accepted: a whole number from 1",
        ),
        (
            "APP__MULTICORE__MAX_LOAD_AVERAGE",
            "NaN",
            "multicore.max-load-average is `NaN` (APP__MULTICORE__MAX_LOAD_AVERAGE); accepted are",
        ),
        ("APP__LISTEN", "", "listen is `` (APP__LISTEN); accepted: an address and a port"),
        ("APP__ROWS", "many", "rows is `many` (APP__ROWS); accepted: a whole number"),
        (
            "APP__DATABASE_URL",
            "pg://u:secret@h/d",
            "database-url is `pg://u@h/d` (APP__DATABASE_URL); accepted",
        ),
        (
            "APP__DATABASE",
            "postgres://u:secret@h/d",
            "database is `postgres://u@h/d` (APP__DATABASE); no such",
        ),
    ] {
        let error = read("", &[(variable, value)], &[]).unwrap_err();
        assert!(error.contains(says), "{variable}: {error}");
    }
}

#[test]
fn worker_processes_have_a_table_within_the_librarys_which_the_environment_reaches_too() {
    let settings = read(
        "[multicore.processes]\nworkers = 3\nmax-memory = '64MiB'\ntimeout = '9s'",
        &[("APP__MULTICORE__PROCESSES__TIMEOUT", "7s"), ("APP__MULTICORE__PROCESSES__MAX_QUEUE", "5")],
        &[],
    )
    .unwrap();
    let processes = settings.multicore.processes.settings();
    assert_eq!((processes.workers, processes.max_memory, processes.max_queue), (Some(3), Some(64 << 20), 5));
    assert_eq!(processes.timeout, Some(Duration::from_secs(7)));
    for (file, says) in [
        ("[multicore]\nprocesses = 3", "multicore.processes is `3` (FILE)"),
        ("[multicore.processes]\nthreads = 3", "multicore.processes.threads is `3` (FILE); unknown field"),
        (
            "[multicore.processes]\nworkers = 0",
            "multicore.processes.workers is `0` (FILE); accepted: a whole",
        ),
        (
            "[multicore.processes]\nmax-memory = 'plenty'",
            "multicore.processes.max-memory is `plenty` (FILE); accepted: a number of bytes",
        ),
        (
            "[multicore.processes]\nmax-memory = 5",
            "multicore.processes.max-memory is `5` (FILE); accepted: a",
        ),
    ] {
        let error = read(file, &[], &[]).unwrap_err();
        assert!(error.starts_with(says), "{file}: {error}");
    }
    let error = read("", &[("APP__MULTICORE__PROCESSES__GRACE", "soon")], &[]).unwrap_err();
    let says = "multicore.processes.grace is `soon` (APP__MULTICORE__PROCESSES__GRACE); accepted: a duration";
    assert!(error.starts_with(says), "{error}");
}

#[test]
fn what_a_flag_says_wrong_is_named_with_the_flag() {
    for (flags, says) in [
        (["--workers", "0"], "multicore.workers is `0` (--workers); accepted: a whole number from 1"),
        (["--workers", "two"], "multicore.workers is `two` (--workers); accepted: a whole number from 1"),
        (["--max-load-average", "0"], "multicore.max-load-average is `0` (--max-load-average); accepted are"),
        (["--max-load-average", "inf"], "multicore.max-load-average is `inf` (--max-load-average); accepted"),
        (["--rows", "1e3"], "rows is `1e3` (--rows); accepted: a whole number"),
        (["--listen", "3000"], "listen is `3000` (--listen); accepted: an address and a port"),
        (["--drain", "soon"], "drain is `soon` (--drain); accepted: a duration with units"),
    ] {
        let error = read("", &[], &flags).unwrap_err();
        assert!(error.contains(says), "{flags:?}: {error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let cli = Cli { config: Some("no/such.toml".into()), ..Cli::default() };
    let error = Settings::read(&cli, Some(Map::new())).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot read the configuration file no/such.toml: No such file or directory (os error 2)"
    );
}

#[test]
fn a_cursor_secret_is_not_repeated_however_it_is_wrong() {
    for (file, says) in [
        (
            "[multicore]\ncursor-secret = 'hunter2'",
            "multicore.cursor-secret is `not shown` (FILE); accepted: at least 16 bytes",
        ),
        (
            "[multicore]\ncursor-secret = ['hunter2']",
            "multicore.cursor-secret is `not shown` (FILE); accepted: a text of at least 16 bytes",
        ),
        ("[multicore]\ncursor_secret = 'hunter2'", "multicore.cursor_secret is `not shown` (FILE); unknown"),
        ("cursor-secret = 'hunter2'", "cursor-secret is `not shown` (FILE); no such setting"),
        ("[multicore]\ncursor-secret = hunter2", "FILE is not TOML: TOML parse error at line 2, column 17"),
    ] {
        let error = read(file, &[], &[]).unwrap_err();
        assert!(error.contains(says), "{file}: {error}");
        assert!(!error.contains("hunter"), "{error}");
    }
    let error = read("", &[("APP__MULTICORE__CURSOR_SECRET", "12345")], &[]).unwrap_err();
    assert!(
        error.contains("multicore.cursor-secret is `not shown` (APP__MULTICORE__CURSOR_SECRET)"),
        "{error}"
    );
    assert!(!error.contains("12345"), "{error}");
    let settings = read("", &[("APP__MULTICORE__CURSOR_SECRET", "long enough to sign with")], &[]).unwrap();
    assert!(!format!("{settings:?}").contains("long enough"), "{settings:?}");
}
