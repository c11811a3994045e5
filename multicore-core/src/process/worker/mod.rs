//! The worker's side: what a process does that was started as one.

mod serve;
mod sink;

use std::env;
use std::fmt::Display;
use std::io;
use std::os::fd::OwnedFd;
use std::process::exit;

use rustix::net::SocketType;
use rustix::process::{Pid, Resource, Rlimit, getppid, getrlimit, setrlimit};

use super::connection::set_url;
use super::registry::Registry;
use super::shared::memory::{ControlPage, close_inherited, end_with_parent};
use super::shared::socket::{self, Got, Inbox};
use super::shared::wire::{Hello, VERSION, Welcome};
use serve::Server;

/// Set in workers, to their server's process number. What a worker starts inherits it, and so may have no worker
/// processes either: whoever forgets `init` gets an error and not more and more processes.
pub(super) const VARIABLE: &str = "MULTICORE_WORKER_OF";

/// What a worker that is not understood by its server exits with, or that does not understand it.
const EXIT: i32 = 70;

/// Whether this process is a worker, or was started by one.
pub(super) fn is_inside() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// Where this process was started as a worker: works, and never returns.
pub(super) fn become_one(tasks: &Registry) {
    let Some(server) = env::var_os(VARIABLE) else { return };
    // What a worker starts has the variable as well, and another standard input.
    let is_control = rustix::net::sockopt::socket_type(rustix::stdio::stdin())
        .is_ok_and(|kind| kind == SocketType::SEQPACKET);
    if !is_control {
        return;
    }
    let server = server.to_str().and_then(|server| server.parse().ok()).and_then(Pid::from_raw);
    let Some(server) = server else { return give_up("read the number of its server", "it is no number") };
    let control = match prepare(server) {
        Ok(control) => control,
        Err(error) => return give_up("prepare itself", error),
    };
    match greet(tasks, control) {
        Ok(Some(server)) => server.serve(tasks),
        // The server is gone.
        Ok(None) => exit(0),
        Err(error) => give_up("greet its server", error),
    }
}

fn give_up(step: &str, error: impl Display) {
    eprintln!("a worker process failed to {step}: {error}");
    exit(EXIT);
}

/// Takes the control socket off the standard input, drops what was inherited, and binds itself to the server.
fn prepare(server: Pid) -> io::Result<OwnedFd> {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let nothing = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    close_inherited(std::os::fd::AsFd::as_fd(&control))?;
    end_with_parent()?;
    allow_many_descriptors();
    // It may have died before that.
    if getppid() != Some(server) {
        exit(0);
    }
    if let Err(error) = offer_itself() {
        eprintln!("a worker process could not raise its oom score: {error}");
    }
    Ok(control)
}

/// There is one for each result that the server holds, so this many, or as many as the system allows. Not without limit:
/// what a task starts inherits it, and there are programs that close all that there could be, one by one.
fn allow_many_descriptors() {
    const MANY: u64 = 65_536;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most = maximum.map_or(MANY, |maximum| maximum.min(MANY));
    if current.is_some_and(|current| current < most) {
        // Where it is refused, fewer can be held.
        let _refused = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum });
    }
}

/// Where memory runs out, this process is to go before its server. Some sandboxes do not allow it.
fn offer_itself() -> io::Result<()> {
    const SCORE: &str = "/proc/self/oom_score_adj";
    let now: i32 = std::fs::read_to_string(SCORE)?.trim().parse().map_err(io::Error::other)?;
    std::fs::write(SCORE, (now + 500).min(1_000).to_string())
}

/// Says hello and takes the welcome.
fn greet(tasks: &Registry, control: OwnedFd) -> io::Result<Option<Server>> {
    let hello = Hello { version: VERSION, registry: tasks.fingerprint(), pid: std::process::id() };
    socket::put(&control, &hello.encode(), &[], true)?;
    let mut inbox = Inbox::new();
    let Got::Packet(len) = inbox.get(&control, true)? else { return Ok(None) };
    let welcome =
        Welcome::decode(inbox.packet(len)).map_err(|garbled| io::Error::other(garbled.to_string()))?;
    set_url(welcome.url.clone());
    let page = inbox.files.pop().ok_or_else(|| io::Error::other("no control page came"))?;
    let page = ControlPage::new(page)?;
    Server::new(control, inbox, page, &welcome).map(Some)
}
