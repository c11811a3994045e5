//! Seeding: fills the tables by the rules of [`dataset`] and
//! [`articles`](crate::articles), up to a number of rows. Rows that exist are never touched.
//!
//! Rows are inserted in the order of their ids, in transactions, each user in the same one as
//! its profile. So the highest id says how far an earlier, perhaps interrupted, seeding came.
//! Creating the tables is [`schema`](crate::schema)'s part.

use sqlx::{Pool, QueryBuilder};

use crate::articles::{DEFAULT_ARTICLES, article};
use crate::database::{AppDatabase, Value};
use crate::dataset;
use crate::progress::Progress;

/// Rows of a multi-row `INSERT`. More make the statement longer to parse, fewer cost more round
/// trips; from 200 to 1,000 there is little difference.
const ROWS_PER_STATEMENT: usize = 500;
/// People of a transaction: some 20 ms of work, so that progress is seen and an interrupted
/// seeding loses little.
const PEOPLE_PER_TRANSACTION: i32 = 1_000;
/// Articles of a transaction: about 400 kB.
const ARTICLES_PER_TRANSACTION: i32 = 100;

/// How many rows there are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedPlan {
    /// Users, each with a profile. Default: 10,000.
    pub users: u32,
    /// Articles. Default: 2,000.
    pub articles: u32,
}

impl Default for SeedPlan {
    fn default() -> Self {
        Self { users: 10_000, articles: DEFAULT_ARTICLES }
    }
}

/// What a seeding found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedReport {
    /// The users; their profiles count with them.
    pub users: Seeded,
    /// The articles.
    pub articles: Seeded,
}

/// What a seeding found and did for one kind of row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeded {
    /// How many were asked for.
    pub wanted: u32,
    /// How many were there before: the highest id.
    pub already_there: u32,
    /// How many were inserted.
    pub inserted: u32,
}

impl Seeded {
    /// Rows beyond those asked for. They were left as they are.
    #[must_use]
    pub const fn surplus(&self) -> u32 {
        self.already_there.saturating_sub(self.wanted)
    }
}

/// A seeding that failed. Transactions that were committed before stay, and the next seeding
/// goes on after them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeedError {
    /// More rows than ids.
    #[error("cannot seed {rows} {what}: ids are 32-bit, so at most {}", i32::MAX)]
    TooMany {
        /// The kind of row.
        what: &'static str,
        /// How many were asked for.
        rows: u32,
    },
    /// No connection could be had.
    #[error("no connection to seed with")]
    Connect(#[source] sqlx::Error),
    /// The highest id could not be read, as when the tables do not exist.
    #[error("cannot see how many {what} there are")]
    Count {
        /// The kind of row.
        what: &'static str,
        /// The database's error.
        source: sqlx::Error,
    },
    /// A transaction failed, as when two programs seed at once.
    #[error("cannot insert the {what} {first} to {last}")]
    Insert {
        /// The kind of row.
        what: &'static str,
        /// The first id of the transaction.
        first: i32,
        /// The last id of the transaction.
        last: i32,
        /// The database's error.
        source: sqlx::Error,
    },
    /// The planner's statistics could not be refreshed; the rows are there.
    #[error("cannot analyze the tables")]
    Analyze(#[source] sqlx::Error),
}

/// Inserts what is missing of `plan`, and tells `progress`.
///
/// On SQLite 10,000 users and 2,000 articles take about a second. When something was inserted,
/// the planner's statistics are refreshed at the end. A cancelled call leaves whole
/// transactions only, and another one goes on after them. Two calls at once on one database
/// exclude each other: one of them fails, by a duplicate key or a lock, and may be repeated.
///
/// # Errors
/// See [`SeedError`]; the tables must exist.
pub async fn seed<DB: AppDatabase>(
    pool: &Pool<DB>,
    plan: SeedPlan,
    progress: &mut dyn Progress,
) -> Result<SeedReport, SeedError> {
    let mut conn = pool.acquire().await.map_err(SeedError::Connect)?;
    let report = SeedReport {
        users: fill::<DB, People>(&mut conn, plan.users, progress).await?,
        articles: fill::<DB, Articles>(&mut conn, plan.articles, progress).await?,
    };
    if report.users.inserted + report.articles.inserted > 0 {
        DB::run(&mut conn, DB::ANALYZE).await.map_err(SeedError::Analyze)?;
    }
    Ok(report)
}

/// A kind of row that can be seeded.
trait Kind {
    const WHAT: &'static str;
    const HIGHEST_ID: &'static str;
    const PER_TRANSACTION: i32;

    /// The statements that insert the rows `first` to `last`.
    fn inserts<DB: AppDatabase>(first: i32, last: i32) -> Vec<QueryBuilder<DB>>;
}

async fn fill<DB: AppDatabase, K: Kind>(
    conn: &mut DB::Connection,
    wanted: u32,
    progress: &mut dyn Progress,
) -> Result<Seeded, SeedError> {
    let what = K::WHAT;
    let last_wanted = i32::try_from(wanted).map_err(|_| SeedError::TooMany { what, rows: wanted })?;
    let highest = DB::integer(conn, K::HIGHEST_ID)
        .await
        .map_err(|source| SeedError::Count { what, source })?
        .unwrap_or(0)
        .max(0);
    if highest < last_wanted {
        progress.begin(what, u64::from(highest.cast_unsigned()), u64::from(wanted));
        let mut before = highest;
        while before < last_wanted {
            let (first, last) = (before + 1, last_wanted.min(before.saturating_add(K::PER_TRANSACTION)));
            transaction::<DB>(conn, K::inserts(first, last)).await.map_err(|source| SeedError::Insert {
                what,
                first,
                last,
                source,
            })?;
            progress.advance(u64::from((last - before).cast_unsigned()));
            before = last;
        }
        progress.end();
    }
    let already_there = highest.cast_unsigned();
    Ok(Seeded { wanted, already_there, inserted: wanted.saturating_sub(already_there) })
}

async fn transaction<DB: AppDatabase>(
    conn: &mut DB::Connection,
    statements: Vec<QueryBuilder<DB>>,
) -> Result<(), sqlx::Error> {
    let mut transaction = sqlx::Connection::begin(conn).await?;
    for statement in statements {
        DB::execute(&mut transaction, statement).await?;
    }
    transaction.commit().await
}

struct People;

impl Kind for People {
    const WHAT: &'static str = "users";
    const HIGHEST_ID: &'static str = "SELECT MAX(id) FROM people_user";
    const PER_TRANSACTION: i32 = PEOPLE_PER_TRANSACTION;

    fn inserts<DB: AppDatabase>(first: i32, last: i32) -> Vec<QueryBuilder<DB>> {
        let users: Vec<_> = (first..=last).map(dataset::user).collect();
        let profiles: Vec<_> = users.iter().map(dataset::profile_of).collect();
        let mut statements = insert(
            "INSERT INTO people_user (id, username, first_name, last_name, email, is_active, \
             is_staff, date_joined) ",
            &users,
            |user| {
                [
                    Value::Integer(user.id),
                    Value::Text(&user.username),
                    Value::Text(user.first_name),
                    Value::Text(user.last_name),
                    Value::Text(&user.email),
                    Value::Boolean(user.is_active),
                    Value::Boolean(user.is_staff),
                    Value::Timestamp(user.date_joined),
                ]
            },
        );
        statements.extend(insert(
            "INSERT INTO people_profile (id, user_id, location, birth_date, karma, website, bio) ",
            &profiles,
            |profile| {
                [
                    Value::Integer(profile.id),
                    Value::Integer(profile.user_id),
                    Value::Text(profile.location),
                    Value::Date(profile.birth_date),
                    Value::Integer(profile.karma),
                    Value::Text(&profile.website),
                    Value::Text(&profile.bio),
                ]
            },
        ));
        statements
    }
}

struct Articles;

impl Kind for Articles {
    const WHAT: &'static str = "articles";
    const HIGHEST_ID: &'static str = "SELECT MAX(id) FROM articles_article";
    const PER_TRANSACTION: i32 = ARTICLES_PER_TRANSACTION;

    fn inserts<DB: AppDatabase>(first: i32, last: i32) -> Vec<QueryBuilder<DB>> {
        let articles: Vec<_> = (first..=last).map(article).collect();
        insert(
            "INSERT INTO articles_article (id, slug, title, author_id, published_at, body) ",
            &articles,
            |article| {
                [
                    Value::Integer(article.id),
                    Value::Text(&article.slug),
                    Value::Text(&article.title),
                    Value::Integer(article.author_id),
                    Value::Timestamp(article.published_at),
                    Value::Text(&article.body),
                ]
            },
        )
    }
}

/// Multi-row inserts of `rows` under the database's limit of bound values.
fn insert<'a, DB: AppDatabase, T, const COLUMNS: usize>(
    into: &'static str,
    rows: &'a [T],
    values: impl Fn(&'a T) -> [Value<'a>; COLUMNS],
) -> Vec<QueryBuilder<DB>> {
    let size = ROWS_PER_STATEMENT.min(DB::BIND_LIMIT / COLUMNS);
    rows.chunks(size)
        .map(|rows| {
            let mut statement = QueryBuilder::new(into);
            statement.push_values(rows, |mut row, item| {
                for value in values(item) {
                    DB::push_value(&mut row, value);
                }
            });
            statement
        })
        .collect()
}
