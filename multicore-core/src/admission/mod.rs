//! Admission: how many cores a piece of work may use, and when. `policy` decides (pure functions
//! over integers), `cost` estimates what work costs, `load` says what the machine is doing now,
//! `throttle` whether the kernel stops it.

pub(crate) mod cost;
pub(crate) mod load;
mod load_limit;
pub(crate) mod policy;
mod throttle;

pub use load_limit::{InvalidLoadLimit, LoadLimit};
