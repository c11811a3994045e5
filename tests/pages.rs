//! The table `item` in a database: how it is created, and how a page of it is asked for and read in one
//! statement. What a page must hold is for `oracle`, how the table changes for `writers`.

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, FromRow, PgPool, SqlitePool};

use crate::oracle::{Item, Table};

/// The orders of a page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    /// `id`
    Id,
    /// `id DESC`
    IdDesc,
    /// `k, id`
    K,
    /// `k DESC, id`
    KDesc,
}

/// What an order compares: by `id` alone or by `k` first. There need not be such a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) k: i32,
    pub(crate) id: i64,
}

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    /// Behind so many rows.
    Offset(usize),
    /// The rows next after the key.
    After(Key),
    /// The rows next before the key, in the same order as ever.
    Before(Key),
}

/// A page that is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) order: Order,
    pub(crate) place: Place,
    pub(crate) limit: usize,
}

/// A row as a page shows it: with the number of the last write it knows of.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) id: i64,
    pub(crate) k: i32,
    pub(crate) note: String,
    pub(crate) v: i64,
}

impl Asked {
    /// Every row of the table.
    pub(crate) const ALL: Asked = Asked { order: Order::Id, place: Place::Offset(0), limit: 1_000_000 };

    /// The statement that reads the page, in any SQL.
    pub(crate) fn sql(&self) -> String {
        let Asked { order, place, limit } = *self;
        let select = "SELECT id, k, note, (SELECT v FROM version) AS v FROM item";
        let (sorted, reverse) = match order {
            Order::Id => ("id", "id DESC"),
            Order::IdDesc => ("id DESC", "id"),
            Order::K => ("k, id", "k DESC, id DESC"),
            Order::KDesc => ("k DESC, id", "k, id DESC"),
        };
        let beyond = |Key { k, id }, (less, more)| match order {
            Order::Id => format!("id {more} {id}"),
            Order::IdDesc => format!("id {less} {id}"),
            Order::K => format!("(k, id) {more} ({k}, {id})"),
            Order::KDesc => format!("(k {less} {k} OR (k = {k} AND id {more} {id}))"),
        };
        match place {
            Place::Offset(offset) => format!("{select} ORDER BY {sorted} LIMIT {limit} OFFSET {offset}"),
            Place::After(key) => {
                format!("{select} WHERE {} ORDER BY {sorted} LIMIT {limit}", beyond(key, ("<", ">")))
            }
            Place::Before(key) => {
                let filter = beyond(key, (">", "<"));
                let nearest = format!("{select} WHERE {filter} ORDER BY {reverse} LIMIT {limit}");
                format!("SELECT id, k, note, v FROM ({nearest}) AS page ORDER BY {sorted}")
            }
        }
    }
}

impl Table {
    /// Creates the tables `item` and `version`, before the first write.
    pub(crate) async fn create_sqlite(self, pool: &SqlitePool) {
        for sql in self.creation("INTEGER") {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
        }
    }

    /// Creates the tables `item` and `version`, before the first write.
    pub(crate) async fn create_postgres(self, pool: &PgPool) {
        for sql in self.creation("BIGINT") {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
        }
    }

    fn creation(self, id: &str) -> Vec<String> {
        let mut sql = vec![format!(
            "CREATE TABLE item (id {id} PRIMARY KEY, k INTEGER NOT NULL, note TEXT NOT NULL);
             CREATE INDEX item_k_id ON item (k, id);
             CREATE TABLE version (v BIGINT NOT NULL);
             INSERT INTO version VALUES (0)"
        )];
        for items in self.model().page(Asked::ALL).chunks(1_000) {
            let row = |Item { id, k, note }: &Item| format!("({id}, {k}, '{note}')");
            let rows: Vec<_> = items.iter().map(row).collect();
            sql.push(format!("INSERT INTO item (id, k, note) VALUES {}", rows.join(", ")));
        }
        sql
    }
}

/// The sequential path: a page in one statement, hence of one snapshot.
pub(crate) trait Pages {
    fn read(&self, asked: Asked) -> impl Future<Output = Vec<Seen>> + Send;
}

impl Pages for SqlitePool {
    async fn read(&self, asked: Asked) -> Vec<Seen> {
        sqlx::query_as(AssertSqlSafe(asked.sql())).fetch_all(self).await.unwrap()
    }
}

impl Pages for PgPool {
    async fn read(&self, asked: Asked) -> Vec<Seen> {
        sqlx::query_as(AssertSqlSafe(asked.sql())).fetch_all(self).await.unwrap()
    }
}
