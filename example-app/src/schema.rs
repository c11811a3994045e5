//! The tables: the migrations of each database, embedded in the program. The SQL itself is in
//! the workspace's `migrations` folder, what fills the tables in [`seed`](crate::seed).

use sqlx::migrate::Migrator;

/// The migrations for SQLite.
pub static SQLITE: Migrator = sqlx::migrate!("../migrations/sqlite");
/// The migrations for PostgreSQL.
pub static POSTGRES: Migrator = sqlx::migrate!("../migrations/postgres");
/// The migrations for MySQL and MariaDB.
pub static MYSQL: Migrator = sqlx::migrate!("../migrations/mysql");
