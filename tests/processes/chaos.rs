//! Everything at once: calls of every length from async callers and from threads, callers that leave, times that
//! are up, and workers that are killed at any moment.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use multicore_core::process::{Packed, ProcessError, Processes, Tasks};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::system::{PATIENCE, alone, children_of, holdings, kill, soon, until_async, until_given_back};
use crate::tasks::{pool, settings};

/// What one task is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Work {
    number: u64,
    /// Of its result, in bytes.
    len: usize,
    /// How long it computes: so many steps.
    steps: u32,
    /// Where it notes that it has begun.
    log: String,
    /// Its argument may be long as well.
    #[serde(with = "serde_bytes_like")]
    ballast: Vec<u8>,
}

/// Bytes as MessagePack has them, not as a list of numbers.
mod serde_bytes_like {
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        from.deserialize_bytes(Visitor)
    }
}

pub(crate) fn add<C: Send + 'static>(tasks: Tasks<C>) -> Tasks<C> {
    tasks.add("work", work).add_idempotent("work-again", work)
}

fn work(Packed(work): Packed<Work>) -> io::Result<Vec<u8>> {
    // Eight bytes at the end of a file are written at once, whoever else writes.
    OpenOptions::new().append(true).open(&work.log)?.write_all(&work.number.to_le_bytes())?;
    if work.ballast.iter().any(|byte| *byte != work.number as u8) {
        return Err(io::Error::other("another call's argument"));
    }
    let mut state = work.number;
    for _ in 0..work.steps {
        state = std::hint::black_box(mixed(state));
    }
    Ok(expected(&work))
}

fn mixed(state: u64) -> u64 {
    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407).rotate_left(23)
}

fn expected(work: &Work) -> Vec<u8> {
    let mut state = mixed(work.number);
    let mut bytes = Vec::with_capacity(work.len + 8);
    while bytes.len() < work.len {
        state = mixed(state);
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(work.len);
    bytes
}

/// What came of the calls.
#[derive(Debug, Default)]
struct Tally {
    right: usize,
    wrong: usize,
    died: usize,
    late: usize,
    left: usize,
    unavailable: usize,
    others: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.died += other.died;
        self.late += other.late;
        self.left += other.left;
        self.unavailable += other.unavailable;
        self.others.extend(other.others);
    }

    fn note(&mut self, work: &Work, answer: Result<Bytes, ProcessError>, held: &mut Vec<(Work, Bytes)>) {
        match answer {
            Ok(bytes) if bytes == expected(work) => {
                self.right += 1;
                // Some are held for long.
                held.push((work.clone(), bytes));
                if held.len() > 8 {
                    let at = work.number as usize % held.len();
                    self.check(held.swap_remove(at));
                }
            }
            Ok(_) => self.wrong += 1,
            Err(ProcessError::Died { .. }) => self.died += 1,
            Err(ProcessError::Timeout { .. }) => self.late += 1,
            Err(ProcessError::Unavailable { .. }) => self.unavailable += 1,
            Err(error) => self.others.push(error.to_string()),
        }
    }

    fn check(&mut self, (work, bytes): (Work, Bytes)) {
        if bytes != expected(&work) {
            self.wrong += 1;
        }
    }

    fn answered(&self) -> usize {
        self.right + self.wrong + self.died + self.late + self.left + self.unavailable + self.others.len()
    }
}

/// The calls of one run, handed out by number.
struct Run {
    processes: Processes,
    next: AtomicUsize,
    calls: usize,
    done: watch::Sender<usize>,
    log: String,
}

impl Run {
    fn next(&self) -> Option<(Work, u64)> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        if number >= self.calls {
            return None;
        }
        let dice = mixed(mixed(number as u64));
        let len = match dice % 16 {
            0 => 0,
            1..=8 => (dice >> 8) % 1_000,
            9..=12 => 10_000 + (dice >> 8) % 20_000,
            13 | 14 => (dice >> 8) % 200_000,
            _ if dice >> 60 & 3 == 0 => (dice >> 8) % 6_000_000,
            _ => (dice >> 8) % 1_000_000,
        };
        let ballast = if dice >> 40 & 7 == 0 { (dice >> 20) % 400_000 } else { (dice >> 20) % 300 };
        let work = Work {
            number: number as u64,
            len: len as usize,
            steps: if dice >> 44 & 7 == 0 { 100_000 } else { 100 },
            log: self.log.clone(),
            ballast: vec![number as u8; ballast as usize],
        };
        Some((work, dice >> 48))
    }

    fn task(dice: u64) -> &'static str {
        if dice & 3 == 0 { "work-again" } else { "work" }
    }

    /// One in so many has little time.
    fn processes(&self, dice: u64) -> Processes {
        let limit = if dice >> 2 & 31 == 0 { Duration::from_micros(100 + (dice >> 7) * 4) } else { PATIENCE };
        self.processes.with_timeout(limit)
    }

    fn one_is_done(&self) {
        self.done.send_modify(|done| *done += 1);
    }

    async fn call(&self) -> Tally {
        let (mut tally, mut held) = (Tally::default(), Vec::new());
        while let Some((work, dice)) = self.next() {
            let processes = self.processes(dice);
            let call = processes.run::<_, Bytes>(Self::task(dice), Packed(work.clone()));
            if dice >> 7 & 15 == 0 {
                // Leaves after some turns of others, if there is no answer by then.
                let mut call = std::pin::pin!(call);
                let mut answer = None;
                for _ in 0..(dice >> 11) * 8 {
                    tokio::select! {
                        biased;
                        some = &mut call => { answer = Some(some); break }
                        () = tokio::task::yield_now() => {}
                    }
                }
                match answer {
                    Some(answer) => tally.note(&work, answer, &mut held),
                    None => tally.left += 1,
                }
            } else {
                tally.note(&work, call.await, &mut held);
            }
            self.one_is_done();
        }
        held.into_iter().for_each(|held| tally.check(held));
        tally
    }

    fn call_blocking(&self) -> Tally {
        let (mut tally, mut held) = (Tally::default(), Vec::new());
        while let Some((work, dice)) = self.next() {
            let answer = self.processes(dice).run_blocking(Self::task(dice), Packed(work.clone()));
            tally.note(&work, answer, &mut held);
            self.one_is_done();
        }
        held.into_iter().for_each(|held| tally.check(held));
        tally
    }

    /// Kills a worker whenever so many more calls are done.
    async fn kill(&self, every: usize) -> usize {
        let (mut kills, mut at) = (0, every);
        let mut dones = self.done.subscribe();
        loop {
            let done = *dones.wait_for(|done| *done >= at.min(self.calls)).await.unwrap();
            if done >= self.calls {
                return kills;
            }
            let workers = children_of(std::process::id());
            if !workers.is_empty() {
                kill(workers[mixed(kills as u64) as usize % workers.len()], Signal::KILL);
                kills += 1;
            }
            at = done + every;
        }
    }
}

async fn chaos(calls: usize, every: usize) {
    // Opens what the runtime and the pool keep for good.
    pool(settings(1)).await.shutdown(PATIENCE).await;
    let before = holdings();
    let log = tempfile::NamedTempFile::new().unwrap();
    let mc = pool(settings(3)).await;
    let run = Arc::new(Run {
        processes: mc.processes().clone(),
        next: AtomicUsize::new(0),
        calls,
        done: watch::Sender::new(0),
        log: log.path().to_str().unwrap().to_owned(),
    });
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let run = Arc::clone(&run);
            tokio::spawn(async move { run.call().await })
        })
        .collect();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let run = Arc::clone(&run);
            std::thread::spawn(move || run.call_blocking())
        })
        .collect();
    let kills = run.kill(every).await;
    let mut tally = Tally::default();
    for caller in callers {
        tally.add(soon(caller).await.unwrap());
    }
    for thread in threads {
        tally.add(thread.join().unwrap());
    }
    // Without another call: no worker is lost.
    until_async("all are up and idle", || {
        let stats = run.processes.stats();
        (stats.ready, stats.busy, stats.queue) == (3, 0, 0)
    })
    .await;
    let stats = run.processes.stats();
    println!("{calls} calls, {kills} kills: {tally:?}; {stats:?}");
    assert_eq!(tally.wrong, 0);
    assert_eq!(tally.answered(), calls, "each is answered once");
    assert_eq!(tally.others, [""; 0]);
    assert!(tally.right > calls / 2 && kills > 0 && tally.died + stats.repeated as usize > 0);
    let mut begun = HashMap::<u64, usize>::new();
    for number in std::fs::read(log.path()).unwrap().as_chunks::<8>().0 {
        *begun.entry(u64::from_le_bytes(*number)).or_default() += 1;
    }
    let wrongly: Vec<_> = begun
        .iter()
        .filter(|(number, times)| {
            let dice = mixed(mixed(**number)) >> 48;
            **times > if Run::task(dice) == "work-again" { 2 } else { 1 }
        })
        .collect();
    assert!(wrongly.is_empty(), "run too often: {wrongly:?}");
    assert!(soon(mc.shutdown(PATIENCE)).await.is_clean());
    assert_eq!(children_of(std::process::id()), [0; 0], "no process and no zombie");
    drop((mc, run));
    drop(log);
    until_given_back(&before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_calls_under_kills_are_each_answered_once_and_rightly() {
    if alone("chaos::two_thousand_calls_under_kills_are_each_answered_once_and_rightly") {
        chaos(2_000, 10).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn twenty_thousand_calls_under_kills_are_each_answered_once_and_rightly() {
    if alone("chaos::twenty_thousand_calls_under_kills_are_each_answered_once_and_rightly") {
        chaos(20_000, 5).await;
    }
}
