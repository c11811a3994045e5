//! The contestants' common ground: one router over one seeded database, with the plain handler and
//! ours for the same rows and the same rendering.

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use example_app::progress::Quiet;
use example_app::render_cost::render_us;
use example_app::seed::{SeedPlan, seed};
use example_app::users::{USER_COLUMNS, USER_TABLES, UserRow, UserView};
use multicore_axum::{
    Config, Execution, LimitOffset, ListError, ListQuery, Listing, Multicore, MulticoreLayer, asc, ranges,
};
use serde::Deserialize;
use sqlx::{AssertSqlSafe, Postgres, Sqlite};
use tokio::task::JoinSet;

use crate::databases::{self, PostgresDatabase};

/// Rows of the common data set.
const PEOPLE: u32 = 10_000;

/// A router over a seeded database, and what goes with it at the end.
pub(crate) struct Served {
    pub(crate) router: Router,
    /// The folder of the SQLite file.
    _folder: Option<tempfile::TempDir>,
    database: Option<PostgresDatabase>,
}

#[derive(Clone, Copy, Deserialize)]
struct Cost {
    #[serde(default)]
    render_us: u64,
}

#[derive(Clone, Copy, Deserialize)]
struct Plain {
    limit: i64,
    #[serde(default)]
    offset: i64,
    #[serde(default)]
    render_us: u64,
}

/// What a row becomes, for every contestant.
fn render(row: UserRow, us: u64) -> UserView {
    render_us(us);
    UserView::from(row)
}

/// The routes over one database: `/plain` as one would write it without this library, `/ours`,
/// `/sequential` (ours forced onto one core), and two neighbours: `/light` has next to nothing to do, and
/// `/asks` asks the database for that.
macro_rules! routes {
    ($database:ty, $pool:expr, $placeholders:literal) => {{
        async fn list(
            mc: Multicore<$database>,
            page: LimitOffset,
            cost: Cost,
            execution: Execution,
        ) -> Result<Listing, ListError> {
            let query = ListQuery::<UserRow>::select(USER_COLUMNS)
                .from(USER_TABLES)
                .order_by([asc("u.id")])
                .execution(execution);
            mc.parallel_list(query, page, move |row| render(row, cost.render_us)).await
        }
        let pool: sqlx::Pool<$database> = $pool;
        let config = Config::default().max_limit(u64::from(PEOPLE));
        let multicore = MulticoreLayer::<$database>::builder().config(config).pool(pool.clone());
        let multicore = multicore.start().await.expect("a pool");
        Router::new()
            .route(
                "/plain",
                get(|State(pool): State<sqlx::Pool<$database>>, Query(page): Query<Plain>| async move {
                    let sql = format!(
                        "SELECT {USER_COLUMNS} FROM {USER_TABLES} ORDER BY u.id ASC {}",
                        $placeholders
                    );
                    let rows: Vec<UserRow> = sqlx::query_as(AssertSqlSafe(sql))
                        .bind(page.limit)
                        .bind(page.offset)
                        .fetch_all(&pool)
                        .await
                        .expect("rows");
                    Json(rows.into_iter().map(|row| render(row, page.render_us)).collect::<Vec<_>>())
                }),
            )
            .route(
                "/joinset",
                get(|State(pool): State<sqlx::Pool<$database>>, Query(page): Query<Plain>| async move {
                    // As one would write it by hand: a range a core, each on a connection of its own.
                    let mut parts = JoinSet::new();
                    for (index, range) in ranges(page.limit as u64, 2, 0).into_iter().enumerate() {
                        let pool = pool.clone();
                        parts.spawn(async move {
                            let sql = format!(
                                "SELECT {USER_COLUMNS} FROM {USER_TABLES} ORDER BY u.id ASC {}",
                                $placeholders
                            );
                            let rows: Vec<UserRow> = sqlx::query_as(AssertSqlSafe(sql))
                                .bind((range.end - range.start) as i64)
                                .bind(page.offset + range.start as i64)
                                .fetch_all(&pool)
                                .await
                                .expect("rows");
                            let views = rows.into_iter().map(|row| render(row, page.render_us));
                            (index, views.collect::<Vec<_>>())
                        });
                    }
                    let mut parts = parts.join_all().await;
                    parts.sort_unstable_by_key(|(index, _)| *index);
                    Json(parts.into_iter().flat_map(|(_, views)| views).collect::<Vec<_>>())
                }),
            )
            .route(
                "/ours",
                get(|mc: Multicore<$database>, page: LimitOffset, Query(cost): Query<Cost>| {
                    list(mc, page, cost, Execution::Auto)
                }),
            )
            .route(
                "/sequential",
                get(|mc: Multicore<$database>, page: LimitOffset, Query(cost): Query<Cost>| {
                    list(mc, page, cost, Execution::Sequential)
                }),
            )
            .route("/light", get(async || "ok"))
            .route(
                "/asks",
                get(|State(pool): State<sqlx::Pool<$database>>| async move {
                    sqlx::query("SELECT 1").execute(&pool).await.expect("an answer");
                    "ok"
                }),
            )
            .layer(multicore)
            .with_state(pool)
    }};
}

/// The routes over a new SQLite file.
pub(crate) async fn sqlite() -> Served {
    let (folder, pool) = databases::sqlite().await;
    fill(&pool).await;
    Served { router: routes!(Sqlite, pool, "LIMIT ? OFFSET ?"), _folder: Some(folder), database: None }
}

/// The routes over a new PostgreSQL database, if there is a server.
pub(crate) async fn postgres() -> Option<Served> {
    let database = PostgresDatabase::new().await?;
    fill(&database.pool).await;
    let router = routes!(Postgres, database.pool.clone(), "LIMIT $1 OFFSET $2");
    Some(Served { router, _folder: None, database: Some(database) })
}

async fn fill<DB: example_app::database::AppDatabase>(pool: &sqlx::Pool<DB>) {
    DB::migrate(pool).await.expect("tables");
    let plan = SeedPlan { users: PEOPLE, articles: 0 };
    seed(pool, plan, &mut Quiet).await.expect("rows");
}

impl Served {
    /// Drops the database.
    pub(crate) async fn clean_up(self) {
        drop(self.router);
        if let Some(database) = self.database {
            database.clean_up().await;
        }
    }
}
