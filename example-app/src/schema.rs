//! The tables: the migrations of each database, embedded in the program. The SQL itself is in
//! the workspace's `migrations` folder, what fills the tables in [`seed`](crate::seed).

use sqlx::Pool;
use sqlx::migrate::{MigrateError, Migrator};

use crate::database::AppDatabase;

/// The migrations for SQLite.
pub static SQLITE: Migrator = sqlx::migrate!("../migrations/sqlite");
/// The migrations for PostgreSQL.
pub static POSTGRES: Migrator = sqlx::migrate!("../migrations/postgres");
/// The migrations for MySQL and MariaDB.
pub static MYSQL: Migrator = sqlx::migrate!("../migrations/mysql");

/// Brings the tables up to date; does nothing when they are.
///
/// Tables that another program of the same data set has made are adopted as they are.
///
/// # Errors
/// When the database cannot be reached, a statement fails, or the database has a migration that
/// this program does not know or knows differently.
pub async fn migrate<DB: AppDatabase>(pool: &Pool<DB>) -> Result<(), MigrateError> {
    DB::migrate(pool).await
}
