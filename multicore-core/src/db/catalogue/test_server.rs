//! Where the servers of the crate's own tests are, and what a test does without one.

use std::fmt::Display;
use std::io::Write;

/// What the variable says, or else this.
pub(crate) fn url(variable: &str, default: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| default.to_owned())
}

/// Says that a test is skipped, or fails it in CI, where there must be a server.
pub(crate) fn skip(server: &str, error: &dyn Display) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "in CI there must be a {server} server: {error}");
    // Past the capture of the test harness, which would keep it to itself.
    writeln!(std::io::stderr().lock(), "SKIPPED: no {server} server: {error}").unwrap();
}
