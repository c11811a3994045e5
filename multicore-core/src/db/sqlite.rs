//! sqlx's driver for SQLite.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::{AssertSqlSafe, Row, Sqlite, SqliteConnection, SqlitePool, TypeInfo, ValueRef};

#[cfg(feature = "sqlite")]
use self::stepped::stepped_here;
use super::sqlx_drivers::{Exported, Meaning, PlanKind, SqlDatabase, common, common_list};
#[cfg(not(feature = "sqlite"))]
use super::sqlx_drivers::{driver_only, driver_rows};
use super::{Ask, Database, Dialect, Guard, Reading, Table, TableName, sealed};
use crate::error::BoxError;
use crate::list::cursor::KeyValue;

#[cfg(feature = "sqlite")]
mod stepped;

/// A running statement looks at its flag after about so many instructions of SQLite's virtual machine,
/// which take some ten microseconds.
const LOOK_EVERY: i32 = 1_000;

impl sealed::Sealed for Sqlite {}

impl Database for Sqlite {
    common!(Sqlite);

    #[cfg(feature = "sqlite")]
    type Item = stepped::Item;
    #[cfg(not(feature = "sqlite"))]
    type Item = sqlx::sqlite::SqliteRow;
    #[cfg(feature = "sqlite")]
    type Sentinel = super::direct::Sentinel;
    #[cfg(not(feature = "sqlite"))]
    type Sentinel = ();

    const NAME: &'static str = "SQLite";
    const READING: Reading = Reading::CHANNEL;
    const COMPUTES_HERE: bool = true;

    fn not_shareable(pool: &SqlitePool) -> Option<&'static str> {
        // Each connection to it would be an empty database of its own. (`sqlite::memory:` as a URL is
        // fine: sqlx gives it a name and a shared cache.)
        let options = pool.connect_options();
        (options.get_filename() == Path::new(":memory:")).then_some(
            "`:memory:` is private to one connection; use a file, or the URL `sqlite::memory:`, which \
             connections share",
        )
    }

    async fn guard(connection: &mut SqliteConnection) -> Result<Guard, BoxError> {
        let flag = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&flag);
        let mut handle = connection.lock_handle().await?;
        handle.set_progress_handler(LOOK_EVERY, move || !stop.load(Ordering::Relaxed));
        Ok(Guard::Flag(flag))
    }

    async fn ask(control: &mut SqliteConnection, ask: &Ask) -> Result<i64, BoxError> {
        match ask {
            Ask::DataVersion => Ok(sqlx::query_scalar("PRAGMA data_version").fetch_one(control).await?),
            Ask::Cancel(_) | Ask::Hold(_) => Ok(0),
            Ask::ServerLimit => Ok(-1),
        }
    }

    #[cfg(feature = "sqlite")]
    fn unwatch(sentinel: &Self::Sentinel) {
        sentinel.close();
    }

    async fn rollback(connection: &mut SqliteConnection) -> Result<(), BoxError> {
        match Self::run(connection, "ROLLBACK".to_owned()).await {
            Ok(()) => Ok(()),
            // An interrupt may have rolled back already, or the transaction had not begun.
            Err(sqlx::Error::Database(error)) if error.message().contains("no transaction") => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(not(feature = "sqlite"))]
driver_rows!(Sqlite);

impl SqlDatabase for Sqlite {
    common_list!(Sqlite);
    #[cfg(not(feature = "sqlite"))]
    driver_only!(Sqlite);
    #[cfg(feature = "sqlite")]
    stepped_here!();

    const DIALECT: Dialect = Dialect::Sqlite;

    fn bind_key(arguments: &mut sqlx::sqlite::SqliteArguments, value: &KeyValue) -> Result<(), BoxError> {
        match value {
            KeyValue::Int(number) => sqlx::Arguments::add(arguments, *number),
            KeyValue::Real(number) => sqlx::Arguments::add(arguments, *number),
            KeyValue::Text(text) => sqlx::Arguments::add(arguments, text.clone()),
            KeyValue::Blob(bytes) => sqlx::Arguments::add(arguments, bytes.clone()),
            KeyValue::Null | KeyValue::Uint(_) => Err("not a value of SQLite".into()),
        }
    }

    fn key(row: &sqlx::sqlite::SqliteRow, index: usize) -> Result<KeyValue, BoxError> {
        let value = row.try_get_raw(index)?;
        if value.is_null() {
            return Ok(KeyValue::Null);
        }
        // By what is stored, whatever the column was declared as: that is how SQLite compares.
        let stored = value.type_info();
        Ok(match stored.name() {
            "REAL" => KeyValue::Real(row.try_get_unchecked(index)?),
            "BLOB" => KeyValue::Blob(row.try_get_unchecked(index)?),
            "TEXT" => KeyValue::Text(row.try_get_unchecked(index)?),
            _ => KeyValue::Int(row.try_get_unchecked(index)?),
        })
    }

    fn snapshot(_row: &sqlx::sqlite::SqliteRow) -> Result<Option<i64>, BoxError> {
        Ok(None)
    }

    async fn explain(
        connection: &mut SqliteConnection,
        sql: String,
        arguments: sqlx::sqlite::SqliteArguments,
    ) -> Result<PlanKind, sqlx::Error> {
        let sql = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let rows = sqlx::query_with(sql, arguments).persistent(false).fetch_all(connection).await?;
        let details = rows.iter().map(|row| row.try_get("detail"));
        Ok(plan_kind(&details.collect::<Result<Vec<&str>, _>>()?))
    }

    async fn table(
        connection: &mut SqliteConnection,
        name: &TableName,
    ) -> Result<Option<Table>, sqlx::Error> {
        super::catalogue::sqlite::table(connection, name).await
    }

    async fn key_casts(
        _connection: &mut SqliteConnection,
        keys: &[&str],
        _tables: &str,
    ) -> Result<Vec<Option<String>>, BoxError> {
        Ok(vec![None; keys.len()])
    }

    fn meaning(error: &sqlx::Error) -> Meaning {
        match error {
            sqlx::Error::WorkerCrashed => Meaning::Lost,
            // SQLITE_ERROR says both that the text is wrong and that a function refused its arguments.
            sqlx::Error::Database(error) => match error.code().as_deref() {
                Some("1" | "20") => {
                    let message = error.message();
                    let text =
                        ["no such", "syntax error", "ambiguous", "unrecognized token", "incomplete input"];
                    let wrong = text.iter().any(|text| message.contains(text));
                    if wrong { Meaning::Statement } else { Meaning::Value }
                }
                _ => Meaning::Other,
            },
            _ => Meaning::Other,
        }
    }

    async fn export_snapshot(
        connection: &mut SqliteConnection,
        _told: bool,
    ) -> Result<Option<Exported>, sqlx::Error> {
        // The first read is what takes the snapshot.
        Self::run(connection, "BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1".to_owned()).await?;
        Ok(None)
    }

    async fn snapshots(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        // Only with a write-ahead log do readers keep their snapshot while others write.
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await?;
        Ok(mode.eq_ignore_ascii_case("wal"))
    }
}

/// What the steps of a statement's plan say of how it runs. The first is the outermost loop.
fn plan_kind(steps: &[&str]) -> PlanKind {
    if steps.iter().any(|step| step.contains("TEMP B-TREE")) {
        PlanKind::Sorted
    } else if steps.first().is_some_and(|step| !step.contains(" INDEX ")) {
        PlanKind::Clustered
    } else {
        PlanKind::Ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plans_are_told_apart_by_where_rows_come_from() {
        let mut connection =
            <SqliteConnection as sqlx::Connection>::connect("sqlite::memory:").await.unwrap();
        let tables =
            "CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER, r INTEGER); CREATE INDEX tk ON t (k, id);
            CREATE TABLE w (a TEXT PRIMARY KEY, b) WITHOUT ROWID";
        <Sqlite as SqlDatabase>::run(&mut connection, tables.to_owned()).await.unwrap();
        for (sql, kind) in [
            ("SELECT * FROM t ORDER BY id LIMIT 1", PlanKind::Clustered),
            ("SELECT * FROM t WHERE id > 5 ORDER BY id DESC LIMIT 1", PlanKind::Clustered),
            ("SELECT * FROM w ORDER BY a LIMIT 1", PlanKind::Clustered),
            ("SELECT t.id FROM t CROSS JOIN w ON w.a = t.r ORDER BY t.id LIMIT 1", PlanKind::Clustered),
            ("SELECT * FROM t ORDER BY k, id LIMIT 1", PlanKind::Ordered),
            ("SELECT k FROM t ORDER BY k LIMIT 1", PlanKind::Ordered),
            ("SELECT * FROM t WHERE k = 1 ORDER BY id LIMIT 1", PlanKind::Ordered),
            ("SELECT * FROM t ORDER BY r LIMIT 1", PlanKind::Sorted),
        ] {
            let plan = <Sqlite as SqlDatabase>::explain(&mut connection, sql.to_owned(), Default::default());
            assert_eq!(plan.await.unwrap(), kind, "{sql}");
        }
    }
}
