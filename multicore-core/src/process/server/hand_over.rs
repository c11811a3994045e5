//! Tests of the hand-over of channels and calls between callers and a worker's thread: every order that a race can
//! take is played step by step, so none depends on time.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::oneshot;

use super::call::{Request, Ticket, Wanted};
use super::channel::Channel;
use super::link::{Happened, Link, Mail};
use super::pool::{Pool, State};
use super::spawn::Process;
use super::words::Words;
use crate::process::error::ProcessError;
use crate::process::settings::ProcessSettings;
use crate::process::shared::memory::ControlPage;
use crate::process::shared::socket::{self, Inbox};
use crate::process::tasks::Tasks;

type Answer = oneshot::Receiver<Result<Bytes, ProcessError>>;

/// A pool with one worker's place, a channel to a process that never answers, and the process's end of it.
struct Stage {
    pool: Pool,
    link: Arc<Link>,
    process: Arc<Process>,
    child: std::process::Child,
    _control: OwnedFd,
    _words: (Words, OwnedFd),
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _gone = (self.child.kill(), self.child.wait());
    }
}

fn stage() -> (Stage, Channel) {
    let (socket, control) = socket::pair().unwrap();
    stage_with(socket, control, true)
}

fn stage_with(socket: OwnedFd, control: OwnedFd, is_socket: bool) -> (Stage, Channel) {
    let link = Arc::new(Link::new(0, "worker".to_owned()).unwrap());
    let settings = ProcessSettings::default().max_queue(1 << 20);
    let pool = Pool::new(Tasks::new().init().0, settings, vec![Arc::clone(&link)]);
    let child = Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    let process = Arc::new(Process::new(pidfd_open(pid, PidfdFlags::empty()).unwrap()));
    let words = Words::new("worker").unwrap();
    if is_socket {
        link.register(&socket, &process.file, words.0.pipe()).unwrap();
    }
    let page = ControlPage::new(ControlPage::file().unwrap()).unwrap();
    let channel =
        Channel::new(Arc::clone(&link.place), pid, Arc::clone(&process), socket, page, Inbox::new(), false);
    pool.is_up();
    (Stage { pool, link, process, child, _control: control, _words: words }, channel)
}

fn request() -> (Request, Answer) {
    let (answer, receiver) = oneshot::channel();
    let (argument, ticket) = (Bytes::from_static(b"argument"), Arc::<Ticket>::default());
    (Request { task: 0, argument, ticket, answer, limit: None, tries: 0, may_repeat: false }, receiver)
}

impl Stage {
    /// What the thread would see now.
    fn happened(&self) -> Happened {
        self.link.wait(Some(Duration::from_millis(1))).unwrap()
    }

    /// The thread sees the end, and looks for the channel where it can be.
    fn end(&self) {
        self.process.note_end();
        assert!(self.pool.take_idle(0).is_none() && self.link.take_watched().is_none());
    }

    /// The channel that came back, and its thread is woken for it.
    fn came_back(&self) -> Channel {
        assert!(self.happened().woken);
        match self.link.take_mail().pop() {
            Some(Mail::Back(channel)) => channel,
            _ => panic!("the channel did not come back"),
        }
    }
}

#[test]
fn a_channel_that_is_given_back_after_the_end_goes_to_its_thread() {
    let (stage, channel) = stage();
    stage.pool.next(channel);
    let (call, _answer) = request();
    let (channel, _call) = stage.pool.take_or_queue(call).unwrap().unwrap();
    stage.end();
    stage.pool.give_back(channel);
    let channel = stage.came_back();
    stage.pool.next(channel);
    stage.came_back();
    assert!(stage.pool.take_idle(0).is_none());
}

#[test]
fn a_channel_that_is_given_back_before_the_end_is_found() {
    let (stage, channel) = stage();
    stage.pool.give_back(channel);
    stage.process.note_end();
    assert!(stage.pool.take_idle(0).is_some());
}

#[test]
fn after_the_end_no_waiting_call_is_sent() {
    let (stage, channel) = stage();
    let (call, mut answer) = request();
    assert!(stage.pool.take_or_queue(call).unwrap().is_none(), "no channel is idle");
    stage.end();
    stage.pool.next(channel);
    stage.came_back();
    assert_eq!(stage.pool.stats().queue, 1);
    stage.pool.close(State::Halted);
    assert!(matches!(answer.try_recv().unwrap(), Err(ProcessError::Stopped)));
}

/// The other end of the socket stays open: something that the worker had forked has it.
#[test]
fn a_call_that_is_watched_after_the_end_wakes_the_thread() {
    let (stage, channel) = stage();
    stage.end();
    let (call, _answer) = request();
    stage.pool.begin(channel, call);
    assert!(stage.happened().woken);
    assert!(stage.link.take_watched().is_some());
}

#[test]
fn a_call_whose_caller_leaves_before_it_is_sent_is_not_sent() {
    let (stage, channel) = stage();
    let (call, mut answer) = request();
    drop(Wanted::new(&call.ticket));
    stage.pool.begin(channel, call);
    assert!(stage.link.take_watched().is_none());
    assert!(stage.pool.take_idle(0).is_some());
    assert!(answer.try_recv().is_err(), "it is dropped");
}

#[test]
fn a_call_whose_caller_leaves_while_it_is_sent_wakes_the_thread_once_it_is_there() {
    let (stage, mut channel) = stage();
    let (call, _answer) = request();
    let wanted = Wanted::new(&call.ticket);
    assert!(call.ticket.assign(&stage.link.place));
    drop(wanted);
    // The thread is woken too early, and finds nothing.
    assert!(stage.happened().woken && stage.link.take_unwanted().is_none());
    let Ok(flight) = channel.send(call) else { panic!("it can be sent") };
    stage.link.watch(channel, flight);
    assert!(stage.happened().woken && stage.link.take_unwanted().is_some());
}

#[test]
fn a_caller_that_leaves_late_takes_no_other_call_along() {
    let (stage, mut channel) = stage();
    let (first, _answer) = request();
    let wanted = Wanted::new(&first.ticket);
    assert!(first.ticket.assign(&stage.link.place));
    drop(first);
    let (second, _answer) = request();
    let Ok(flight) = channel.send(second) else { panic!("it can be sent") };
    stage.link.watch(channel, flight);
    // Its answer has just come, and its time is up.
    wanted.timed_out();
    assert!(stage.happened().woken);
    assert!(stage.link.take_unwanted().is_none());
    assert!(stage.link.take_watched().is_some());
}

#[test]
fn calls_that_cannot_be_sent_are_all_told_however_many_wait() {
    let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let (stage, channel) = stage_with(file(), file(), false);
    let mut answers = Vec::new();
    for _ in 0..20_000 {
        let (call, answer) = request();
        assert!(stage.pool.take_or_queue(call).unwrap().is_none());
        answers.push(answer);
    }
    stage.pool.next(channel);
    for mut answer in answers {
        let Err(ProcessError::System { source, .. }) = answer.try_recv().unwrap() else {
            panic!("no socket")
        };
        assert_ne!(source.kind(), io::ErrorKind::BrokenPipe);
    }
    assert!(stage.pool.take_idle(0).is_some());
}

#[test]
fn a_call_goes_to_the_front_of_the_queue_again_and_not_for_ever() {
    let (stage, channel) = stage();
    let (first, _first) = request();
    assert!(stage.pool.take_or_queue(first).unwrap().is_none());
    let (mut again, mut told) = request();
    again.tries = 2;
    let ticket = Arc::clone(&again.ticket);
    stage.pool.repeat(again);
    stage.pool.next(channel);
    let (_, flight) = stage.link.take_watched().unwrap();
    assert!(Arc::ptr_eq(&flight.request.ticket, &ticket));
    let mut again = flight.request;
    again.tries = 3;
    stage.pool.repeat(again);
    assert!(matches!(told.try_recv().unwrap(), Err(ProcessError::Unavailable { .. })));
}
