//! Admission: how many cores a piece of work may use, and when. `policy` decides (pure functions
//! over integers), `cost` estimates what work costs, `load` says what the machine is doing now.

pub(crate) mod cost;
pub(crate) mod load;
mod load_limit;
pub(crate) mod policy;

pub use load_limit::{InvalidLoadLimit, LoadLimit};
