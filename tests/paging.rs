//! Lists that cannot be read, and whose mistake that is: the program's, which is a 500 and is logged, or
//! the client's, which is a 400 and is not. Neither is told what the database said. And how many rows a
//! list has.

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use multicore_axum::{
    AnyPage, Config, Format, LimitOffset, ListQuery, ListRow, Multicore, MulticoreLayer, PageNumber,
    SqlDatabase, asc, desc,
};
use serde_json::Value;
use sqlx::{Encode, Executor, IntoArguments, MySql, Pool, Postgres, Sqlite, Type};

use crate::client::ask;
use crate::databases::{sqlite, with_mysql, with_postgres};
use crate::logs::Errors;
use crate::support::{PLENTY, unique};

type Id = (i64,);

/// A hundred people of four names, of whom some have a nickname.
async fn hundred<DB>(pool: &Pool<DB>)
where
    DB: SqlDatabase,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c Pool<DB>: Executor<'c, Database = DB>,
{
    let table = "CREATE TABLE person (id bigint NOT NULL PRIMARY KEY, name varchar(50) NOT NULL,
                 nick varchar(50))";
    sqlx::raw_sql(table).execute(pool).await.unwrap();
    let row = |id: u32| {
        let nick = if id.is_multiple_of(3) { "NULL".to_owned() } else { format!("'n{}'", id % 10) };
        format!("({id}, 'name {}', {nick})", id % 4)
    };
    let rows: Vec<_> = (1..=100).map(row).collect();
    let rows = format!("INSERT INTO person VALUES {}", rows.join(", "));
    sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(pool).await.unwrap();
}

async fn layer<DB: SqlDatabase>(pool: Pool<DB>, config: Config) -> MulticoreLayer<DB> {
    let builder = MulticoreLayer::<DB>::builder().config(config.workers(1)).pool(pool).cores(PLENTY);
    builder.name(unique()).load_source(|| None).start().await.unwrap()
}

/// Lists of a name each, by any kind of page and as exports.
async fn lists<DB>(pool: Pool<DB>, query: fn(&str) -> ListQuery<Id, DB>) -> Router
where
    DB: SqlDatabase,
    Id: ListRow<DB>,
{
    let list = async move |mc: Multicore<DB>, Path(name): Path<String>, page: AnyPage| {
        Ok::<_, multicore_axum::ListError>(mc.parallel_list(query(&name), page, |(id,)| id).await?.envelope())
    };
    let numbered = async move |mc: Multicore<DB>, Path(name): Path<String>, page: PageNumber| {
        mc.parallel_list(query(&name), page, |(id,)| id).await
    };
    let by_offset = async move |mc: Multicore<DB>, Path(name): Path<String>, page: LimitOffset| {
        mc.parallel_list(query(&name), page, |(id,)| id).await
    };
    let export = async move |mc: Multicore<DB>, Path(name): Path<String>| {
        mc.parallel_stream(query(&name), |(id,)| id, Format::Ndjson).await
    };
    Router::new()
        .route("/list/{name}", get(list))
        .route("/numbered/{name}", get(numbered))
        .route("/offset/{name}", get(by_offset))
        .route("/export/{name}", get(export))
        .layer(layer(pool, Config::default()).await)
}

fn persons<DB: SqlDatabase>() -> ListQuery<Id, DB>
where
    Id: ListRow<DB>,
{
    ListQuery::<Id>::select("id").from("person")
}

const ORDER: (&str, &str) = ("order", "the list's order is not one that pages can be cut from");
const QUERY: (&str, &str) = ("query", "the list's query cannot be run");

/// The program's mistakes, and what clients are told of them.
const MISTAKES: [(&str, (&str, &str)); 8] = [
    ("nullable", ORDER),
    ("nullable-last", ORDER),
    ("repeated", ORDER),
    ("unknown-key", ORDER),
    ("unknown-table", QUERY),
    ("unknown-table-unique", QUERY),
    ("unknown-column", QUERY),
    ("not-sql", QUERY),
];

fn mistaken<DB: SqlDatabase>(name: &str) -> ListQuery<Id, DB>
where
    Id: ListRow<DB>,
{
    match name {
        "nullable" => persons().order_by([asc("nick"), asc("id")]),
        "nullable-last" => persons().order_by([desc("id"), asc("nick")]),
        "repeated" => persons().order_by([asc("name")]),
        "unknown-key" => persons().order_by([asc("wage"), asc("id")]),
        "unknown-table" => ListQuery::<Id>::select("id").from("nobody").order_by([asc("id")]),
        "unknown-table-unique" => ListQuery::<Id>::select("id").from("nobody").order_by([asc("id").unique()]),
        "unknown-column" => ListQuery::<Id>::select("wage").from("person").order_by([asc("id")]),
        "not-sql" => ListQuery::<Id>::select("id FROM WHERE").from("person").order_by([asc("id")]),
        other => panic!("{other}"),
    }
}

async fn mistakes_are_the_programs<DB>(pool: Pool<DB>, errors: Errors)
where
    DB: SqlDatabase,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c Pool<DB>: Executor<'c, Database = DB>,
    Id: ListRow<DB>,
{
    hundred(&pool).await;
    let app = lists(pool, mistaken).await;
    for (name, (code, detail)) in MISTAKES {
        // Twice, since much is remembered of a query.
        for uri in ["list/{}?limit=5", "list/{}?offset=0", "export/{}", "list/{}?limit=5"] {
            let uri = format!("/{}", uri.replace("{}", name));
            let answer = ask(&app, &uri).await;
            // All the client is told, so nothing of the database's.
            assert_eq!(answer.problem(500), (code.to_owned(), detail.to_owned()), "{uri}");
            assert_eq!(answer.json().as_object().unwrap().len(), 5, "{uri}");
            let logged = errors.take();
            assert_eq!(logged.len(), 1, "{uri}: {logged:?}");
            assert!(logged[0].contains(&format!("code=\"{code}\"")), "{uri}: {logged:?}");
        }
    }
}

#[tokio::test]
async fn an_order_or_a_query_that_does_not_hold_is_the_programs_mistake_on_sqlite() {
    let (errors, _guard) = Errors::of_this_thread();
    let (_folder, pool) = sqlite().await;
    mistakes_are_the_programs(pool, errors).await;
}

#[tokio::test]
async fn an_order_or_a_query_that_does_not_hold_is_the_programs_mistake_on_postgres() {
    let (errors, _guard) = Errors::of_this_thread();
    with_postgres(|pool| mistakes_are_the_programs(pool, errors)).await;
}

#[tokio::test]
async fn an_order_or_a_query_that_does_not_hold_is_the_programs_mistake_on_mysql() {
    let (errors, _guard) = Errors::of_this_thread();
    with_mysql(|pool| mistakes_are_the_programs(pool, errors)).await;
}

// What a client sends for a filter.

fn sqlite_filters(name: &str) -> ListQuery<Id, Sqlite> {
    let query = persons().order_by([asc("id")]);
    match name {
        "at-once" => query.filter(|q| {
            q.push("abs(").push_bind(i64::MIN).push(") > 0");
        }),
        "as-text" => query.filter(|q| {
            q.push("json_extract(").push_bind("{").push(", '$') IS NULL");
        }),
        "late" => query.filter(|q| {
            q.push("abs(CASE WHEN id = 50 THEN ").push_bind(i64::MIN).push(" END) IS NULL");
        }),
        // Of several rows, SQLite takes the first.
        "two-rows" => sqlite_filters("late"),
        "late-counted" => sqlite_filters("late").with_count(),
        other => panic!("{other}"),
    }
}

fn postgres_filters(name: &str) -> ListQuery<Id, Postgres> {
    let query = persons().order_by([asc("id")]);
    match name {
        "at-once" => query.filter(|q| {
            q.push("id < 1 / ").push_bind(0_i32);
        }),
        "as-text" => query.filter(|q| {
            q.push("id < ").push_bind("abc").push("::text::int");
        }),
        "late" => query.filter(|q| {
            q.push("100 / (id - ").push_bind(50_i64).push(") < 200");
        }),
        "two-rows" => query.filter(|q| {
            q.push("id > (SELECT id FROM person WHERE id <= ").push_bind(2_i64).push(")");
        }),
        "late-counted" => postgres_filters("late").with_count(),
        other => panic!("{other}"),
    }
}

fn mysql_filters(name: &str) -> ListQuery<Id, MySql> {
    let query = persons().order_by([asc("id")]);
    match name {
        "at-once" => query.filter(|q| {
            q.push("id + ").push_bind(i64::MAX).push(" > 0");
        }),
        "as-text" => query.filter(|q| {
            q.push("name REGEXP ").push_bind("(");
        }),
        "late" => query.filter(|q| {
            q.push("id + ").push_bind(i64::MAX - 49).push(" > 0");
        }),
        "two-rows" => query.filter(|q| {
            q.push("id > (SELECT id FROM person WHERE id <= ").push_bind(2_i64).push(")");
        }),
        "late-counted" => mysql_filters("late").with_count(),
        other => panic!("{other}"),
    }
}

/// A value that the database cannot compute with is the client's mistake, whenever it is found out.
async fn filters_are_the_clients<DB>(pool: Pool<DB>, query: fn(&str) -> ListQuery<Id, DB>, errors: Errors)
where
    DB: SqlDatabase,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c Pool<DB>: Executor<'c, Database = DB>,
    Id: ListRow<DB>,
{
    hundred(&pool).await;
    let app = lists(pool.clone(), query).await;
    for uri in [
        "/list/at-once",
        "/list/at-once?offset=3",
        "/export/at-once",
        "/list/as-text",
        "/list/late?offset=45",
        "/list/two-rows",
        // The page has none of it, what is counted has.
        "/list/late-counted?limit=5",
        "/export/late",
        "/list/at-once",
    ] {
        let (code, detail) = ask(&app, uri).await.problem(400);
        let says = "a filter has a value that the query cannot be computed with";
        assert_eq!((code.as_str(), detail.as_str()), ("filter", says), "{uri}");
    }
    let page = ask(&app, "/list/late?limit=5").await.json();
    assert_eq!(page["results"], serde_json::json!([1, 2, 3, 4, 5]));
    assert_eq!(errors.take(), Vec::<String>::new());
    crate::support::until("all connections are given back", || pool.num_idle() == pool.size() as usize).await;
}

#[tokio::test]
async fn a_filters_value_that_cannot_be_computed_with_is_the_clients_mistake_on_sqlite() {
    let (errors, _guard) = Errors::of_this_thread();
    let (_folder, pool) = sqlite().await;
    filters_are_the_clients(pool, sqlite_filters, errors).await;
}

#[tokio::test]
async fn a_filters_value_that_cannot_be_computed_with_is_the_clients_mistake_on_postgres() {
    let (errors, _guard) = Errors::of_this_thread();
    with_postgres(|pool| filters_are_the_clients(pool, postgres_filters, errors)).await;
}

#[tokio::test]
async fn a_filters_value_that_cannot_be_computed_with_is_the_clients_mistake_on_mysql() {
    let (errors, _guard) = Errors::of_this_thread();
    with_mysql(|pool| filters_are_the_clients(pool, mysql_filters, errors)).await;
}

// Numbers.

#[tokio::test]
async fn numbers_beyond_64_bits_are_the_clients_mistake() {
    let (errors, _guard) = Errors::of_this_thread();
    let (_folder, pool) = sqlite().await;
    hundred(&pool).await;
    let app = lists(pool, |_| persons().order_by([asc("id")])).await;
    let long = "9".repeat(1_000);
    for number in
        ["9223372036854775808", "18446744073709551615", "18446744073709551616", "-9223372036854775809", &long]
    {
        for parameter in [
            "list/all?limit",
            "list/all?offset",
            "numbered/all?page",
            "numbered/all?page_size",
            "offset/all?offset",
        ] {
            let (code, detail) = ask(&app, &format!("/{parameter}={number}")).await.problem(400);
            let name = parameter.split('?').next_back().unwrap();
            assert_eq!(code, "invalid-page", "{parameter}");
            assert!(
                detail.starts_with(&format!("{name} is `{}`; ", &number[..number.len().min(64)])),
                "{detail}"
            );
            assert!(detail.len() < 200, "{detail}");
        }
    }
    // Each of them fits, and the row they lead to is not counted with 64 bits.
    let (code, _) = ask(&app, "/numbered/all?page=9223372036854775807&page_size=2").await.problem(400);
    assert_eq!(code, "invalid-page");
    for uri in [
        "/offset/all?limit=1000&offset=9223372036854775807",
        "/numbered/all?page=9223372036854775807&page_size=1",
    ] {
        let answer = ask(&app, uri).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_slice()), (200, &b"[]"[..]), "{uri}");
        assert_eq!(answer.link("next"), None, "{uri}");
    }
    assert_eq!(errors.take(), Vec::<String>::new());
}

// Counts.

async fn counts<DB>(pool: Pool<DB>)
where
    DB: SqlDatabase,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c Pool<DB>: Executor<'c, Database = DB>,
    Id: ListRow<DB>,
    (String,): ListRow<DB>,
    for<'q> String: Encode<'q, DB> + Type<DB>,
{
    hundred(&pool).await;
    let named = async |mc: Multicore<DB>, Path(name): Path<String>, page: AnyPage| {
        let query = persons().order_by([desc("id")]).with_count();
        let query = query.filter(|q| {
            q.push("name = ").push_bind(name);
        });
        let query = query.filter(|q| {
            q.push("nick IS NOT NULL");
        });
        Ok::<_, multicore_axum::ListError>(mc.parallel_list(query, page, |(id,)| id).await?.envelope())
    };
    // Of which the columns say how many rows there are.
    let names = async |mc: Multicore<DB>, page: LimitOffset| {
        let query = ListQuery::<(String,)>::select("DISTINCT name").from("person");
        let query = query.order_by([asc("name").unique()]).with_count();
        Ok::<_, multicore_axum::ListError>(mc.parallel_list(query, page, |(name,)| name).await?.envelope())
    };
    let app = Router::new().route("/named/{name}", get(named)).route("/names", get(names));
    let app = app.layer(layer(pool, Config::default()).await);
    let plain: Vec<u32> = (1..=100).rev().filter(|id| id % 4 == 1 && id % 3 != 0).collect();
    assert_eq!(plain.len(), 17);
    let (mut seen, mut query) = (Vec::new(), "?limit=5".to_owned());
    for page in 0.. {
        let answer = ask(&app, &format!("/named/name%201{query}")).await;
        let json = answer.json();
        assert_eq!(json["count"], 17, "page {page}: {json}");
        assert_eq!(json["next"].as_str().map(str::to_owned), answer.link("next"));
        seen.extend(json["results"].as_array().unwrap().clone());
        let Some(next) = answer.link("next") else { break };
        query = next;
    }
    assert_eq!(Value::from(seen), Value::from(plain));
    for (uri, count, rows) in [
        ("/named/name%201?offset=14", 17, 3),
        ("/named/name%201?offset=17", 17, 0),
        ("/named/name%201?offset=9000000000000000000", 17, 0),
        ("/named/nobody", 0, 0),
        ("/names?limit=3", 4, 3),
    ] {
        let json = ask(&app, uri).await.json();
        assert_eq!(
            (&json["count"], json["results"].as_array().map(Vec::len)),
            (&count.into(), Some(rows)),
            "{uri}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_is_that_of_the_filtered_list_on_sqlite() {
    let (_folder, pool) = sqlite().await;
    counts(pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_is_that_of_the_filtered_list_on_postgres() {
    with_postgres(counts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_is_that_of_the_filtered_list_on_mysql() {
    with_mysql(counts).await;
}
