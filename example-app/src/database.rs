//! What differs between the three databases and cannot be said by generics over
//! [`sqlx::Database`]: which types can be bound, how large a statement may be, who runs the
//! migrations. Code that works on any of them is generic over [`AppDatabase`] and elsewhere.

use std::future::Future;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::query_builder::Separated;
use sqlx::{Database, MySql, Pool, Postgres, QueryBuilder, Sqlite};

use crate::articles::{ARTICLE_COLUMNS, ARTICLE_TABLES, ArticleRow};
use crate::calendar::{Date, Timestamp};
use crate::schema;

/// A value of one of the column types that the tables have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `integer`.
    Integer(i32),
    /// `varchar` or `text`.
    Text(&'a str),
    /// `boolean`.
    Boolean(bool),
    /// A point in time.
    Timestamp(Timestamp),
    /// A day.
    Date(Date),
}

/// A database that the service can stand on: [`Sqlite`], [`Postgres`] or [`MySql`] (also
/// MariaDB).
pub trait AppDatabase: Database {
    /// The most values that one statement can bind.
    const BIND_LIMIT: usize;

    /// The statement that refreshes the planner's statistics of all tables.
    const ANALYZE: &'static str;

    /// The migrations that make the tables.
    fn migrator() -> &'static Migrator;

    /// Brings the tables up to date; does nothing when they are.
    ///
    /// Tables that another program of the same data set has made are adopted as they are.
    ///
    /// # Errors
    /// When the database cannot be reached, a statement fails, or the database has a migration that
    /// this program does not know or knows differently.
    fn migrate(pool: &Pool<Self>) -> impl Future<Output = Result<(), MigrateError>> + Send;

    /// Adds one bound value to a row of an `INSERT`.
    fn push_value(row: &mut Separated<'_, Self, &'static str>, value: Value<'_>);

    /// Runs a statement that has no parameters and whose answer does not matter.
    fn run(
        conn: &mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Runs a statement that was put together.
    fn execute(
        conn: &mut Self::Connection,
        query: QueryBuilder<Self>,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The one integer, or null, that a query without parameters answers.
    fn integer(
        conn: &mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = Result<Option<i32>, sqlx::Error>> + Send;

    /// The article with this id, if there is one.
    fn article(
        pool: &Pool<Self>,
        id: i32,
    ) -> impl Future<Output = Result<Option<ArticleRow>, sqlx::Error>> + Send;

    /// The number that a `SELECT COUNT(*)` without parameters answers.
    fn count(pool: &Pool<Self>, sql: &'static str) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;
}

macro_rules! app_database {
    ($database:ty, $migrator:path, bind_limit: $bind_limit:literal, analyze: $analyze:literal) => {
        impl AppDatabase for $database {
            const BIND_LIMIT: usize = $bind_limit;
            const ANALYZE: &'static str = $analyze;

            fn migrator() -> &'static Migrator {
                &$migrator
            }

            async fn migrate(pool: &Pool<Self>) -> Result<(), MigrateError> {
                $migrator.run(pool).await
            }

            fn push_value(row: &mut Separated<'_, Self, &'static str>, value: Value<'_>) {
                match value {
                    Value::Integer(value) => row.push_bind(value),
                    Value::Text(value) => row.push_bind(value),
                    Value::Boolean(value) => row.push_bind(value),
                    Value::Timestamp(value) => row.push_bind(value),
                    Value::Date(value) => row.push_bind(value),
                };
            }

            async fn run(conn: &mut Self::Connection, sql: &'static str) -> Result<(), sqlx::Error> {
                sqlx::raw_sql(sql).execute(conn).await.map(drop)
            }

            async fn execute(
                conn: &mut Self::Connection,
                mut query: QueryBuilder<Self>,
            ) -> Result<(), sqlx::Error> {
                query.build().execute(conn).await.map(drop)
            }

            async fn integer(
                conn: &mut Self::Connection,
                sql: &'static str,
            ) -> Result<Option<i32>, sqlx::Error> {
                sqlx::query_scalar(sql).fetch_one(conn).await
            }

            async fn article(pool: &Pool<Self>, id: i32) -> Result<Option<ArticleRow>, sqlx::Error> {
                let mut query = QueryBuilder::new("SELECT ");
                query.push(ARTICLE_COLUMNS).push(" FROM ").push(ARTICLE_TABLES);
                query.push(" WHERE a.id = ").push_bind(id);
                query.build_query_as().fetch_optional(pool).await
            }

            async fn count(pool: &Pool<Self>, sql: &'static str) -> Result<u64, sqlx::Error> {
                let count: i64 = sqlx::query_scalar(sql).fetch_one(pool).await?;
                Ok(count.cast_unsigned())
            }
        }
    };
}

app_database!(Sqlite, schema::SQLITE, bind_limit: 32_766, analyze: "ANALYZE");
app_database!(
    Postgres,
    schema::POSTGRES,
    bind_limit: 65_535,
    analyze: "ANALYZE people_user, people_profile, articles_article"
);
app_database!(
    MySql,
    schema::MYSQL,
    bind_limit: 65_535,
    analyze: "ANALYZE TABLE people_user, people_profile, articles_article"
);
