//! Admission: how many cores a piece of work may use, and when. `policy` decides (pure functions
//! over integers), `cost` estimates what work costs, `load` says what the machine is doing now,
//! `throttle` whether the kernel stops it, `turns` which owner is next on the async threads.

pub(crate) mod cost;
pub(crate) mod load;
mod load_limit;
pub(crate) mod policy;
mod throttle;
pub(crate) mod turns;

pub use load_limit::{InvalidLoadLimit, LoadLimit};
