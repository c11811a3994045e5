//! The program as a process: started in a folder of its own, waited for by what it says, and never
//! left behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, PidfdFlags, kill_process, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

/// What a test waits for at most before it gives up; nothing is expected to take as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How to start the program.
pub(crate) struct Start {
    pub(crate) folder: TempDir,
    command: Command,
}

/// The program, not started yet, with these arguments.
pub(crate) fn program<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Start {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_example-app"));
    command.args(arguments).current_dir(folder.path());
    for (name, _) in std::env::vars_os() {
        if name == "RUST_LOG" || name.to_string_lossy().starts_with("APP__") {
            command.env_remove(name);
        }
    }
    Start { folder, command }
}

impl Start {
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Ended {
        let mut running = self.spawn();
        let mut stdout = String::new();
        running.stdout.as_mut().unwrap().read_to_string(&mut stdout).unwrap();
        let status = running.wait();
        let stderr: Vec<String> = running.log.iter().collect();
        Ended { status, stdout, stderr: stderr.join("\n"), running }
    }

    /// Starts it and waits until it listens.
    pub(crate) fn listen(self) -> Running {
        let mut running = self.spawn();
        let mut line = String::new();
        running.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        let Some(address) = line.strip_prefix("listening on http://") else {
            panic!("{line:?} on standard output, and {:?}", running.log.iter().collect::<Vec<_>>());
        };
        running.address = address.strip_suffix('\n').unwrap().to_owned();
        running
    }

    /// Starts it with a standard output that fails.
    pub(crate) fn without_output(self) -> Running {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        self.spawn_with(full.into())
    }

    fn spawn(self) -> Running {
        self.spawn_with(Stdio::piped())
    }

    fn spawn_with(mut self, stdout: Stdio) -> Running {
        let command = self.command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // A test that is over does not listen any more.
                let _heard = send.send(line);
            }
        });
        Running { folder: self.folder, child, stdout, log, address: String::new() }
    }
}

/// The program while it runs. Dropping it kills it.
pub(crate) struct Running {
    pub(crate) folder: TempDir,
    pub(crate) address: String,
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    log: Receiver<String>,
}

impl Running {
    /// Waits for a line of its log.
    pub(crate) fn logged(&self, text: &str) {
        while !self.log.recv_timeout(PATIENCE).expect("the log goes on").contains(text) {}
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The status line, the headers in lower case and the body of an answer.
    pub(crate) fn get(&self, path: &str) -> (String, Vec<u8>) {
        self.request("GET", path, b"")
    }

    pub(crate) fn request(&self, method: &str, path: &str, body: &[u8]) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (host, length) = (&self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("the headers end");
        let body = answer.split_off(end + 4);
        (String::from_utf8(answer).unwrap().to_lowercase(), body)
    }

    /// Its worker processes.
    pub(crate) fn workers(&self) -> Vec<Worker> {
        let parent = self.child.id();
        let is_child = |pid: &u32| {
            // `pid (name) state parent …`; it may have ended by now.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let after_name = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
            after_name.and_then(|mut rest| rest.nth(1)?.parse().ok()) == Some(parent)
        };
        let entries = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
        entries
            .filter_map(|name| name.to_str()?.parse().ok())
            .filter(is_child)
            .filter_map(Worker::new)
            .collect()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        // The log ends with the process; waiting for the process itself cannot be given up.
        let mut seen = Vec::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => seen.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end; it said {seen:?}"),
            }
        }
        let (send, log) = mpsc::channel();
        for line in seen {
            send.send(line).unwrap();
        }
        self.log = log;
        self.child.wait().unwrap()
    }
}

/// A worker process of the program. What it stands for stays the same process, whoever gets its number later.
pub(crate) struct Worker {
    pub(crate) pid: u32,
    process: OwnedFd,
}

impl Worker {
    fn new(pid: u32) -> Option<Self> {
        let process = pidfd_open(Pid::from_raw(pid as i32)?, PidfdFlags::empty()).ok()?;
        Some(Worker { pid, process })
    }

    pub(crate) fn kill(&self) {
        pidfd_send_signal(&self.process, Signal::KILL).unwrap();
    }

    /// Whether it has ended, or does so within this time.
    pub(crate) fn ends_within(&self, patience: Duration) -> bool {
        let timeout = Timespec::try_from(patience).unwrap();
        let ended = poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&timeout));
        ended.unwrap() == 1
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, most often.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The program after its end.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    running: Running,
}

impl Ended {
    pub(crate) fn folder(&self) -> &Path {
        self.running.folder.path()
    }

    /// The names of what it left in its folder.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
