//! Lends idle cores to one piece of work, and takes them back when others need them.
//!
//! A pool of persistent worker threads, each with a database connection of its own, beside an async
//! server. The work of a request (rows to decode, render and serialise; items to map; ranges to query)
//! is done by the request itself, and idle workers help as long as that pays. When no core is idle it
//! runs exactly as it would without this library.
//!
//! This crate knows nothing of HTTP; `multicore-axum` puts it into axum.
//!
//! # Features
//!
//! | feature | what it brings |
//! |---|---|
//! | `sqlite` | lists from SQLite, its rows read where they are used, on sqlx's connections |
//! | `sqlite-driver` | lists from SQLite, all rows through sqlx's driver: without unsafe code of its own, and slower |
//! | `postgres` | lists from PostgreSQL, through sqlx |
//! | `mysql` | lists from MySQL and MariaDB, through sqlx |
//! | `process` | worker processes over memory maps, on Linux |
//! | `json`, `uuid` | rows of SQLite with such columns; they turn on sqlx's features of the same names |
//!
//! None is on by default; without any, a pool of `()` has no database.

mod sync;

mod admission;
mod builder;
mod core;
mod cursor_secret;
mod db;
mod error;
mod job;
#[cfg(any(feature = "process", feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
mod json;
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
mod list;
#[cfg(all(test, multicore_loom))]
mod loom_models;
mod map;
mod mode;
mod pool;
#[cfg(feature = "process")]
pub mod process;
mod range_job;
mod ranges;
mod task;
mod worker;

/// SQLite's rows read where they are used, for types of one's own that decode from them.
#[cfg(feature = "sqlite")]
pub mod sqlite {
    pub use crate::db::direct::{
        Direct, DirectColumn, DirectRow, DirectTypeInfo, DirectValue, DirectValueRef,
    };
}

pub use self::{
    admission::{InvalidLoadLimit, LoadLimit},
    builder::Builder,
    cursor_secret::CursorSecret,
    db::Database,
    error::{BoxError, RangesError, StartError, StartStep, TaskError},
    mode::{Decisions, Execution, Mode, Reason},
    pool::{Multicore, ShutdownReport, Stats},
    ranges::ranges,
    task::Task,
};
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
pub use self::{
    db::{ListRow, SqlDatabase},
    list::{
        Around, Consistency, CursorError, Export, Format, List, ListError, ListQuery, OrderBy, Page, Paging,
        Start, Strategy, asc, desc, is_cursor,
    },
};
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
#[doc(no_inline)]
pub use sqlx::{Database as SqlxDatabase, Error as SqlxError, FromRow};
