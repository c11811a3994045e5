//! Lists: pages at their ends, a worker really helps, and a list that ends early leaves nothing behind. That the
//! bytes are those of the sequential path is in `any_list`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use multicore_core::{
    Execution, List, ListError, ListQuery, ListRow, Mode, Multicore, Page, Reason, SqlDatabase, asc, desc,
};
use sqlx::pool::PoolOptions;
use sqlx::{Executor, Pool, Postgres, Sqlite, SqlitePool};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::databases::{SCARCE, people, sqlite, sqlite_of, with_postgres};
use crate::support::{
    Key, PATIENCE, PLENTY, Visitors, burn, gate, is_worker, occupy, over, soon, unique, until, until_idle,
};

pub(crate) const ALL: [Execution; 3] = [Execution::Auto, Execution::Parallel, Execution::Sequential];

fn persons(execution: Execution) -> ListQuery<(i64, String), Sqlite> {
    ListQuery::<(i64, String)>::select("id, name").from("person").order_by([asc("id")]).execution(execution)
}

/// The oracle for [`persons`]: what one would write without this library.
async fn plain(app: &SqlitePool, page: Page) -> Vec<u8> {
    let rows: Vec<(i64, String)> = sqlx::query_as("SELECT id, name FROM person ORDER BY id LIMIT ? OFFSET ?")
        .bind(page.limit as i64)
        .bind(page.offset as i64)
        .fetch_all(app)
        .await
        .unwrap();
    serde_json::to_vec(&rows).unwrap()
}

// Pages.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_at_and_beyond_the_end_are_short_or_empty_on_every_path() {
    let (_folder, app) = sqlite().await;
    people(&app, 95).await;
    let mc = over(&app, 2).await;
    for execution in ALL {
        for (offset, rows) in [(90, 5), (95, 0), (1_000, 0), (i64::MAX as u64, 0)] {
            let page = Page { limit: 10, offset };
            let list = soon(mc.list(persons(execution), page, |row| row)).await.unwrap();
            assert_eq!(list.rows(), rows, "{execution:?} at {offset}");
            assert_eq!(list.to_bytes(), plain(&app, page).await);
        }
        let none = soon(mc.list(persons(execution), Page { limit: 0, offset: 0 }, |row| row)).await.unwrap();
        assert_eq!(none.to_bytes(), b"[]");
    }
}

#[tokio::test]
async fn a_number_no_database_can_take_is_an_error_of_the_page() {
    let (_folder, app) = sqlite().await;
    people(&app, 1).await;
    let mc = over(&app, 1).await;
    let page = Page { limit: 1, offset: u64::MAX };
    let error = mc.list(persons(Execution::Auto), page, |row| row).await.unwrap_err();
    assert!(matches!(error, ListError::Page { parameter: "offset", .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_lists_at_once_do_not_mix() {
    let (_folder, app) = sqlite().await;
    people(&app, 3_000).await;
    let mc = over(&app, 2).await;
    let lists: Vec<_> = (0..24)
        .map(|n| {
            let mc = mc.clone();
            let page = Page { limit: 300, offset: n * 100 };
            let execution = ALL[n as usize % 3];
            tokio::spawn(async move {
                let list = mc.list(persons(execution), page, |row| {
                    burn(5);
                    row
                });
                (page, list.await.unwrap().to_bytes())
            })
        })
        .collect();
    for list in lists {
        let (page, bytes) = soon(list).await.unwrap();
        assert!(bytes == plain(&app, page).await, "{page:?}");
    }
    assert_eq!((mc.stats().owners, mc.stats().jobs), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_bind_their_values_on_postgres() {
    with_postgres(async |app| {
        app.execute("CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL)").await.unwrap();
        app.execute("INSERT INTO person SELECT n, 'user ' || n FROM generate_series(1, 200) AS n")
            .await
            .unwrap();
        let mc = over(&app, 2).await;
        for execution in ALL {
            let query = ListQuery::<(i32, String)>::select("id, name")
                .from("person")
                .filter(|q| {
                    q.push("id > ").push_bind(50).push(" OR name = ").push_bind("'; DROP TABLE person --");
                })
                .filter(|q| {
                    q.push("name LIKE ").push_bind("%0");
                })
                .order_by([desc("id")])
                .execution(execution);
            let list = soon(mc.list(query, Page { limit: 3, offset: 1 }, |(id, _)| id)).await.unwrap();
            assert_eq!(list.to_bytes(), b"[190,180,170]");
        }
    })
    .await;
}

// Help.

/// A list under way: its worker is in `render` and waits at the gate, its owner goes on without it.
struct Helped {
    list: JoinHandle<Result<List, ListError>>,
    key: Key,
    /// Rows whose rendering a worker has begun.
    by_worker: Arc<AtomicUsize>,
    token: Arc<()>,
}

/// Rows of a helped list.
const HELPED: Page = Page { limit: 600, offset: 0 };
const CHUNK: usize = 5;

/// Starts lists until a worker takes part in one; that one waits for it.
async fn helped(mc: &Multicore<Sqlite>, pool: &str) -> Helped {
    for _ in 0..100 {
        until_idle(mc).await;
        let (key, closed) = gate();
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let by_worker = Arc::new(AtomicUsize::new(0));
        let token = Arc::new(());
        let (pool, count, held) = (pool.to_owned(), Arc::clone(&by_worker), Arc::clone(&token));
        let render = move |row: (i64, String)| {
            let _held = &held;
            if is_worker(&pool) {
                count.fetch_add(1, Ordering::SeqCst);
                let _sent = arrived.send(());
                closed.pass();
            } else {
                // Long enough for the worker to come while there is something left for it.
                for _ in 0..100 {
                    if count.load(Ordering::SeqCst) > 0 {
                        break;
                    }
                    std::thread::yield_now();
                }
            }
            row
        };
        let query = persons(Execution::Parallel).chunk_length(NonZeroUsize::new(CHUNK).unwrap());
        let mut list = tokio::spawn({
            let mc = mc.clone();
            async move { mc.list(query, HELPED, render).await }
        });
        tokio::select! {
            biased;
            arrived = arrivals.recv() => {
                if arrived.is_some() {
                    return Helped { list, key, by_worker, token };
                }
                soon(list).await.unwrap().unwrap();
            }
            done = &mut list => {
                done.unwrap().unwrap();
            }
        }
    }
    panic!("in a hundred lists no worker took part");
}

/// A pool of one worker over a file of 1,000 people, which the application has so many connections to.
async fn people_pool(connections: u32) -> (tempfile::TempDir, SqlitePool, String, Multicore<Sqlite>) {
    let (folder, app) = sqlite_of(connections).await;
    people(&app, 1_000).await;
    let name = unique();
    let mc = Multicore::<Sqlite>::builder().name(&name).workers(1).cores(PLENTY).pool(app.clone());
    let mc = mc.load_source(|| None).start().await.unwrap();
    (folder, app, name, mc)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_really_takes_part_and_the_mode_says_so() {
    let (_folder, app, name, mc) = people_pool(2).await;
    let helped = helped(&mc, &name).await;
    helped.key.open();
    let list = soon(helped.list).await.unwrap().unwrap();
    assert_eq!(list.to_bytes(), plain(&app, HELPED).await);
    assert!(helped.by_worker.load(Ordering::SeqCst) > 0);
    let Mode::Parallel { participants: 2, chunks } = list.mode() else { panic!("{:?}", list.mode()) };
    assert!(mc.stats().decisions.parallel() > 0);
    // All of a forced list is shared, and every chunk of it is a piece of the body.
    assert!(chunks >= HELPED.limit as usize / CHUNK);
    assert_eq!(list.into_chunks().len(), chunks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_participants_told_are_no_more_than_the_owner_and_the_workers_that_rendered() {
    let (_folder, app) = sqlite().await;
    people(&app, 100).await;
    let name = unique();
    let mc = Multicore::<Sqlite>::builder().name(&name).workers(4).cores(PLENTY).pool(app);
    let mc = mc.load_source(|| None).start().await.unwrap();
    for round in 0..200 {
        until_idle(&mc).await;
        let visitors = Visitors::default();
        let (seen, pool) = (visitors.clone(), name.clone());
        let list = mc.list(persons(Execution::Parallel), Page { limit: 12, offset: 0 }, move |row| {
            seen.note(&pool);
            row
        });
        if let Mode::Parallel { participants, chunks } = soon(list).await.unwrap().mode() {
            let most = 1 + visitors.count();
            assert!(
                participants <= most,
                "round {round}: {participants} told, {} workers rendered",
                most - 1
            );
            assert!(participants <= chunks + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mode_names_the_reason_where_there_was_no_help() {
    let (_folder, app) = sqlite().await;
    people(&app, 100).await;
    let mc = over(&app, 2).await;
    let page = Page { limit: 1, offset: 0 };
    let mode = async |execution| soon(mc.list(persons(execution), page, |row| row)).await.unwrap().mode();
    // The first of its kind, so that no interrupted measurement makes it look like more.
    assert_eq!(mode(Execution::Auto).await, Mode::Sequential(Reason::TooSmall));
    assert_eq!(mode(Execution::Sequential).await, Mode::Sequential(Reason::Forced));
    // The only workers are elsewhere, and nobody comes.
    let (_one, _key) = occupy(&mc).await;
    let (_other, _other_key) = occupy(&mc).await;
    assert_eq!(mode(Execution::Parallel).await, Mode::Sequential(Reason::Unclaimed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_is_free_while_the_last_rows_are_rendered() {
    let (_folder, app, name, mc) = people_pool(1).await;
    let helped = helped(&mc, &name).await;
    // The pool has one connection; the list is still under way.
    assert!(!soon(plain(&app, HELPED)).await.is_empty());
    assert!(!helped.list.is_finished());
    helped.key.open();
    soon(helped.list).await.unwrap().unwrap();
}

// Ends before the end.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_list_stops_after_the_running_chunks_and_gives_its_connection_back() {
    let (_folder, app, name, mc) = people_pool(1).await;
    for _ in 0..5 {
        let helped = helped(&mc, &name).await;
        helped.list.abort();
        assert!(soon(helped.list).await.unwrap_err().is_cancelled());
        assert_eq!((mc.stats().owners, mc.stats().jobs), (0, 0));
        let page = Page { limit: 7, offset: 3 };
        assert!(!soon(plain(&app, page)).await.is_empty(), "the pool's one connection is free");
        helped.key.open();
        until("what the list held is dropped", || Arc::strong_count(&helped.token) == 1).await;
        let begun = helped.by_worker.load(Ordering::SeqCst);
        assert!(begun <= CHUNK, "{begun} rows: more than the chunk that ran");
    }
}

#[tokio::test]
async fn a_list_that_takes_longer_than_the_timeout_is_an_error_and_costs_nothing() {
    let (_folder, app) = sqlite_of(1).await;
    people(&app, 1_000).await;
    let name = unique();
    let after = Duration::from_secs(3_000);
    let mc = Multicore::<Sqlite>::builder().name(&name).workers(1).cores(PLENTY).timeout(after);
    let mc = mc.pool(app.clone()).load_source(|| None).start().await.unwrap();
    let helped = helped(&mc, &name).await;
    tokio::time::pause();
    tokio::time::advance(after).await;
    let error = helped.list.await.unwrap().unwrap_err();
    tokio::time::resume();
    assert!(matches!(error, ListError::Timeout { after: told } if told == after), "{error:?}");
    assert_eq!(error.to_string(), "the list took longer than 3000s");
    assert!(!plain(&app, HELPED).await.is_empty(), "the connection is free");
    helped.key.open();
    until("what the list held is dropped", || Arc::strong_count(&helped.token) == 1).await;
    assert_eq!((mc.stats().owners, mc.stats().jobs), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_lets_a_list_under_way_come_to_its_end() {
    let (_folder, app, name, mc) = people_pool(1).await;
    let helped = helped(&mc, &name).await;
    let stopping = tokio::spawn({
        let mc = mc.clone();
        async move { mc.shutdown(Duration::from_secs(60)).await }
    });
    until("nothing new is taken", || mc.task::<()>().is_none()).await;
    helped.key.open();
    let list = soon(helped.list).await.unwrap().unwrap();
    assert_eq!(list.to_bytes(), plain(&app, HELPED).await);
    assert!(soon(stopping).await.unwrap().is_clean());
}

// The pool's connections.

/// A list of which much is left to render has given back the only connection of its pool, `one`, by its middle.
async fn gives_back<DB>(one: &Pool<DB>)
where
    DB: SqlDatabase,
    (i64, String): ListRow<DB>,
{
    let mc = over(one, 1).await;
    for execution in ALL {
        let query = ListQuery::<(i64, String)>::select("id, name").from("person").order_by([asc("id")]);
        let pool = one.clone();
        let render = move |row: (i64, String)| {
            burn(50);
            let start = Instant::now();
            while row.0 == 1_500 && pool.num_idle() == 0 {
                assert!(start.elapsed() < PATIENCE, "{execution:?}: nobody else gets the connection");
                std::thread::yield_now();
            }
            row
        };
        let list = mc.list(query.execution(execution), Page { limit: 2_000, offset: 0 }, render);
        assert_eq!(soon(list).await.unwrap().rows(), 2_000, "{execution:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_get_the_last_connection_before_the_list_that_has_it_is_rendered() {
    let (_folder, app) = sqlite_of(1).await;
    people(&app, 2_000).await;
    gives_back(&app).await;
    with_postgres(async |app| {
        app.execute("CREATE TABLE person (id bigint PRIMARY KEY, name text NOT NULL)").await.unwrap();
        let rows = "INSERT INTO person SELECT id, 'user ' || id FROM generate_series(1, 2000) id";
        app.execute(rows).await.unwrap();
        let one = PoolOptions::<Postgres>::new().max_connections(1);
        let one = one.connect_lazy_with((*app.connect_options()).clone());
        gives_back(&one).await;
    })
    .await;
}

// Errors.

#[tokio::test]
async fn without_a_free_connection_the_list_is_overloaded() {
    let (_folder, app) = sqlite().await;
    people(&app, 10).await;
    let one = PoolOptions::<Sqlite>::new().max_connections(1).acquire_timeout(SCARCE);
    let one = one.connect_with((*app.connect_options()).clone()).await.unwrap();
    let mc = over(&one, 1).await;
    let taken = one.acquire().await.unwrap();
    let page = Page { limit: 5, offset: 0 };
    let error = soon(mc.list(persons(Execution::Auto), page, |row| row)).await.unwrap_err();
    assert!(matches!(error, ListError::Overloaded), "{error:?}");
    drop(taken);
    assert!(soon(mc.list(persons(Execution::Auto), page, |row| row)).await.is_ok());
}

#[tokio::test]
async fn what_the_database_refuses_is_an_error_that_does_not_repeat_its_words() {
    let (_folder, app) = sqlite().await;
    let mc = over(&app, 1).await;
    for execution in ALL {
        let page = Page { limit: 5, offset: 0 };
        let error = soon(mc.list(persons(execution), page, |row| row)).await.unwrap_err();
        assert_eq!(error.to_string(), "the list's query cannot be run");
        let ListError::Statement(source) = &error else { panic!("{error:?}") };
        assert!(source.to_string().contains("no such table: person"), "{source}");
    }
    app.close().await;
    let error =
        soon(mc.list(persons(Execution::Auto), Page { limit: 5, offset: 0 }, |row| row)).await.unwrap_err();
    assert!(matches!(error, ListError::Database(_)), "a closed pool: {error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_panics_in_render_is_there_for_the_next_request() {
    let (_folder, app, name, mc) = people_pool(2).await;
    for _ in 0..5 {
        let panicked = async {
            loop {
                until_idle(&mc).await;
                let pool = name.clone();
                let render = move |row: (i64, String)| {
                    if is_worker(&pool) {
                        std::panic::resume_unwind(Box::new("the worker's"));
                    }
                    burn(10);
                    row
                };
                if let Err(error) = mc.list(persons(Execution::Parallel), HELPED, render).await {
                    break error;
                }
            }
        };
        let error = soon(panicked).await;
        assert!(matches!(&error, ListError::Panicked { message } if message == "the worker's"), "{error:?}");
        let helped = helped(&mc, &name).await;
        helped.key.open();
        assert_eq!(soon(helped.list).await.unwrap().unwrap().to_bytes(), plain(&app, HELPED).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_fails_is_counted_whichever_path_it_took() {
    let (_folder, app) = sqlite().await;
    people(&app, 10).await;
    let mc = over(&app, 1).await;
    for execution in ALL {
        let before = mc.stats().decisions.total();
        let page = Page { limit: 10, offset: 0 };
        let list = mc.list(persons(execution), page, |(id, _)| -> i64 {
            if id == 7 { std::panic::resume_unwind(Box::new("on purpose")) } else { id }
        });
        assert!(soon(list).await.is_err());
        assert_eq!(mc.stats().decisions.total(), before + 1, "{execution:?}");
    }
}
