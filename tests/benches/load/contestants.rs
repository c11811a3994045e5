//! The servers: the same list five ways, a light neighbour, and how far rendering has come. Each is
//! what one would write; all use the same rows, view and pool size.

use std::io::{Read, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use example_app::render_cost::render_us;
use example_app::users::{USER_COLUMNS, USER_TABLES, UserRow, UserView};
use multicore_axum::{
    Config, LimitOffset, ListError, ListQuery, Listing, Multicore, MulticoreLayer, asc, ranges,
};
use rayon::prelude::*;
use serde::Deserialize;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Sqlite, SqlitePool};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, spawn_blocking};

use crate::plan::Contestant;

/// Rows of the common data set.
pub(crate) const PEOPLE: u32 = 10_000;
/// Connections of a server's pool.
const CONNECTIONS: u32 = 10;

/// Rows that were rendered at a cost.
static RENDERED: AtomicU64 = AtomicU64::new(0);
static STARTED: OnceLock<Instant> = OnceLock::new();

#[derive(Clone, Copy, Deserialize)]
struct Ask {
    limit: u64,
    render_us: u64,
    sorted: bool,
}

impl Ask {
    const fn order(self) -> &'static str {
        if self.sorted { "p.location ASC, u.id ASC" } else { "u.id ASC" }
    }
}

/// What a row becomes, for every contestant.
fn render(row: UserRow, us: u64) -> UserView {
    if us > 0 {
        render_us(us);
        // Some nanoseconds beside many microseconds, the same for all.
        RENDERED.fetch_add(1, Ordering::Relaxed);
    }
    UserView::from(row)
}

fn json(bytes: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], bytes).into_response()
}

fn encode(views: &[UserView]) -> Vec<u8> {
    serde_json::to_vec(views).expect("JSON")
}

/// The handlers over one database, in the terms of that database.
macro_rules! contestant {
    ($database:ty, $placeholders:literal, $which:expr, $pool:expr) => {{
        type Pool = sqlx::Pool<$database>;

        async fn rows(pool: &Pool, ask: Ask, limit: u64, offset: u64) -> Vec<UserRow> {
            let order = ask.order();
            let sql = format!("SELECT {USER_COLUMNS} FROM {USER_TABLES} ORDER BY {order} {}", $placeholders);
            let query = sqlx::query_as(AssertSqlSafe(sql)).bind(limit as i64).bind(offset as i64);
            query.fetch_all(pool).await.expect("rows")
        }

        async fn plain(State(pool): State<Pool>, Query(ask): Query<Ask>) -> Json<Vec<UserView>> {
            let rows = rows(&pool, ask, ask.limit, 0).await;
            Json(rows.into_iter().map(|row| render(row, ask.render_us)).collect())
        }

        async fn rayon(State(pool): State<Pool>, Query(ask): Query<Ask>) -> Response {
            let rows = rows(&pool, ask, ask.limit, 0).await;
            let (answer, answered) = oneshot::channel();
            rayon::spawn(move || {
                let views: Vec<UserView> =
                    rows.into_par_iter().map(|row| render(row, ask.render_us)).collect();
                // Fails when the client has left.
                let _ = answer.send(encode(&views));
            });
            json(answered.await.expect("rendered"))
        }

        async fn blocking(State(pool): State<Pool>, Query(ask): Query<Ask>) -> Response {
            let rows = rows(&pool, ask, ask.limit, 0).await;
            let views = spawn_blocking(move || {
                let views: Vec<UserView> = rows.into_iter().map(|row| render(row, ask.render_us)).collect();
                encode(&views)
            });
            json(views.await.expect("rendered"))
        }

        // A range a core, each on a connection of its own.
        async fn join_set(State(pool): State<Pool>, Query(ask): Query<Ask>) -> Json<Vec<UserView>> {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let mut parts = JoinSet::new();
            for (index, range) in ranges(ask.limit, cores, 0).into_iter().enumerate() {
                let pool = pool.clone();
                parts.spawn(async move {
                    let rows = rows(&pool, ask, range.end - range.start, range.start).await;
                    let views = rows.into_iter().map(|row| render(row, ask.render_us));
                    (index, views.collect::<Vec<_>>())
                });
            }
            let mut parts = parts.join_all().await;
            parts.sort_unstable_by_key(|(index, _)| *index);
            Json(parts.into_iter().flat_map(|(_, views)| views).collect())
        }

        async fn ours(
            mc: Multicore<$database>,
            page: LimitOffset,
            Query(ask): Query<Ask>,
        ) -> Result<Listing, ListError> {
            let query = ListQuery::<UserRow>::select(USER_COLUMNS).from(USER_TABLES);
            let query = if ask.sorted {
                query.order_by([asc("p.location"), asc("u.id")])
            } else {
                query.order_by([asc("u.id")])
            };
            mc.parallel_list(query, page, move |row| render(row, ask.render_us)).await
        }

        let pool: Pool = $pool;
        let list = match $which {
            Contestant::Plain => get(plain),
            Contestant::Rayon => get(rayon),
            Contestant::SpawnBlocking => get(blocking),
            Contestant::JoinSet => get(join_set),
            Contestant::Multicore => get(ours),
        };
        let router = Router::new().route("/list", list).route("/light", get(async || "ok"));
        let router = if $which == Contestant::Multicore {
            let config = Config::default().max_limit(u64::from(PEOPLE));
            let multicore = MulticoreLayer::<$database>::builder().config(config).pool(pool.clone());
            router.layer(multicore.start().await.expect("workers"))
        } else {
            router
        };
        router.with_state(pool)
    }};
}

/// Serves until the standard input ends, which it does with the process that holds its other end.
pub(crate) fn serve(contestant: &str, url: &str) {
    let which = Contestant::ALL.into_iter().find(|known| known.name() == contestant).expect("a contestant");
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    STARTED.get_or_init(Instant::now);
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let router = if url.starts_with("sqlite:") {
            contestant!(Sqlite, "LIMIT ? OFFSET ?", which, sqlite(url).await)
        } else {
            contestant!(Postgres, "LIMIT $1 OFFSET $2", which, postgres(url).await)
        };
        let router = router.route("/progress", get(progress));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        let _ = std::io::stdout().flush();
        // Its sockets as they are where nobody set an option.
        axum::serve(listener, router).await.expect("it serves");
    });
}

async fn sqlite(url: &str) -> SqlitePool {
    let options: SqliteConnectOptions = url.parse().expect("a file");
    let options = options.journal_mode(SqliteJournalMode::Wal);
    SqlitePoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await.expect("a database")
}

async fn postgres(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await.expect("a database")
}

/// Rows and seconds, read at the same moment.
async fn progress() -> String {
    let seconds = STARTED.get_or_init(Instant::now).elapsed().as_secs_f64();
    format!("{} {seconds}", RENDERED.load(Ordering::Relaxed))
}
