//! What the tests see of the system: processes, descriptors and memory, gates that tasks wait at, and tests that
//! need a process of their own.

use std::fs;
use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// How long anything may take before a test gives up instead of hanging. Never a claim about speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what must come, and fails where it does not.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what).await.expect("what must come did not come")
}

/// Looks again and again until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it never was so: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The same for async tests.
pub(crate) async fn until_async(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it never was so: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    // It may be gone by itself.
    let _gone = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
}

/// The state and the parent of a process, if there is one; a zombie is one, in state Z.
fn state(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

pub(crate) fn exists(pid: u32) -> bool {
    state(pid).is_some()
}

/// Whether it runs: a zombie does not, whose parent has not waited for it yet.
pub(crate) fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// Stops a process, and waits until all its threads are: the system tells one after the other.
pub(crate) async fn stop(pid: u32) {
    kill(pid, Signal::STOP);
    until_async("stopped", || {
        let Ok(mut threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
        threads.all(|thread| {
            let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
        })
    })
    .await;
}

/// The children of a process, zombies included.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| state(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// What the descriptors of a process are of.
pub(crate) fn descriptors(pid: u32) -> Vec<PathBuf> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
}

/// What this process has that worker processes could have left: what its descriptors are of, and shared maps.
pub(crate) fn holdings() -> Vec<String> {
    let open = descriptors(std::process::id());
    // Without the numbers of sockets and pipes, which are others every time.
    let open = open.iter().map(|of| of.to_string_lossy().split([':', '[']).next().unwrap().to_owned());
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let maps = maps.lines().filter(|line| line.contains("memfd:multicore")).map(str::to_owned);
    let mut all: Vec<_> = open.chain(maps).collect();
    all.sort_unstable();
    all
}

/// Waits until this process has again what it had.
pub(crate) async fn until_given_back(before: &[String]) {
    let end = Instant::now() + PATIENCE;
    while holdings() != before {
        assert!(Instant::now() < end, "not given back: there were {before:#?}, there are {:#?}", holdings());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Whether the test runs in a process of its own, for what belongs to a whole process, such as its signals. If not,
/// runs it in one, and says no: the test is over then.
pub(crate) fn alone(test: &str) -> bool {
    if std::env::var_os("MULTICORE_TEST_ALONE").is_some() {
        return true;
    }
    let status = itself(test).status().unwrap();
    assert!(status.success(), "{test} failed in its process: {status}");
    false
}

/// This program, to run one of its tests alone.
pub(crate) fn itself(test: &str) -> Command {
    through(std::env::current_exe().unwrap(), test)
}

pub(crate) fn through(program: impl AsRef<Path>, test: &str) -> Command {
    let mut command = Command::new(program.as_ref());
    command.args([test, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"]);
    command.env("MULTICORE_TEST_ALONE", "1").stdin(Stdio::null());
    command
}

/// The same in a process group of its own, as a shell's foreground job.
pub(crate) fn job(test: &str) -> Command {
    let mut command = itself(test);
    command.process_group(0);
    command
}

/// Where tasks wait until the test lets them go on.
pub(crate) struct Gate {
    listener: UnixListener,
    folder: tempfile::TempDir,
}

/// A task that waits at a gate, or waited.
pub(crate) struct Waiting {
    stream: tokio::net::UnixStream,
    /// Its process's number, or another that it tells.
    pub(crate) pid: u32,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Gate { listener: UnixListener::bind(folder.path().join("gate")).unwrap(), folder }
    }

    /// The argument of the task.
    pub(crate) fn path(&self) -> String {
        self.folder.path().join("gate").to_str().unwrap().to_owned()
    }

    /// The next task that has come.
    pub(crate) async fn arrival(&self) -> Waiting {
        let (mut stream, _) = soon(self.listener.accept()).await.unwrap();
        let pid = soon(stream.read_u32_le()).await.unwrap();
        Waiting { stream, pid }
    }

    /// Whether a task is there that was not seen yet.
    pub(crate) fn is_empty(&self) -> bool {
        use futures_util::FutureExt;
        self.listener.accept().now_or_never().is_none()
    }
}

impl Waiting {
    /// Lets it go on.
    pub(crate) async fn release(mut self) {
        self.stream.write_all(b"!").await.unwrap();
    }

    /// Waits until whoever waits here is gone.
    pub(crate) async fn until_cut(mut self) {
        // A reset is an end as well.
        let _end = soon(self.stream.read(&mut [0])).await;
    }
}

/// The task's side: tells a number and waits.
pub(crate) fn wait_at(path: &str, number: u32) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(&number.to_le_bytes())?;
    match stream.read(&mut [0])? {
        1 => Ok(()),
        _ => Err(std::io::Error::other("the gate was torn down")),
    }
}
