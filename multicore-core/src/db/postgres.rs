//! sqlx's driver for PostgreSQL.

use std::future::Future;

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row};

use super::sqlx_drivers::{
    Exported, Meaning, PlanKind, SESSION, SqlDatabase, common, common_list, driver_only, driver_rows,
};
use super::{Ask, Database, Dialect, Guard, Reading, Table, TableName, sealed};
use crate::error::BoxError;
use crate::list::cursor::KeyValue;

/// Begins a transaction that keeps the snapshot it takes first, or one that it joins before.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

impl sealed::Sealed for Postgres {}

impl Database for Postgres {
    common!(Postgres);

    type Item = <Postgres as sqlx::Database>::Row;
    type Sentinel = ();

    const NAME: &'static str = "PostgreSQL";
    const READING: Reading = Reading::BUFFERED;

    fn not_shareable(_pool: &PgPool) -> Option<&'static str> {
        None
    }

    async fn guard(connection: &mut PgConnection) -> Result<Guard, BoxError> {
        // Without a prepared statement, since there may be a pooler in between.
        let row = sqlx::Executor::fetch_one(connection, sqlx::raw_sql("SELECT pg_backend_pid()")).await?;
        Ok(Guard::Backend(row.try_get::<i32, _>(0)?.into()))
    }

    async fn ask(control: &mut PgConnection, ask: &Ask) -> Result<i64, BoxError> {
        let sql = match ask {
            Ask::Cancel(guards) => cancelling(guards),
            Ask::ServerLimit => "SELECT current_setting('max_connections')::bigint \
                                 - current_setting('superuser_reserved_connections')::bigint"
                .to_owned(),
            Ask::Hold(number) => format!(
                "SELECT CASE WHEN pg_advisory_unlock_all()::text = '' \
                 THEN pg_try_advisory_lock({number})::integer::bigint ELSE 0 END"
            ),
            Ask::DataVersion => return Ok(0),
        };
        let row = sqlx::Executor::fetch_one(control, sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        Ok(row.try_get(0)?)
    }

    async fn rollback(connection: &mut PgConnection) -> Result<(), BoxError> {
        Ok(Self::run(connection, "ROLLBACK".to_owned()).await?)
    }
}

driver_rows!(Postgres);

impl SqlDatabase for Postgres {
    common_list!(Postgres);
    driver_only!(Postgres);

    const DIALECT: Dialect = Dialect::Postgres;

    fn bind_key(arguments: &mut sqlx::postgres::PgArguments, value: &KeyValue) -> Result<(), BoxError> {
        match value {
            KeyValue::Text(text) => sqlx::Arguments::add(arguments, text),
            _ => Err("a key of PostgreSQL is text".into()),
        }
    }

    fn key(row: &sqlx::postgres::PgRow, index: usize) -> Result<KeyValue, BoxError> {
        Ok(row.try_get::<Option<String>, _>(index)?.map_or(KeyValue::Null, KeyValue::Text))
    }

    fn snapshot(row: &sqlx::postgres::PgRow) -> Result<Option<i64>, BoxError> {
        Ok(row.try_get(row.len() - 1)?)
    }

    async fn explain(
        connection: &mut PgConnection,
        sql: String,
        arguments: sqlx::postgres::PgArguments,
    ) -> Result<PlanKind, sqlx::Error> {
        let sql = AssertSqlSafe(format!("EXPLAIN (COSTS OFF) {sql}"));
        let lines: Vec<String> =
            sqlx::query_scalar_with(sql, arguments).persistent(false).fetch_all(connection).await?;
        Ok(plan_kind(lines.iter().map(|line| &**line)))
    }

    async fn table(connection: &mut PgConnection, name: &TableName) -> Result<Option<Table>, sqlx::Error> {
        super::catalogue::postgres::table(connection, name).await
    }

    async fn key_casts(
        connection: &mut PgConnection,
        keys: &[&str],
        tables: &str,
    ) -> Result<Vec<Option<String>>, BoxError> {
        let mut types = String::new();
        let mut values = String::new();
        for (index, key) in keys.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            // With a modifier given, `char(3)` is `bpchar` and not `character`, which would be of length 1.
            types.push_str(&format!("{comma}pg_catalog.format_type(pg_typeof(k{index})::oid, -1)"));
            values.push_str(&format!("{comma}{key} AS k{index}"));
        }
        let sql = format!(
            "SELECT {types} FROM (SELECT 1) AS one LEFT JOIN (SELECT {values} FROM {tables} LIMIT 0) AS keys \
             ON true"
        );
        let row = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_one(connection).await?;
        (0..keys.len()).map(|index| Ok(Some(row.try_get::<String, _>(index)?))).collect()
    }

    fn meaning(error: &sqlx::Error) -> Meaning {
        match error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) => Meaning::Lost,
            sqlx::Error::Database(error) if ends_session(&**error) => Meaning::Lost,
            sqlx::Error::Database(error) => match error.code().as_deref().unwrap_or_default() {
                // Crash or administrator shutdown, cannot connect now; connection exceptions.
                "57P01" | "57P02" | "57P03" | "57P05" => Meaning::Lost,
                code if code.starts_with("08") => Meaning::Lost,
                // Transaction rollback: by a standby for its replay, or as one of a deadlock.
                code if code.starts_with("40") => Meaning::Conflict,
                // Several rows where one belongs; data exceptions.
                code if code.starts_with("21") || code.starts_with("22") => Meaning::Value,
                // Syntax error or access rule violation.
                code if code.starts_with("42") => Meaning::Statement,
                _ => Meaning::Other,
            },
            _ => Meaning::Other,
        }
    }

    async fn export_snapshot(
        connection: &mut PgConnection,
        told: bool,
    ) -> Result<Option<Exported>, sqlx::Error> {
        let session = if told { SESSION } else { "NULL::bigint" };
        let sql = format!("{BEGIN}; SELECT pg_export_snapshot(), {session}, pg_is_in_recovery()");
        let row = sqlx::Executor::fetch_one(connection, sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        Ok(Some(Exported { name: row.try_get(0)?, session: row.try_get(1)?, standby: row.try_get(2)? }))
    }

    async fn begin_join(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        Self::run(connection, BEGIN.to_owned()).await
    }

    async fn join_snapshot(connection: &mut PgConnection, exported: &Exported) -> Result<bool, sqlx::Error> {
        // The name is the server's own, of digits and dashes.
        let mut sql = format!("SET TRANSACTION SNAPSHOT '{}'", exported.name);
        let Some(session) = exported.session else {
            return Self::run(connection, sql).await.map(|()| true);
        };
        sql = format!("{sql}; SELECT {SESSION}");
        let row = sqlx::Executor::fetch_one(connection, sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        Ok(row.try_get::<i64, _>(0)? == session)
    }

    async fn snapshots(_connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        Ok(true)
    }
}

/// Whether the server closes the connection with this error, whatever its code: a session that was idle for too long in
/// a transaction, or was in the way of a standby's replay. Not where the same would only happen again: a transaction that
/// took too long, and a login that is refused.
fn ends_session(error: &dyn sqlx::error::DatabaseError) -> bool {
    let error = error.try_downcast_ref::<PgDatabaseError>();
    error.is_some_and(|error| {
        let again = error.code() == "25P04" || error.code() == "3D000" || error.code().starts_with("28");
        matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic) && !again
    })
}

/// The statement that cancels what is guarded.
fn cancelling(guards: &[Guard]) -> String {
    let (mut locks, mut pids) = (Vec::new(), Vec::new());
    for guard in guards {
        match guard {
            // A lock of a 64-bit number is listed in two halves.
            Guard::Lock(number) => {
                let number = number.cast_unsigned();
                locks.push(format!("({}::oid, {}::oid)", number >> 32, number & 0xffff_ffff));
            }
            Guard::Backend(pid) => pids.push(format!("({pid})")),
            Guard::None | Guard::Flag(_) => {}
        }
    }
    let mut running = Vec::new();
    if !locks.is_empty() {
        running.push(format!(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND \
             (classid, objid) IN ({}) AND database = \
             (SELECT oid FROM pg_database WHERE datname = current_database())",
            locks.join(", ")
        ));
    }
    if !pids.is_empty() {
        running.push(format!("SELECT pid FROM (VALUES {}) AS known (pid)", pids.join(", ")));
    }
    if running.is_empty() {
        return "SELECT 0::bigint".to_owned();
    }
    format!("SELECT count(pg_cancel_backend(pid)) FROM ({}) AS running", running.join(" UNION ALL "))
}

/// What the lines of an `EXPLAIN` say.
fn plan_kind<'l>(lines: impl Iterator<Item = &'l str> + Clone) -> PlanKind {
    let node = |line: &'l str| line.trim_start().trim_start_matches("->").trim_start();
    if lines.clone().any(|line| node(line).starts_with("Gather")) {
        PlanKind::Parallel
    } else if lines.clone().any(|line| ["Sort", "Incremental Sort"].contains(&node(line).trim_end())) {
        PlanKind::Sorted
    } else {
        PlanKind::Ordered
    }
}
