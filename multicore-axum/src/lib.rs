//! List views for axum that use the idle cores.
//!
//! Wrap the router with [`MulticoreLayer`], take [`Multicore`] and [`LimitOffset`] in the handler, and
//! call [`parallel_list`](Multicore::parallel_list). The request reads and renders its rows itself;
//! idle cores help when that pays, and when none is idle nothing changes.
//!
//! ```
//! # #[cfg(feature = "sqlite-driver")]
//! # mod example {
//! use axum::{Router, routing::get};
//! use multicore_axum::{Config, LimitOffset, ListError, ListQuery, Listing, Multicore, MulticoreLayer, asc};
//! use sqlx::{Sqlite, SqlitePool};
//!
//! #[derive(sqlx::FromRow)]
//! struct UserRow { id: i64, username: String }
//! #[derive(serde::Serialize)]
//! struct UserView { id: i64, shout: String }
//!
//! async fn users(mc: Multicore<Sqlite>, page: LimitOffset) -> Result<Listing, ListError> {
//!     let query = ListQuery::<UserRow>::select("id, username").from("people_user").order_by([asc("id")]);
//!     mc.parallel_list(query, page, |row| UserView { id: row.id, shout: row.username.to_uppercase() }).await
//! }
//!
//! pub async fn app(pool: SqlitePool, config: Config) -> Result<Router, multicore_axum::StartError> {
//!     let multicore = MulticoreLayer::<Sqlite>::builder().config(config).pool(pool).start().await?;
//!     Ok(Router::new().route("/users/", get(users)).layer(multicore))
//! }
//! # }
//! # #[tokio::main]
//! # async fn main() {
//! # #[cfg(feature = "sqlite-driver")]
//! # example::app(sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap(), Default::default()).await.unwrap();
//! # }
//! ```
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
//! None is on by default; without any, a pool of `()` runs tasks, maps and ranges.

/// The README's snippets, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

mod config;
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
mod export;
mod extract;
mod future;
mod layer;
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
mod list_problem;
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
mod listing;
mod multicore;
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
mod page;
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
mod pieces;
mod problem;
#[cfg(feature = "process")]
mod process_problem;
mod secret;
mod service;

#[cfg(feature = "process")]
pub use self::{config::ProcessConfig, process_problem::ProcessProblem};
pub use self::{
    config::{Config, PageLimits},
    extract::MissingLayer,
    future::MulticoreFuture,
    layer::MulticoreLayer,
    multicore::{Builder, Multicore},
    problem::Problem,
    service::MulticoreService,
};
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
pub use self::{
    export::StreamedListing,
    list_problem::ListError,
    listing::Listing,
    page::{AnyPage, CursorPage, LimitOffset, LinkStyle, PageNumber, PageRequest, Within},
};
#[cfg(feature = "process")]
#[doc(no_inline)]
pub use multicore_core::process;
#[cfg(feature = "sqlite")]
#[doc(no_inline)]
pub use multicore_core::sqlite;
#[cfg(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql"))]
pub use multicore_core::{
    Around, Consistency, CursorError, Format, ListQuery, ListRow, OrderBy, Page, Paging, SqlDatabase, Start,
    Strategy, asc, desc,
};
pub use multicore_core::{
    CursorSecret, Database, Decisions, Execution, InvalidLoadLimit, LoadLimit, Mode, RangesError, Reason,
    ShutdownReport, StartError, StartStep, Stats, Task, TaskError, ranges,
};
