//! Worker processes: what they give, how they fail, and that nothing of them is left. One file a theme.
#![cfg(target_os = "linux")]

mod calls;
mod cancel;
mod chaos;
mod deaths;
mod held;
mod limits;
mod lists;
mod protocol;
mod rogue;
mod server;
mod shutdown;
mod starts;
mod system;
mod tasks;

/// What the workers run: they are this binary, started for this one test.
#[test]
fn worker_process() {
    let _server = tasks::registered();
}
