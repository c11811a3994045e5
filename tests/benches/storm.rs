//! Clients that leave in the middle of a page: how long until their backends are idle again, whether a
//! cancel ever meets another statement, and whether a connection is lost. A thousand clients one at a time,
//! and a thousand in waves of four, over a pool of four connections on PostgreSQL. Run with
//! `cargo bench -p multicore-tests --bench storm`.

use std::time::{Duration, Instant};

use multicore_core::{ListQuery, Multicore, Page, asc};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Postgres};
use tokio::runtime::Runtime;

const CLIENTS: usize = 1_000;
const CONNECTIONS: usize = 4;

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(storm());
}

async fn storm() {
    let url = std::env::var("MULTICORE_TEST_POSTGRES_URL");
    let url = url.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
    let options: PgConnectOptions = url.parse().expect("a PostgreSQL URL");
    let Ok(mut admin) = PgConnection::connect_with(&options).await else {
        println!("SKIPPED: no PostgreSQL (MULTICORE_TEST_POSTGRES_URL)");
        return;
    };
    let name = format!("multicore_storm_{}", std::process::id());
    admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a database");
    let options = options.database(&name);
    let mut look = PgConnection::connect_with(&options).await.expect("a connection");
    look.execute("CREATE TABLE number (id bigint PRIMARY KEY)").await.expect("a table");
    look.execute("INSERT INTO number SELECT generate_series(1, 10000)").await.expect("rows");
    look.execute("ANALYZE number").await.expect("statistics");

    let pool = PgPoolOptions::new().max_connections(CONNECTIONS as u32);
    let pool = pool.connect_lazy_with(options.application_name("storm"));
    let mc = Multicore::<Postgres>::builder().pool(pool.clone()).start().await.expect("a pool");
    for at_once in [1, CONNECTIONS] {
        waves(&mc, &mut look, at_once).await;
    }
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'storm'";
    let backends: i64 = sqlx::query_scalar(sql).fetch_one(&mut look).await.expect("a count");
    let workers = mc.stats().workers;
    println!("backends: {backends} of {} ({CONNECTIONS} + {workers} workers + 1)", CONNECTIONS + workers + 1);
    mc.shutdown(Duration::from_secs(5)).await;
    pool.close().await;
    look.close().await.expect("closed");
    admin.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.expect("dropped");
}

/// Lets clients leave, so many at once, and tells how long their backends go on.
async fn waves(mc: &Multicore<Postgres>, look: &mut PgConnection, at_once: usize) {
    let mut times = Vec::new();
    let mut stray = 0;
    for _ in 0..CLIENTS / at_once {
        let clients: Vec<_> = (0..at_once).map(|_| tokio::spawn(endless(mc.clone()))).collect();
        while active(look).await < at_once as i64 {}
        let left = Instant::now();
        clients.iter().for_each(|client| client.abort());
        // Each statement holds its lock of the table to its end. Asking whether they have ended again and again
        // would take a core from those who are to end them.
        let wait = sqlx::raw_sql("BEGIN; LOCK TABLE number IN ACCESS EXCLUSIVE MODE; COMMIT");
        look.execute(wait).await.expect("a lock");
        while active(look).await > 0 {}
        times.push(left.elapsed());
        for client in clients {
            let _aborted = client.await;
        }
        // Whoever comes next is not cancelled in their place.
        for _ in 0..CONNECTIONS {
            let query = ListQuery::<(i64,)>::select("id").from("number").order_by([asc("id")]);
            stray += usize::from(mc.list(query, Page { limit: 10, offset: 0 }, |row| row).await.is_err());
        }
    }
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1e3;
    println!(
        "{CLIENTS} clients left, {at_once} at once: backends idle again after p50 {:.2} ms, p99 {:.2} ms, at most \
         {:.2} ms; lists that a cancel met in another's place: {stray}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    assert_eq!(stray, 0);
}

/// A list over a hundred million pairs, none of which is in it.
async fn endless(mc: Multicore<Postgres>) {
    let query = ListQuery::<(i64,)>::select("a.id")
        .from("number a CROSS JOIN number b")
        .filter(|q| {
            q.push("a.id + b.id < 0");
        })
        .order_by([asc("a.id"), asc("b.id")]);
    let _left = mc.list(query, Page { limit: 10, offset: 0 }, |row| row).await;
}

/// How many of the application's backends are at work.
async fn active(look: &mut PgConnection) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'storm' AND state = 'active' \
               AND query LIKE 'SELECT a.id%'";
    sqlx::query_scalar(sql).fetch_one(look).await.expect("a count")
}
