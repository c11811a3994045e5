//! A worker's start: the process, and the greeting. Whatever fails, nothing of it is left.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::channel::Channel;
use super::link::Link;
use super::pool::{Pool, State};
use super::words::Words;
use crate::process::error::{End, ProcessStartError};
use crate::process::shared::memory::ControlPage;
use crate::process::shared::socket::{self, Got, Inbox};
use crate::process::shared::wire::{Hello, VERSION, Welcome};
use crate::process::worker::VARIABLE;
use crate::sync::atomic::{AtomicBool, Ordering};

/// How long a start waits at a time before it looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A worker's process, as its thread and whoever uses its channel know it.
pub(super) struct Process {
    /// Its pidfd, readable once it has ended.
    pub(super) file: OwnedFd,
    /// Set by its thread before that looks for the channel, so that nobody puts it by unseen after that.
    has_ended: AtomicBool,
}

impl Process {
    pub(super) fn new(file: OwnedFd) -> Self {
        Process { file, has_ended: AtomicBool::new(false) }
    }

    pub(super) fn note_end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }
}

/// A worker's process, and what it writes.
pub(super) struct Child {
    pub(super) pid: Pid,
    pub(super) process: Arc<Process>,
    pub(super) words: Words,
    is_waited_for: bool,
}

impl Child {
    /// Kills the process and all it has started.
    pub(super) fn kill(&self) {
        // The number is the group's as long as the process was not waited for. That it is gone is no failure.
        let _gone = kill_process_group(self.pid, Signal::KILL);
    }

    /// How it ended; it has, or is killed. What it had started is killed with it.
    pub(super) fn end(&mut self) -> End {
        self.kill();
        self.is_waited_for = true;
        loop {
            match waitid(WaitId::PidFd(self.process.file.as_fd()), WaitIdOptions::EXITED) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(Some(status)) => {
                    let signal = status.terminating_signal().map(End::Signal);
                    return signal.or(status.exit_status().map(End::Exit)).unwrap_or(End::Unknown);
                }
                // Somebody else has waited for it.
                Ok(None) | Err(_) => return End::Unknown,
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_waited_for {
            self.end();
        }
    }
}

/// Starts a worker. Call it on the thread that lives as long as the worker may: the worker dies with it.
pub(super) fn spawn(pool: &Pool, link: &Arc<Link>) -> Result<(Child, Channel), ProcessStartError> {
    let refused = |step| {
        let worker = link.name().to_owned();
        move |source: io::Error| ProcessStartError::System { worker, step, source: source.into() }
    };
    let (socket, control) = socket::pair().map_err(refused("make its socket"))?;
    let (words, out) = Words::new(link.name()).map_err(refused("make its pipe"))?;
    let err = out.try_clone().map_err(refused("make its pipe"))?;
    // The running program itself, even if its file was replaced or deleted meanwhile.
    let spawned = Command::new("/proc/self/exe")
        .arg0(link.name())
        .args(&pool.program.arguments)
        .env(VARIABLE, std::process::id().to_string())
        .stdin(Stdio::from(control))
        .stdout(Stdio::from(out))
        .stderr(Stdio::from(err))
        // Of its own: the terminal's Ctrl-C is for the server, and what it starts can be killed with it.
        .process_group(0)
        .spawn();
    let child = spawned.map_err(refused("start"))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| refused("start")(io::Error::other("it has no number")))?;
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(file) => Arc::new(Process::new(file)),
        Err(error) => {
            let mut child = child;
            let _gone = (child.kill(), child.wait());
            return Err(refused("be watched")(error.into()));
        }
    };
    let mut child = Child { pid, process, words, is_waited_for: false };
    let (page, inbox) = greet(pool, link, &mut child, &socket)?;
    link.register(&socket, &child.process.file, child.words.pipe()).map_err(refused("be watched"))?;
    let process = Arc::clone(&child.process);
    let copy = pool.settings.copy_results;
    let channel = Channel::new(Arc::clone(&link.place), pid, process, socket, page, inbox, copy);
    Ok((child, channel))
}

/// Waits for its hello and welcomes it.
fn greet(
    pool: &Pool,
    link: &Link,
    child: &mut Child,
    socket: &OwnedFd,
) -> Result<(ControlPage, Inbox), ProcessStartError> {
    let worker = || link.name().to_owned();
    let refused = |step| {
        move |source: io::Error| ProcessStartError::System {
            worker: link.name().to_owned(),
            step,
            source: source.into(),
        }
    };
    let mut inbox = Inbox::new();
    let after = pool.settings.start_timeout;
    let until = Instant::now() + after;
    let len = loop {
        let has_ended = await_something(child, socket).map_err(refused("be waited for"))?;
        match inbox.get(socket, false).map_err(refused("say hello"))? {
            Got::Packet(len) => break len,
            Got::Nothing if !has_ended => {}
            Got::Nothing | Got::End => {
                let end = child.end();
                child.words.read();
                return Err(ProcessStartError::Died {
                    worker: worker(),
                    end,
                    last_words: child.words.last(),
                });
            }
        }
        if Instant::now() >= until {
            let last_words = child.words.last();
            return Err(ProcessStartError::Silent { worker: worker(), after, last_words });
        }
        if pool.state() == State::Halted {
            return Err(ProcessStartError::Stopped);
        }
    };
    check(inbox.packet(len), child.pid, pool.program.tasks.fingerprint())
        .map_err(|difference| ProcessStartError::Stranger { worker: worker(), difference })?;
    let file = ControlPage::file().map_err(refused("get its control page"))?;
    let page = ControlPage::new(&file).map_err(refused("get its control page"))?;
    let welcome = Welcome {
        name: worker(),
        max_result: pool.settings.max_result.unwrap_or(u64::MAX),
        max_memory: pool.settings.max_memory.unwrap_or(u64::MAX),
        url: pool.program.url.clone(),
    };
    socket::put(socket, &welcome.encode(), &[file.as_fd()], false).map_err(refused("be welcomed"))?;
    Ok((page, inbox))
}

fn check(hello: &[u8], pid: Pid, registry: u64) -> Result<(), String> {
    let hello = Hello::decode(hello).map_err(|garbled| garbled.to_string())?;
    if hello.version != VERSION {
        return Err(format!("it speaks version {} of the protocol, the server {VERSION}", hello.version));
    }
    if hello.registry != registry {
        return Err("it has other tasks; `Tasks` must be built the same way in every process".to_owned());
    }
    if i32::try_from(hello.pid) != Ok(pid.as_raw_nonzero().get()) {
        return Err(format!("process {} says hello, {pid:?} was started", hello.pid));
    }
    Ok(())
}

/// Waits for a packet or the end, for a while, and takes what it writes meanwhile. Whether it ended.
fn await_something(child: &mut Child, socket: &OwnedFd) -> io::Result<bool> {
    let mut fds = [
        PollFd::new(socket, PollFlags::IN),
        PollFd::new(&child.process.file, PollFlags::IN),
        PollFd::from_borrowed_fd(child.words.pipe(), PollFlags::IN),
    ];
    let within = Timespec::try_from(LOOK_EVERY).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&within)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let has_ended = fds[1].revents().contains(PollFlags::IN);
    // At its end the pipe is always ready; the process is then too, or soon.
    child.words.read();
    Ok(has_ended)
}
