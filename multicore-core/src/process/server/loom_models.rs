//! loom models of how channels and calls are handed over between callers and a worker's thread: the production code
//! of `pool`, `link` and `call` under every interleaving, with sockets that nobody answers on. Run as those of
//! the crate's root. Single orders, step by step, are in `hand_over`.

use std::sync::Arc;

use bytes::Bytes;
use loom::thread;
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::call::{Request, Ticket, Wanted};
use super::channel::{Channel, Flight};
use super::keeper::look_for_channel;
use super::link::{Link, Mail};
use super::pool::{Pool, State};
use super::spawn::Process;
use super::words::Words;
use crate::process::error::ProcessError;
use crate::process::settings::ProcessSettings;
use crate::process::shared::memory::ControlPage;
use crate::process::shared::socket::{self, Inbox};
use crate::process::tasks::Tasks;

type Answer = oneshot::Receiver<Result<Bytes, ProcessError>>;

/// Explores every interleaving with up to so many preemptions, as the models of the crate's root.
fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

/// A pool with so many workers' places, each with an idle channel, and what keeps the channels open.
struct Stage {
    pool: Arc<Pool>,
    processes: Vec<Arc<Process>>,
    _open: Vec<Box<dyn std::any::Any>>,
}

fn stage(workers: usize) -> Stage {
    let links: Vec<_> = (0..workers).map(|n| Arc::new(Link::new(n, "worker".to_owned()).unwrap())).collect();
    let pool = Arc::new(Pool::new(Tasks::new().init().0, ProcessSettings::default(), links.clone()));
    let (mut processes, mut open) = (Vec::new(), Vec::<Box<dyn std::any::Any>>::new());
    for link in links {
        let (socket, control) = socket::pair().unwrap();
        // This one: it is alive, and never looked at.
        let process = Arc::new(Process::new(pidfd_open(getpid(), PidfdFlags::empty()).unwrap()));
        let words = Words::new("worker").unwrap();
        link.register(&socket, &process.file, words.0.pipe()).unwrap();
        let page = ControlPage::new(ControlPage::file().unwrap()).unwrap();
        let (place, of_channel) = (Arc::clone(&link.place), Arc::clone(&process));
        let channel = Channel::new(place, getpid(), of_channel, socket, page, Inbox::new(), false);
        pool.is_up();
        pool.next(channel);
        processes.push(process);
        open.push(Box::new((control, words)));
    }
    Stage { pool, processes, _open: open }
}

fn request() -> (Request, Answer) {
    let (answer, receiver) = oneshot::channel();
    let (argument, ticket) = (Bytes::from_static(b"argument"), Arc::<Ticket>::default());
    (Request { task: 0, argument, ticket, answer, limit: None, tries: 0, may_repeat: false }, receiver)
}

impl Stage {
    fn link(&self) -> &Arc<Link> {
        &self.pool.links[0]
    }

    /// What the first worker's thread does until its channel is home, once the process has ended: as `keeper` does, but
    /// for what it does with the process.
    fn keep(&self) -> (Channel, Option<Flight>) {
        let (mut home, mut has_ended) = (None, false);
        loop {
            let happened = self.link().wait(None).unwrap();
            if happened.ended {
                has_ended = true;
                self.processes[0].note_end();
            }
            if happened.woken {
                for mail in self.link().take_mail() {
                    match mail {
                        Mail::Back(channel) if has_ended => home = Some((channel, None)),
                        Mail::Back(channel) => self.pool.next(channel),
                        Mail::Send(channel, request) => self.pool.begin(channel, request),
                        Mail::Broken(channel, flight) => home = Some((channel, Some(flight))),
                        Mail::Breach(..) | Mail::Late(..) => panic!("nobody sends it here"),
                    }
                }
                if let Some((channel, flight)) = self.link().take_unwanted() {
                    // It would be killed, and the call is over.
                    drop(flight);
                    home = Some((channel, None));
                }
            }
            if has_ended && home.is_none() {
                home = look_for_channel(&self.pool, self.link());
            }
            if has_ended && let Some(home) = home {
                return home;
            }
        }
    }

    fn end(&self) -> impl FnOnce() + use<> {
        let place = Arc::clone(&self.link().place);
        move || place.wakeup.end()
    }
}

#[test]
fn a_channel_comes_home_whoever_has_it_when_its_process_ends() {
    model(|| {
        let stage = stage(1);
        let ended = thread::spawn(stage.end());
        let (call, mut answer) = request();
        let caller = thread::spawn({
            let pool = Arc::clone(&stage.pool);
            move || pool.submit(call).unwrap()
        });
        let (_channel, flight) = stage.keep();
        caller.join().unwrap();
        ended.join().unwrap();
        // The call is with the channel, or waits for another; it is neither lost nor answered.
        let waits = stage.pool.stats().queue;
        assert_eq!(usize::from(flight.is_some()) + waits, 1);
        assert_eq!(answer.try_recv().unwrap_err(), TryRecvError::Empty);
        assert!(stage.pool.take_idle(0).is_none() && stage.link().take_watched().is_none());
    });
}

#[test]
fn a_channel_that_a_caller_is_done_with_comes_home() {
    // After an answer that the caller received itself, and in place of a call that was not sent.
    for done in [Pool::give_back, Pool::next] {
        model(move || {
            let stage = stage(1);
            let (call, _answer) = request();
            let Some((channel, _)) = stage.pool.take_or_queue(call).unwrap() else { panic!("it is idle") };
            let ended = thread::spawn(stage.end());
            let caller = thread::spawn({
                let pool = Arc::clone(&stage.pool);
                move || done(&pool, channel)
            });
            let (_channel, flight) = stage.keep();
            caller.join().unwrap();
            ended.join().unwrap();
            assert!(flight.is_none());
            assert!(stage.pool.take_idle(0).is_none());
        });
    }
}

#[test]
fn a_call_that_nobody_wants_is_found_however_late_its_caller_leaves() {
    model(|| {
        let stage = stage(1);
        let (call, mut answer) = request();
        let wanted = Wanted::new(&call.ticket);
        let caller = thread::spawn({
            let pool = Arc::clone(&stage.pool);
            move || pool.submit(call).unwrap()
        });
        let leaver = thread::spawn(move || drop(wanted));
        // The thread may be woken at any time, and look too early.
        let looker = thread::spawn({
            let link = Arc::clone(stage.link());
            move || {
                if link.place.wakeup.is_set() {
                    link.place.sleep();
                    return link.take_unwanted().is_some();
                }
                false
            }
        });
        caller.join().unwrap();
        leaver.join().unwrap();
        let found = looker.join().unwrap();
        let left = !found && stage.link().take_watched().is_some();
        // Never is it left there with nobody to be woken for it.
        assert!(!left || stage.link().place.wakeup.is_set());
        // It is dropped where it was found.
        assert_eq!(answer.try_recv().unwrap_err(), TryRecvError::Closed);
    });
}

#[test]
fn no_call_waits_beside_an_idle_channel() {
    for done in [Pool::give_back, Pool::next] {
        model(move || {
            let stage = stage(2);
            // One is busy, and becomes free while two calls come: a new one, and one whose worker has died.
            let (first, _first) = request();
            let Some((busy, _)) = stage.pool.take_or_queue(first).unwrap() else { panic!("two were idle") };
            let (second, _second) = request();
            let (third, _third) = request();
            let caller = thread::spawn({
                let pool = Arc::clone(&stage.pool);
                move || pool.submit(second).unwrap()
            });
            let dead = thread::spawn({
                let pool = Arc::clone(&stage.pool);
                move || pool.repeat(third)
            });
            done(&stage.pool, busy);
            caller.join().unwrap();
            dead.join().unwrap();
            for link in &stage.pool.links {
                let mail = link.take_mail();
                assert!(mail.is_empty() || link.place.wakeup.is_set());
                for mail in mail {
                    let Mail::Back(channel) = mail else { panic!("nobody sends it here") };
                    stage.pool.next(channel);
                }
            }
            let watched = stage.pool.links.iter().filter(|link| link.take_watched().is_some()).count();
            let idle = (0..2).filter(|index| stage.pool.take_idle(*index).is_some()).count();
            let waits = stage.pool.stats().queue;
            assert_eq!((watched, idle, waits), (2, 0, 0));
        });
    }
}

#[test]
fn a_channel_that_becomes_free_while_the_pool_ends_goes_to_its_thread() {
    for done in [Pool::give_back, Pool::next] {
        for state in [State::Draining, State::Halted] {
            model(move || {
                let stage = stage(1);
                let (call, _answer) = request();
                let Some((channel, _)) = stage.pool.take_or_queue(call).unwrap() else {
                    panic!("it is idle")
                };
                let caller = thread::spawn({
                    let pool = Arc::clone(&stage.pool);
                    move || done(&pool, channel)
                });
                stage.pool.close(state);
                caller.join().unwrap();
                assert!(stage.pool.take_idle(0).is_none());
                assert!(matches!(stage.link().take_mail()[..], [Mail::Back(_)]));
                assert!(stage.link().place.wakeup.is_set());
            });
        }
    }
}

#[test]
fn a_call_that_comes_while_the_pool_ends_is_told_or_is_with_its_worker() {
    model(|| {
        let stage = stage(1);
        let (call, mut answer) = request();
        let (other, mut other_answer) = request();
        let caller = thread::spawn({
            let pool = Arc::clone(&stage.pool);
            move || {
                let refused = pool.submit(call).is_err();
                let other_refused = pool.submit(other).is_err();
                (refused, other_refused)
            }
        });
        stage.pool.close(State::Halted);
        let (refused, other_refused) = caller.join().unwrap();
        let watched = usize::from(stage.link().take_watched().is_some());
        let home = stage.link().take_mail().len();
        // The channel is where its thread finds it, and the thread is woken.
        assert_eq!((watched + home, stage.pool.take_idle(0).is_none()), (1, true));
        assert!(stage.link().place.wakeup.is_set());
        // A call is refused, cut, or was with the channel that was just dropped.
        let told = |answer: &mut Answer| match answer.try_recv() {
            Ok(Err(ProcessError::Stopped)) => (1, 0),
            Err(TryRecvError::Closed) => (0, 1),
            other => panic!("{other:?}"),
        };
        let (mut cut, mut dropped) = (0, 0);
        for (refused, answer) in [(refused, &mut answer), (other_refused, &mut other_answer)] {
            match told(answer) {
                (0, 1) if refused => {}
                (now_cut, now_dropped) => {
                    assert!(!refused);
                    cut += now_cut;
                    dropped += now_dropped;
                }
            }
        }
        assert_eq!(dropped, watched);
        assert!(cut <= 2 - watched);
    });
}
