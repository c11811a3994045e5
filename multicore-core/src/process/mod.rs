//! Worker processes: for work that must not run inside the server, because it can crash it, leak, hang, or be
//! taken over by its input. They run functions that are registered by name; results come back through memory
//! that both share, and are handed out without being copied.
//!
//! The protocol, and why nothing is lost or mixed up, is in `README.md` beside this file.
//!
//! | system | |
//! |---|---|
//! | Linux (5.4 or newer) | all of it |
//! | others | [`Tasks::init`] and the builder are there, a start with tasks fails with [`ProcessStartError::Unsupported`] |

mod connection;
mod error;
mod portable;
mod processes;
mod registry;
mod rows;
mod settings;
mod stats;
mod tasks;

#[cfg(target_os = "linux")]
mod server;
#[cfg(not(target_os = "linux"))]
#[path = "unsupported.rs"]
mod server;
#[cfg(target_os = "linux")]
mod shared;
#[cfg(target_os = "linux")]
mod worker;

#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
pub(crate) use self::rows::{Rendered, Rows, each_row, put_row};
pub use self::{
    error::{End, LastWords, ProcessError, ProcessStartError},
    portable::{InPlace, Json, Output, Packed, Portable},
    processes::Processes,
    settings::ProcessSettings,
    stats::ProcessStats,
    tasks::{Registered, Tasks},
};
