//! Worker processes: what they give, how they fail, and that nothing of them is left. One file a theme.
#![cfg(target_os = "linux")]

mod calls;
mod deaths;
mod lists;
mod tasks;

/// What the workers run: they are this binary, started for this one test.
#[test]
fn worker_process() {
    let _server = tasks::registered();
}
