//! What of a benchmark is asked for on the command line.

/// The databases, as they are named there.
pub(crate) const DATABASES: &[&str] = &["sqlite", "postgres"];

/// Whether one of `all` is asked for: each is, unless some of them are named.
pub(crate) fn wanted(one: &str, all: &[&str]) -> bool {
    let mut named = std::env::args().skip(1).filter(|arg| all.contains(&&**arg)).peekable();
    named.peek().is_none() || named.any(|arg| arg == one)
}
