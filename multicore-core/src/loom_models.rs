//! loom models of the shared parts: the production code of `job::chunks` and `job::registry`, run under
//! every interleaving. Run with
//! `RUSTFLAGS="--cfg multicore_loom" cargo test -p multicore-core --features process --lib --release loom_models`; that
//! runs those of worker processes (`process::server`) too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use loom::future::block_on;
use loom::sync::Notify;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::job::chunks::{Chunks, Lost};
use crate::job::registry::{Join, Next, Registry};

/// Long enough to be used; loom has no clock.
const LINGER: Duration = Duration::from_micros(1);

/// Explores every interleaving with up to so many preemptions; three find what more find in practice,
/// and keep the models to seconds.
fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

#[derive(Debug, PartialEq, Eq)]
enum Failed {
    Lost,
    At(u32),
}

impl Lost for Failed {
    fn lost() -> Self {
        Failed::Lost
    }
}

type Numbers = Chunks<u32, Vec<u32>, Failed>;

fn numbers(of: std::ops::Range<u32>) -> Arc<Numbers> {
    let chunks = Numbers::new();
    chunks.push(&mut of.collect());
    Arc::new(chunks)
}

/// What every participant does: chunk after chunk until none is left.
fn work(chunks: &Numbers, length: usize) {
    while let Some(mut claim) = chunks.claim(length) {
        let items = claim.take();
        claim.finish(Ok(items));
    }
}

fn results(chunks: &Numbers) -> Vec<Result<Vec<u32>, Failed>> {
    block_on(std::future::poll_fn(|context| chunks.poll_results(context)))
}

#[test]
fn every_item_comes_out_once_and_in_order() {
    model(|| {
        let chunks = numbers(0..3);
        let helper = thread::spawn({
            let chunks = Arc::clone(&chunks);
            move || work(&chunks, 1)
        });
        work(&chunks, 2);
        let items: Vec<u32> = results(&chunks).into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(items, [0, 1, 2]);
        helper.join().unwrap();
    });
}

#[test]
fn items_pushed_while_helpers_come_and_go_are_all_done() {
    model(|| {
        let chunks = numbers(0..1);
        let helper = thread::spawn({
            let chunks = Arc::clone(&chunks);
            move || work(&chunks, 1)
        });
        chunks.push(&mut VecDeque::from([1, 2]));
        work(&chunks, 1);
        let items: Vec<u32> = results(&chunks).into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(items, [0, 1, 2]);
        helper.join().unwrap();
    });
}

#[test]
fn the_owner_waits_for_claimed_chunks_only() {
    model(|| {
        let chunks = numbers(0..2);
        // A helper that was woken and never comes to claim anything: the owner ends without it.
        work(&chunks, 1);
        assert_eq!(results(&chunks), [Ok(vec![0]), Ok(vec![1])]);
        assert!(chunks.claim(1).is_none());
    });
}

#[test]
fn a_failed_chunk_closes_the_job_and_earlier_chunks_still_count() {
    model(|| {
        let chunks = numbers(0..3);
        let helper = thread::spawn({
            let chunks = Arc::clone(&chunks);
            move || {
                if let Some(mut claim) = chunks.claim(1) {
                    let item = claim.take()[0];
                    claim.finish(Err(Failed::At(item)));
                }
            }
        });
        work(&chunks, 1);
        let results = results(&chunks);
        // Whoever claimed what: everything before the first failure is there, in order.
        for (index, result) in results.iter().enumerate() {
            let index = index as u32;
            match result {
                Ok(items) => assert_eq!(*items, [index]),
                Err(failed) => assert_eq!(*failed, Failed::At(index)),
            }
        }
        let failed = results.iter().any(Result::is_err);
        assert_eq!(failed, !chunks.is_open());
        assert!(failed || results.len() == 3);
        helper.join().unwrap();
    });
}

#[test]
fn a_holder_that_unwinds_is_reported_and_nobody_hangs() {
    model(|| {
        let chunks = numbers(0..2);
        let helper = thread::spawn({
            let chunks = Arc::clone(&chunks);
            // Dropped without a result, as when the thread unwinds.
            move || drop(chunks.claim(1))
        });
        work(&chunks, 1);
        let results = results(&chunks);
        let lost = results.iter().filter(|result| **result == Err(Failed::Lost)).count();
        assert!(lost == 1 || (lost == 0 && results.len() == 2), "{results:?}");
        helper.join().unwrap();
    });
}

#[test]
fn a_job_closed_at_any_moment_ends() {
    model(|| {
        let chunks = numbers(0..2);
        let helper = thread::spawn({
            let chunks = Arc::clone(&chunks);
            move || work(&chunks, 1)
        });
        chunks.close();
        chunks.push(&mut VecDeque::from([7]));
        assert!(chunks.claim(1).is_none());
        let done = results(&chunks).len();
        assert!(done <= 2);
        helper.join().unwrap();
    });
}

/// A job that counts who joined it, and how much of it is left.
#[derive(Default)]
struct Counted {
    joined: AtomicUsize,
    left: AtomicUsize,
}

impl Join for Counted {
    fn join(&self) {
        self.joined.fetch_add(1, Ordering::SeqCst);
    }
}

type Jobs = Registry<Counted, usize>;

/// A worker that helps and runs until the pool ends; returns what it ran and how often it helped.
fn worker(registry: &Jobs, index: usize) -> (usize, usize) {
    let (mut ran, mut helped) = (0, 0);
    loop {
        let next = registry
            .next(index, LINGER, |jobs| jobs.iter().position(|job| job.left.load(Ordering::SeqCst) > 0));
        match next {
            Next::Run(run) => ran += run,
            Next::Help(job, _) => {
                helped += 1;
                job.left.store(0, Ordering::SeqCst);
            }
            Next::Exit => return (ran, helped),
        }
    }
}

#[test]
fn no_run_is_lost_however_submitting_and_parking_interleave() {
    model(|| {
        let registry = Arc::new(Jobs::new(1));
        let thread = thread::spawn({
            let registry = Arc::clone(&registry);
            move || worker(&registry, 0)
        });
        registry.submit(1).unwrap();
        registry.submit(10).unwrap();
        registry.drain();
        assert!(registry.submit(100).is_err());
        assert_eq!(thread.join().unwrap(), (11, 0));
    });
}

#[test]
fn a_run_and_a_job_are_taken_up_without_any_further_event() {
    model(|| {
        let registry = Arc::new(Jobs::new(1));
        let job = Arc::new(Counted { left: AtomicUsize::new(1), ..Counted::default() });
        let (ran, helped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let thread = thread::spawn({
            let (registry, ran, helped) = (Arc::clone(&registry), Arc::clone(&ran), Arc::clone(&helped));
            move || {
                loop {
                    let open = |jobs: &[Arc<Counted>]| {
                        jobs.iter().position(|job| job.left.load(Ordering::SeqCst) > 0)
                    };
                    match registry.next(0, LINGER, open) {
                        Next::Run(_) => ran.notify(),
                        Next::Help(job, _) => {
                            job.left.store(0, Ordering::SeqCst);
                            helped.notify();
                        }
                        Next::Exit => return,
                    }
                }
            }
        });
        registry.submit(1).unwrap();
        ran.wait();
        // As an owner does it: visible first, then a wake-up for who is parked.
        assert!(registry.publish(Arc::clone(&job)));
        registry.wake_for(&job, 1);
        helped.wait();
        registry.drain();
        thread.join().unwrap();
    });
}

#[test]
fn two_workers_share_runs_and_both_end() {
    model(|| {
        let registry = Arc::new(Jobs::new(2));
        let thread = thread::spawn({
            let registry = Arc::clone(&registry);
            move || worker(&registry, 0).0
        });
        registry.submit(1).unwrap();
        registry.drain();
        let here = worker(&registry, 1).0;
        assert_eq!(here + thread.join().unwrap(), 1);
    });
}

#[test]
fn a_published_job_is_found_or_its_wake_up_arrives() {
    model(|| {
        let registry = Arc::new(Jobs::new(1));
        let job = Arc::new(Counted::default());
        let thread = thread::spawn({
            let registry = Arc::clone(&registry);
            move || worker(&registry, 0)
        });
        job.left.store(1, Ordering::SeqCst);
        assert!(registry.publish(Arc::clone(&job)));
        let woken = registry.wake_for(&job, 1);
        registry.withdraw(&job);
        registry.drain();
        let (_, helped) = thread.join().unwrap();
        // A worker that was parked was woken and counted before it ran; one that was not has looked
        // by itself, or came after the job was taken back.
        assert!(helped >= woken);
        assert_eq!(job.joined.load(Ordering::SeqCst), helped);
    });
}

#[test]
fn halting_gives_back_exactly_the_runs_that_never_began() {
    model(|| {
        let registry = Arc::new(Jobs::new(1));
        let thread = thread::spawn({
            let registry = Arc::clone(&registry);
            move || worker(&registry, 0).0
        });
        registry.submit(1).unwrap();
        registry.submit(10).unwrap();
        let given_back: usize = registry.halt().into_iter().sum();
        assert_eq!(given_back + thread.join().unwrap(), 11);
    });
}

#[test]
fn a_worker_can_retire_and_be_woken_again() {
    model(|| {
        let registry = Arc::new(Jobs::new(1));
        let job = Arc::new(Counted::default());
        assert!(registry.publish(Arc::clone(&job)));
        let thread = thread::spawn({
            let registry = Arc::clone(&registry);
            // Retired: it takes nothing by itself, and only comes when it is called.
            move || {
                let mut helped = 0;
                while let Next::Help(..) = registry.next(0, LINGER, |_| None) {
                    helped += 1;
                }
                helped
            }
        });
        let woken = registry.wake_for(&job, 1) + registry.wake_for(&job, 1);
        registry.drain();
        assert_eq!(thread.join().unwrap(), woken);
    });
}
