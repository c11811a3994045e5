//! The README tells the truth about the code beside it.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines of the README's diff that one side has.
fn side(diff: &str, other: char) -> Vec<&str> {
    diff.lines()
        .filter(|line| !line.starts_with("@@") && !line.starts_with(other))
        .map(|line| &line[1..])
        .collect()
}

#[test]
fn the_adoption_diff_is_between_the_two_examples_that_compile() {
    let readme = read("README.md");
    let diff = readme.split("```diff\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    for (path, other) in [("adopt_before", '+'), ("adopt_after", '-')] {
        let example = read(&format!("multicore-axum/examples/{path}.rs"));
        let example: Vec<&str> = example.lines().collect();
        let mut from = 0;
        for line in side(diff, other) {
            let found = example[from..].iter().position(|candidate| *candidate == line);
            from += found.unwrap_or_else(|| panic!("{path}.rs lacks, after line {from}: {line}")) + 1;
        }
    }
    let changed = diff.lines().filter(|line| line.starts_with(['+', '-'])).count();
    assert!(diff.lines().count() <= 25 && changed >= 10, "{changed} changed lines");
}

/// What the first column of a section's table says.
fn keys_of_table(section: &str) -> Vec<String> {
    let key = |line: &str| line.strip_prefix("| `")?.split('`').next().map(str::to_owned);
    let mut keys: Vec<String> = section.lines().filter_map(key).collect();
    keys.sort();
    keys
}

/// The keys there are, which the error for an unknown one lists.
fn known_keys(unknown: &str) -> Vec<String> {
    let error = serde_json::from_str::<multicore_axum::Config>(unknown).unwrap_err().to_string();
    let listed = error.split("expected one of ").nth(1).unwrap();
    let mut known: Vec<String> = listed.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    known.sort();
    known
}

#[test]
fn the_configuration_table_has_every_key_and_no_other() {
    let readme = read("README.md");
    let section = readme.split("## Configure it").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    assert_eq!(keys_of_table(section), known_keys(r#"{"no-such-key": 1}"#));
}

#[test]
fn the_table_of_worker_processes_has_every_key_and_no_other() {
    let readme = read("README.md");
    let section = readme.split("### Settings of worker processes").nth(1).unwrap();
    let section = section.split("\n### ").next().unwrap();
    let unknown = r#"{"processes": {"no-such-key": 1}}"#;
    assert_eq!(keys_of_table(section), known_keys(unknown));
}

#[test]
fn every_reason_is_explained() {
    let readme = read("README.md");
    for reason in multicore_axum::Reason::ALL {
        assert!(readme.contains(&format!("reason={reason}")), "{reason}");
    }
}
