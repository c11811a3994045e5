//! sqlx's driver for MySQL and MariaDB.

use std::future::Future;

use sqlx::mysql::MySqlTypeInfo;
use sqlx::{AssertSqlSafe, Column, MySql, MySqlConnection, MySqlPool, Row, Statement, TypeInfo};

use super::sqlx_drivers::{
    Exported, Meaning, PlanKind, SqlDatabase, common, common_list, driver_only, driver_rows,
};
use super::{Ask, Database, Dialect, Guard, Reading, Table, TableName, sealed};
use crate::error::BoxError;
use crate::list::cursor::KeyValue;

impl sealed::Sealed for MySql {}

impl Database for MySql {
    common!(MySql);

    type Item = <MySql as sqlx::Database>::Row;
    type Sentinel = ();

    const NAME: &'static str = "MySQL";
    const READING: Reading = Reading::BUFFERED;
    const RESUMES: bool = false;

    fn not_shareable(_pool: &MySqlPool) -> Option<&'static str> {
        None
    }

    async fn guard(connection: &mut MySqlConnection) -> Result<Guard, BoxError> {
        let id: u64 = sqlx::query_scalar("SELECT CONNECTION_ID()").fetch_one(connection).await?;
        Ok(Guard::Backend(id.cast_signed()))
    }

    async fn ask(control: &mut MySqlConnection, ask: &Ask) -> Result<i64, BoxError> {
        if let Ask::ServerLimit = ask {
            let sql = "SELECT CAST(@@max_connections AS SIGNED)";
            let row = sqlx::Executor::fetch_one(control, sqlx::raw_sql(sql)).await?;
            return Ok(row.try_get_unchecked(0)?);
        }
        let Ask::Cancel(guards) = ask else { return Ok(0) };
        let mut cancelled = 0;
        for guard in guards {
            let Guard::Backend(id) = guard else { continue };
            match Self::run(control, format!("KILL QUERY {id}")).await {
                Ok(()) => cancelled += 1,
                // No such connection: then it runs nothing.
                Err(sqlx::Error::Database(error)) if number(&*error) == Some(1094) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(cancelled)
    }

    async fn rollback(connection: &mut MySqlConnection) -> Result<(), BoxError> {
        Ok(Self::run(connection, "ROLLBACK".to_owned()).await?)
    }
}

driver_rows!(MySql);

impl SqlDatabase for MySql {
    common_list!(MySql);
    driver_only!(MySql);

    const DIALECT: Dialect = Dialect::MySql;

    fn bind_key(arguments: &mut sqlx::mysql::MySqlArguments, value: &KeyValue) -> Result<(), BoxError> {
        match value {
            KeyValue::Int(number) => sqlx::Arguments::add(arguments, *number),
            KeyValue::Uint(number) => sqlx::Arguments::add(arguments, *number),
            KeyValue::Text(text) => sqlx::Arguments::add(arguments, text),
            KeyValue::Blob(bytes) => sqlx::Arguments::add(arguments, bytes),
            KeyValue::Null | KeyValue::Real(_) => Err("not a value of a cursor of MySQL".into()),
        }
    }

    fn key(row: &sqlx::mysql::MySqlRow, index: usize) -> Result<KeyValue, BoxError> {
        let column = row.column(index);
        let name = column.type_info().name();
        Ok(if is_bytes(column.type_info()) {
            row.try_get_unchecked::<Option<Vec<u8>>, _>(index)?.map_or(KeyValue::Null, KeyValue::Blob)
        } else if name != "BOOLEAN" && !name.contains("INT") {
            row.try_get_unchecked::<Option<String>, _>(index)?.map_or(KeyValue::Null, KeyValue::Text)
        } else if name.contains("UNSIGNED") {
            row.try_get_unchecked::<Option<u64>, _>(index)?.map_or(KeyValue::Null, KeyValue::Uint)
        } else {
            row.try_get_unchecked::<Option<i64>, _>(index)?.map_or(KeyValue::Null, KeyValue::Int)
        })
    }

    fn snapshot(_row: &sqlx::mysql::MySqlRow) -> Result<Option<i64>, BoxError> {
        Ok(None)
    }

    async fn explain(
        connection: &mut MySqlConnection,
        sql: String,
        arguments: sqlx::mysql::MySqlArguments,
    ) -> Result<PlanKind, sqlx::Error> {
        let sql = AssertSqlSafe(format!("EXPLAIN {sql}"));
        let rows = sqlx::query_with(sql, arguments).persistent(false).fetch_all(connection).await?;
        let mut sorted = false;
        for row in rows {
            let extra: Option<String> = row.try_get_unchecked("Extra")?;
            sorted |= extra.is_some_and(|extra| extra.contains("filesort") || extra.contains("temporary"));
        }
        Ok(if sorted { PlanKind::Sorted } else { PlanKind::Ordered })
    }

    async fn table(connection: &mut MySqlConnection, name: &TableName) -> Result<Option<Table>, sqlx::Error> {
        super::catalogue::mysql::table(connection, name).await
    }

    async fn key_casts(
        connection: &mut MySqlConnection,
        keys: &[&str],
        tables: &str,
    ) -> Result<Vec<Option<String>>, BoxError> {
        let sql = format!("SELECT {} FROM {tables} LIMIT 0", keys.join(", "));
        let statement =
            sqlx::Executor::prepare(connection, sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(sql))).await?;
        let columns = statement.columns();
        columns.iter().zip(keys).map(|(column, key)| cast(column.type_info(), key)).collect()
    }

    fn meaning(error: &sqlx::Error) -> Meaning {
        match error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) => Meaning::Lost,
            sqlx::Error::Database(error) => match (number(&**error), error.code().as_deref()) {
                // Shutdown, connection killed.
                (Some(1053 | 1077 | 1079 | 1927 | 3169 | 4031), _) => Meaning::Lost,
                (_, Some(state)) if state.starts_with("08") => Meaning::Lost,
                // Transaction rollback, as one of a deadlock.
                (_, Some(state)) if state.starts_with("40") => Meaning::Conflict,
                // Regular expressions and JSON paths that are none, under the state of syntax errors.
                (Some(1139 | 3143 | 3685..=3699), _) => Meaning::Value,
                // Several rows where one belongs; others of its state are mistakes of the text.
                (Some(1242), _) => Meaning::Value,
                (_, Some(state)) if state.starts_with("22") => Meaning::Value,
                (_, Some(state)) if state.starts_with("42") => Meaning::Statement,
                _ => Meaning::Other,
            },
            _ => Meaning::Other,
        }
    }

    async fn export_snapshot(
        _connection: &mut MySqlConnection,
        _told: bool,
    ) -> Result<Option<Exported>, sqlx::Error> {
        Ok(None)
    }

    async fn snapshots(_connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
        // Two transactions cannot share a snapshot.
        Ok(false)
    }
}

/// Whether values of this type are bytes that are no text.
fn is_bytes(type_info: &MySqlTypeInfo) -> bool {
    let name = type_info.name();
    (name.contains("BINARY") || name.contains("BLOB"))
        && !<String as sqlx::Type<MySql>>::compatible(type_info)
}

fn number(error: &dyn sqlx::error::DatabaseError) -> Option<u16> {
    error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map(|error| error.number())
}

/// What a value of this type is cast to when bound, so that it is compared as what it is and not as text
/// or as an approximate number.
fn cast(type_info: &MySqlTypeInfo, key: &str) -> Result<Option<String>, BoxError> {
    let cast = match type_info.name() {
        // A TINYINT(1) is called BOOLEAN.
        name if name == "BOOLEAN" || name.contains("INT") => return Ok(None),
        // As a value it takes the column's collation; as a cast it would have one of its own.
        "VARCHAR" | "CHAR" | "TEXT" | "TINYTEXT" | "MEDIUMTEXT" | "LONGTEXT" => return Ok(None),
        // What the driver calls text whose collation compares bytes, and bytes.
        "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" => return Ok(None),
        // The driver does not tell a CHAR of such a collation from an ENUM, which is ordered by its numbers
        // and compared as text.
        "BINARY" if is_bytes(type_info) => return Ok(None),
        "DECIMAL" => "DECIMAL(65,30)",
        "DATETIME" | "TIMESTAMP" => "DATETIME(6)",
        "DATE" => "DATE",
        "TIME" => "TIME(6)",
        name => return Err(format!("`{key}` is a {name}, which a cursor cannot carry exactly").into()),
    };
    Ok(Some(cast.to_owned()))
}
