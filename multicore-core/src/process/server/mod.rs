//! The server's side: a thread a worker, the channels to them, and the calls that wait.

mod call;
mod channel;
#[cfg(all(test, not(multicore_loom)))]
mod hand_over;
mod keeper;
mod link;
#[cfg(all(test, multicore_loom))]
mod loom_models;
mod maps;
mod place;
mod pool;
mod spawn;
mod words;
mod workers;

pub(in crate::process) use workers::Workers;
