//! Admission: who gets help, who does not, and what the statistics say about it. The decisions
//! themselves are tested as pure functions in the core; here they meet real threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use multicore_core::{Execution, ListQuery, LoadLimit, Mode, Multicore, Page, Reason, asc};
use sqlx::{Sqlite, SqlitePool};

use crate::databases::{people, sqlite};
use crate::support::{Gate, Key, builder, burn, gate, is_worker, occupy, soon, unique, until, until_idle};

/// An owner that is in its work until the key is used, on a thread of its own.
fn owner(mc: &Multicore<()>) -> (Key, std::thread::JoinHandle<()>) {
    let (key, closed) = gate();
    let (mc, inside) = (mc.clone(), Arc::new(AtomicBool::new(false)));
    let entered = Arc::clone(&inside);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let pass = move |closed: Gate| {
            entered.store(true, Ordering::SeqCst);
            closed.pass();
        };
        runtime.block_on(mc.parallel_map([closed], pass)).unwrap();
    });
    while !inside.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    (key, thread)
}

/// How a list of heavy rows was made: far more work than a wake-up costs.
async fn heavy(mc: &Multicore<Sqlite>, execution: Execution) -> Mode {
    list(mc, execution, 200, 50).await
}

/// How a list of so many rows was made, each taking so many microseconds.
async fn list(mc: &Multicore<Sqlite>, execution: Execution, limit: u64, us: u64) -> Mode {
    let query = ListQuery::<(i64, String)>::select("id, name").from("person").order_by([asc("id")]);
    let render = move |row: (i64, String)| {
        burn(us);
        row
    };
    soon(mc.list(query.execution(execution), Page { limit, offset: 0 }, render)).await.unwrap().mode()
}

async fn app() -> (tempfile::TempDir, SqlitePool) {
    let (folder, app) = sqlite().await;
    people(&app, 200).await;
    (folder, app)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_work_is_shared_without_being_asked_for() {
    let (_folder, app) = app().await;
    let mc =
        Multicore::<Sqlite>::builder().name(unique()).workers(2).cores(16).load_source(|| None).pool(app);
    let mc = mc.start().await.unwrap();
    soon(async {
        loop {
            until_idle(&mc).await;
            if let Mode::Parallel { participants: 2.., .. } = heavy(&mc, Execution::Auto).await {
                break;
            }
        }
    })
    .await;
    assert!(mc.stats().decisions.parallel() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn light_work_is_not_shared() {
    let (_folder, app) = app().await;
    let mc =
        Multicore::<Sqlite>::builder().name(unique()).workers(2).cores(16).load_source(|| None).pool(app);
    let mc = mc.start().await.unwrap();
    // The first of its kind, so that no interrupted measurement makes it look like more.
    assert_eq!(list(&mc, Execution::Auto, 1, 0).await, Mode::Sequential(Reason::TooSmall));
    let decisions = mc.stats().decisions;
    assert_eq!((decisions.sequential(Reason::TooSmall), decisions.total()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn above_the_load_limit_there_is_no_help_and_below_it_there_is_again() {
    let (_folder, app) = app().await;
    let load = Arc::new(AtomicU64::new(f64::to_bits(100.0)));
    let source = Arc::clone(&load);
    let mc = Multicore::<Sqlite>::builder()
        .name(unique())
        .workers(2)
        .cores(16)
        .max_load_average(LoadLimit::from_number(85.0).unwrap())
        .load_source(move || Some(f64::from_bits(source.load(Ordering::Relaxed))))
        .pool(app);
    let mc = mc.start().await.unwrap();
    assert!(mc.stats().vetoed, "known from the start");
    assert_eq!(mc.stats().load_average, Some(100.0));
    for _ in 0..5 {
        assert_eq!(heavy(&mc, Execution::Auto).await, Mode::Sequential(Reason::LoadAverage));
    }
    assert_eq!(mc.stats().decisions.sequential(Reason::LoadAverage), 5);
    assert_eq!(mc.stats().decisions.parallel(), 0);

    load.store(f64::to_bits(13.6), Ordering::Relaxed);
    mc.sample_load();
    assert!(!mc.stats().vetoed, "0.85 on 16 cores is 13.6, and that is not above it");
    soon(async { while !matches!(heavy(&mc, Execution::Auto).await, Mode::Parallel { .. }) {} }).await;

    load.store(f64::to_bits(13.7), Ordering::Relaxed);
    mc.sample_load();
    assert_eq!(heavy(&mc, Execution::Auto).await, Mode::Sequential(Reason::LoadAverage));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_without_a_load_average_never_vetoes() {
    let limit = LoadLimit::from_number(0.01).unwrap();
    for source in [None, Some(f64::NAN), Some(f64::INFINITY)] {
        let mc = builder(1).max_load_average(limit).load_source(move || source).start().await.unwrap();
        assert_eq!((mc.stats().load_average, mc.stats().vetoed), (None, false), "{source:?}");
        assert!(mc.task::<()>().is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_core_there_is_no_help() {
    let (_folder, app) = app().await;
    let mc = Multicore::<Sqlite>::builder().name(unique()).workers(2).cores(1).load_source(|| None).pool(app);
    let mc = mc.start().await.unwrap();
    assert_eq!(heavy(&mc, Execution::Auto).await, Mode::Sequential(Reason::OneCore));
    assert_eq!(mc.stats().decisions.sequential(Reason::OneCore), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_one_core_gets_one() {
    let (_folder, app) = app().await;
    let mc =
        Multicore::<Sqlite>::builder().name(unique()).workers(2).cores(16).load_source(|| None).pool(app);
    let mc = mc.start().await.unwrap();
    assert_eq!(heavy(&mc, Execution::Sequential).await, Mode::Sequential(Reason::Forced));
    assert_eq!(mc.stats().decisions.sequential(Reason::Forced), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_runs_hold_the_cores_there_is_no_help() {
    let (_folder, app) = app().await;
    let mc = Multicore::<Sqlite>::builder().name(unique()).workers(3).cores(2).load_source(|| None).pool(app);
    let mc = mc.start().await.unwrap();
    // One worker is free, but no core.
    let (_one, _key) = occupy(&mc).await;
    let (_other, _other_key) = occupy(&mc).await;
    assert_eq!(heavy(&mc, Execution::Auto).await, Mode::Sequential(Reason::Busy));
    assert_eq!(mc.stats().decisions.sequential(Reason::Busy), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_other_requests_hold_the_cores_there_is_no_help() {
    let mc = builder(2).cores(3).start().await.unwrap();
    until_idle(&mc).await;
    let owners = [owner(&mc), owner(&mc)];
    assert_eq!(mc.stats().owners, 2);
    let work = mc.map_as(Execution::Auto, vec![(); 200], |()| burn(50));
    assert_eq!(soon(work).await.unwrap().1, Mode::Sequential(Reason::Busy));
    for (key, thread) in owners {
        key.open();
        thread.join().unwrap();
    }
    assert_eq!(mc.stats().owners, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_leaves_when_other_requests_want_the_cores_and_comes_back_when_they_are_done() {
    let name = unique();
    // Room for the owner, its helper and a neighbour's thread.
    let mc = builder(1).name(&name).cores(3).start().await.unwrap();
    let helped = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let work = tokio::spawn({
        let (mc, helped, stop) = (mc.clone(), Arc::clone(&helped), Arc::clone(&stop));
        async move {
            mc.map_as(Execution::Auto, vec![(); 5_000_000], move |()| {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                if is_worker(&name) {
                    helped.fetch_add(1, Ordering::Relaxed);
                }
                burn(20);
            })
            .await
        }
    });
    until("a worker helps", || helped.load(Ordering::Relaxed) > 0).await;

    let owners = [owner(&mc), owner(&mc), owner(&mc)];
    until_idle(&mc).await;
    let before = helped.load(Ordering::Relaxed);
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(!work.is_finished());
    assert_eq!(helped.load(Ordering::Relaxed), before, "it stays away");

    for (key, thread) in owners {
        key.open();
        thread.join().unwrap();
    }
    until("it helps again", || helped.load(Ordering::Relaxed) > before).await;
    stop.store(true, Ordering::Relaxed);
    let (_, mode) = soon(work).await.unwrap().unwrap();
    assert!(matches!(mode, Mode::Parallel { participants: 2, .. }), "{mode:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_neighbour_waits_for_a_few_slices_and_not_for_one_of_each_owner() {
    const OWNERS: usize = 16;
    let mc = builder(1).cores(1).start().await.unwrap();
    let (last, changes) = (Arc::new(AtomicUsize::new(OWNERS)), Arc::new(AtomicUsize::new(0)));
    let owners: Vec<_> = (0..OWNERS)
        .map(|owner| {
            let (mc, last, changes) = (mc.clone(), Arc::clone(&last), Arc::clone(&changes));
            tokio::spawn(async move {
                let work = move |_| {
                    if last.swap(owner, Ordering::SeqCst) != owner {
                        changes.fetch_add(1, Ordering::SeqCst);
                    }
                    burn(20);
                };
                mc.parallel_map(0..500, work).await.unwrap();
            })
        })
        .collect();
    let neighbour = tokio::spawn(async move {
        let mut waits = Vec::new();
        while !owners.iter().all(|owner| owner.is_finished()) {
            let before = changes.load(Ordering::SeqCst);
            tokio::task::yield_now().await;
            waits.push(changes.load(Ordering::SeqCst) - before);
        }
        for owner in owners {
            owner.await.unwrap();
        }
        waits
    });
    let mut waits = soon(neighbour).await.unwrap();
    assert!(waits.len() > 2 * OWNERS, "{waits:?}");
    waits.sort_unstable();
    // All but a few: those that begin before there are many take no turns yet.
    assert!(waits[waits.len() * 9 / 10] <= 4, "{waits:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_leaves_a_job_for_a_run_that_is_queued() {
    let name = unique();
    let mc = builder(1).name(&name).start().await.unwrap();
    let helped = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let work = tokio::spawn({
        let (mc, helped, stop) = (mc.clone(), Arc::clone(&helped), Arc::clone(&stop));
        async move {
            mc.map_as(Execution::Parallel, vec![(); 5_000_000], move |()| {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                if is_worker(&name) {
                    helped.fetch_add(1, Ordering::Relaxed);
                }
                burn(20);
            })
            .await
        }
    });
    until("a worker helps", || helped.load(Ordering::Relaxed) > 0).await;
    let mut task = mc.task().unwrap();
    task.run(|| "ran");
    assert_eq!(soon(task.get()).await.unwrap(), ["ran"]);
    assert!(!work.is_finished(), "it did not wait for the job's end");
    stop.store(true, Ordering::Relaxed);
    soon(work).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_waits_for_its_helper_counts_as_using_no_core() {
    let name = unique();
    let mc = builder(1).name(&name).start().await.unwrap();
    let (helped, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let work = tokio::spawn({
        let (mc, helped, go_on) = (mc.clone(), Arc::clone(&helped), Arc::clone(&go_on));
        async move {
            mc.map_as(Execution::Parallel, vec![(); 500_000], move |()| {
                if is_worker(&name) {
                    helped.store(true, Ordering::Relaxed);
                    while !go_on.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                } else if !helped.load(Ordering::Relaxed) {
                    burn(20);
                }
            })
            .await
        }
    });
    until("a worker helps", || helped.load(Ordering::Relaxed)).await;
    until("the owner waits", || mc.stats().owners == 0).await;
    assert!(!work.is_finished());
    go_on.store(true, Ordering::Relaxed);
    soon(work).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_statistics_tell_decisions_by_reason_and_what_is_going_on() {
    let mc = builder(3).cores(5).load_source(|| Some(1.25)).start().await.unwrap();
    until_idle(&mc).await;
    soon(mc.map_as(Execution::Sequential, vec![(); 3], |()| ())).await.unwrap();
    soon(mc.map_as(Execution::Sequential, vec![(); 3], |()| ())).await.unwrap();
    soon(mc.parallel_map([1], |n| n)).await.unwrap();
    let (held, key) = occupy(&mc).await;
    let (request, thread) = owner(&mc);
    let mut stats = serde_json::to_value(mc.stats()).unwrap();
    let wake = stats.as_object_mut().unwrap().remove("wake-nanos").unwrap();
    let processes = stats.as_object_mut().unwrap().remove("processes").unwrap();
    assert!(processes.as_object().unwrap().values().all(|count| *count == 0), "{processes}");
    assert!((2_000..=200_000).contains(&wake.as_u64().unwrap()), "{wake}");
    assert_eq!(
        stats,
        serde_json::json!({
            "workers": 3, "busy": 1, "queue": 0, "jobs": 0, "owners": 1, "cores": 5,
            "load-average": 1.25, "vetoed": false,
            "decisions": {
                "parallel": 0, "too-small": 1, "busy": 0, "load-average": 0, "one-core": 0, "forced": 2,
                "unclaimed": 0, "stopped": 0, "throttled": 0
            }
        })
    );
    assert_eq!(Mode::Sequential(Reason::TooSmall).to_string(), "mode=sequential, reason=too-small");
    key.open();
    request.open();
    thread.join().unwrap();
    soon(held.get()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_shutdown_no_worker_counts_as_busy() {
    let mc = builder(2).cores(2).start().await.unwrap();
    assert!(soon(mc.shutdown(Duration::from_secs(60))).await.is_clean());
    assert_eq!(mc.stats().busy, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_shutdown_the_reason_is_that_the_pool_has_stopped() {
    let mc = builder(16).start().await.unwrap();
    assert!(soon(mc.shutdown(Duration::from_secs(60))).await.is_clean());
    let work = mc.map_as(Execution::Auto, vec![(); 200], |()| burn(50));
    assert_eq!(soon(work).await.unwrap().1, Mode::Sequential(Reason::Stopped));
}
