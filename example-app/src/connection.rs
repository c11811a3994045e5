//! Opening a database: its folder, the pool of connections, the tables and their first rows. Which
//! database it is was read from its [URL](crate::database_url) before.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::pool::PoolOptions;
use sqlx::{ConnectOptions, Connection, Pool};

use crate::articles::DEFAULT_ARTICLES;
use crate::database::AppDatabase;
use crate::database_url::DatabaseUrl;
use crate::progress::Bar;
use crate::seed::{self, SeedError, SeedPlan, SeedReport};
use crate::settings::DEFAULT_ROWS;

/// How long opening the first connection may take: longer than a slow network, short enough to be
/// told what is wrong.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long a request waits for a connection before it is refused as too much.
const ACQUIRE_WITHIN: Duration = Duration::from_secs(5);

/// What sqlx connects to a database with.
pub type Options<DB> = <<DB as sqlx::Database>::Connection as Connection>::Options;

/// Why a database is not ready. Names it by its URL without the password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder of an SQLite file could not be made.
    #[error("cannot create the folder {folder} for the database {url}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The database.
        url: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// There was no connection.
    #[error("cannot connect to the database {url}")]
    Connect {
        /// The database.
        url: String,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// The server did not answer.
    #[error("cannot connect to the database {url}: no answer within {CONNECT_WITHIN:?}")]
    NoAnswer {
        /// The database.
        url: String,
    },
    /// The tables could not be made.
    #[error("cannot create the tables of the database {url}")]
    Migrate {
        /// The database.
        url: String,
        /// What the database said.
        source: MigrateError,
    },
    /// The rows could not be made.
    #[error("cannot fill the tables of the database {url}")]
    Seed {
        /// The database.
        url: String,
        /// What the database said.
        source: SeedError,
    },
}

/// Connects, and brings the tables up to date.
///
/// # Errors
/// The first step that failed. An SQLite file and its folder are made if they are not there.
pub async fn open<DB: AppDatabase>(url: &DatabaseUrl, options: &Options<DB>) -> Result<Pool<DB>, OpenError> {
    if let Some(folder) = url.folder() {
        std::fs::create_dir_all(folder).map_err(|source| OpenError::Folder {
            folder: folder.to_owned(),
            url: url.to_string(),
            source,
        })?;
    }
    // The pool would go on trying a server that refuses, and then say only that the time was up.
    let first = tokio::time::timeout(CONNECT_WITHIN, options.connect()).await;
    let connection = first
        .map_err(|_| OpenError::NoAnswer { url: url.to_string() })?
        .map_err(|source| OpenError::Connect { url: url.to_string(), source })?;
    let pool = PoolOptions::new()
        .max_connections(connections())
        .acquire_timeout(ACQUIRE_WITHIN)
        .connect_lazy_with(options.clone());
    let migrated = DB::migrate(&pool).await;
    // Kept until now because a database in memory lasts as long as a connection to it.
    let _closed = connection.close().await;
    if let Err(source) = migrated {
        pool.close().await;
        return Err(OpenError::Migrate { url: url.to_string(), source });
    }
    Ok(pool)
}

/// Connections of the pool. Requests hold one while they read, and more than a few a core would only
/// wait for each other in the database; the workers have their own besides.
fn connections() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (4 * cores).clamp(8, 32) as u32
}

/// Adds the rows that are missing, with a progress bar: up to `rows` users if that is given, and the
/// default number to tables that are empty otherwise, so that a database with rows of its own is left
/// alone. There are a fifth as many articles as users, up to their own default number.
///
/// # Errors
/// When a row cannot be inserted. Whole transactions stay, and the next call goes on after them.
pub async fn fill<DB: AppDatabase>(
    pool: &Pool<DB>,
    url: &DatabaseUrl,
    rows: Option<u32>,
) -> Result<SeedReport, OpenError> {
    let failed = |source| OpenError::Seed { url: url.to_string(), source };
    let plan = match rows {
        Some(rows) => plan(rows),
        None => plan_if_empty(pool).await.map_err(failed)?,
    };
    seed::seed(pool, plan, &mut Bar::default()).await.map_err(failed)
}

/// The default numbers for the tables that are empty, nothing for the others.
async fn plan_if_empty<DB: AppDatabase>(pool: &Pool<DB>) -> Result<SeedPlan, SeedError> {
    let mut wanted = plan(DEFAULT_ROWS);
    for (what, sql, wanted) in [
        ("users", "SELECT COUNT(*) FROM people_user", &mut wanted.users),
        ("articles", "SELECT COUNT(*) FROM articles_article", &mut wanted.articles),
    ] {
        let count = DB::count(pool, sql).await.map_err(|source| SeedError::Count { what, source })?;
        if count > 0 {
            *wanted = 0;
        }
    }
    Ok(wanted)
}

const fn plan(users: u32) -> SeedPlan {
    let articles = users.div_ceil(5);
    SeedPlan { users, articles: if articles < DEFAULT_ARTICLES { articles } else { DEFAULT_ARTICLES } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_a_fifth_as_many_articles_up_to_a_limit() {
        for (users, articles) in [(0, 0), (1, 1), (50, 10), (10_000, 2_000), (1_000_000, 2_000)] {
            assert_eq!(plan(users), SeedPlan { users, articles });
        }
    }

    #[test]
    fn the_default_is_what_the_data_set_has() {
        assert_eq!(plan(DEFAULT_ROWS), SeedPlan::default());
    }
}
