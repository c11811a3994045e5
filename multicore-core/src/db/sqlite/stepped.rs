//! SQLite with statements that are stepped where their rows are used: rows of either kind, and the hand on a
//! connection as lists use it.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Sqlite};

use crate::db::direct::{DirectRow, Hand, Stepped};
use crate::db::{ListRow, Next, Stepping};
use crate::list::cursor::KeyValue;

/// Takes a snapshot: a transaction has none before its first read.
const BEGIN: &std::ffi::CStr = c"BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1";

/// A row of sqlx's driver, or one that was read where it is used.
#[doc(hidden)]
#[derive(Debug)]
pub enum Item {
    Driver(SqliteRow),
    Direct(DirectRow),
}

#[diagnostic::do_not_recommend]
impl<R> ListRow<Sqlite> for R
where
    R: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, DirectRow> + 'static,
{
    fn from_item(item: &Item) -> Result<Self, sqlx::Error> {
        match item {
            Item::Driver(row) => R::from_row(row),
            Item::Direct(row) => R::from_row(row),
        }
    }
}

impl Stepping<Item> for Hand<'_> {
    fn limit_steps(&mut self, thousands: u32) {
        Hand::limit_steps(self, thousands);
    }

    fn keep_snapshot(&mut self) -> Result<(), sqlx::Error> {
        Hand::keep_snapshot(self)
    }

    fn begin(&mut self) -> Result<(), sqlx::Error> {
        if Hand::in_transaction(self) {
            // Somebody else's, which is not ours to end.
            return Err(sqlx::Error::InvalidSavePointStatement);
        }
        let begun = self.run(BEGIN);
        if begun.is_err() && Hand::in_transaction(self) {
            // Should that fail as well, whoever looks after the connection will find it out.
            let _failed = self.run(c"ROLLBACK");
        }
        begun
    }

    fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.close();
        self.run(c"COMMIT")
    }

    fn prepare(&mut self, sql: &str, values: &[KeyValue]) -> Result<bool, sqlx::Error> {
        Hand::prepare(self, sql, values)
    }

    fn step_ahead(&mut self) {
        Hand::step_ahead(self);
    }

    fn next(&mut self) -> Result<Next<Item>, sqlx::Error> {
        Ok(match self.step()? {
            Stepped::Row => Next::Row(Item::Direct(self.row()?)),
            Stepped::End => Next::End,
            Stepped::Stalled => Next::Stalled,
        })
    }

    fn next_into(&mut self, row: &mut Option<Item>) -> Result<Next<()>, sqlx::Error> {
        Ok(match self.step()? {
            Stepped::Row => {
                match row {
                    Some(Item::Direct(row)) => self.read(row)?,
                    _ => *row = Some(Item::Direct(self.row()?)),
                }
                Next::Row(())
            }
            Stepped::End => Next::End,
            Stepped::Stalled => Next::Stalled,
        })
    }

    fn close(&mut self) {
        Hand::close(self);
    }
}

/// What `SqlDatabase` says of it.
macro_rules! stepped_here {
    () => {
        const STEPS: bool = true;

        type Hand<'c> = super::direct::Hand<'c>;

        async fn hand(
            connection: &mut SqliteConnection,
        ) -> Result<Option<super::direct::Hand<'_>>, sqlx::Error> {
            super::direct::Hand::on(connection).await
        }

        async fn values(
            connection: &mut SqliteConnection,
            arguments: &sqlx::sqlite::SqliteArguments,
        ) -> Result<Vec<KeyValue>, sqlx::Error> {
            // Only sqlx can look into its arguments; so SQLite is asked what they are.
            let places: Vec<String> =
                (1..=sqlx::Arguments::len(arguments)).map(|number| format!("?{number}")).collect();
            if places.is_empty() {
                return Ok(Vec::new());
            }
            let sql = AssertSqlSafe(format!("SELECT {}", places.join(", ")));
            let row = sqlx::query_with(sql, arguments.clone()).fetch_one(connection).await?;
            let values = (0..row.len()).map(|index| Self::key(&row, index).map_err(sqlx::Error::Decode));
            values.collect()
        }

        fn version(sentinel: &super::direct::Sentinel) -> Option<i64> {
            sentinel.version()
        }

        async fn watch(sentinel: &super::direct::Sentinel, pool: &SqlitePool) -> Result<(), BoxError> {
            if !sentinel.is_open() {
                sentinel.open(Self::connect(pool).await?).await;
            }
            Ok(())
        }

        fn item(row: sqlx::sqlite::SqliteRow) -> stepped::Item {
            stepped::Item::Driver(row)
        }

        fn driver_row(item: &stepped::Item) -> Option<&sqlx::sqlite::SqliteRow> {
            match item {
                stepped::Item::Driver(row) => Some(row),
                stepped::Item::Direct(_) => None,
            }
        }

        fn width(item: &stepped::Item) -> usize {
            match item {
                stepped::Item::Driver(row) => row.len(),
                stepped::Item::Direct(row) => row.width(),
            }
        }

        fn item_key(item: &stepped::Item, index: usize) -> Result<KeyValue, BoxError> {
            match item {
                stepped::Item::Driver(row) => Self::key(row, index),
                stepped::Item::Direct(row) => Ok(row.key(index)?),
            }
        }
    };
}

pub(super) use stepped_here;
