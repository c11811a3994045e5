//! The contestants: each is asked for so many bytes and gives them, made the same way in each of them. Those
//! that are processes live as long as they are asked.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio, exit};
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use ipc_channel::ipc::{
    self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender, IpcSharedMemory,
};
use multicore_core::Multicore;
use multicore_core::process::{InPlace, Output, ProcessSettings, Processes, Registered, Tasks};
use tokio::sync::oneshot;

/// Which peer a process of this executable is, if any.
const VARIABLE: &str = "MULTICORE_BENCH_PEER";

/// The result that is asked for, the same everywhere.
fn make(len: u64) -> Vec<u8> {
    vec![7; len as usize]
}

/// Reads all of a result, as whoever asked for it would.
pub(crate) fn check(result: &[u8], len: usize) {
    assert_eq!(result.len(), len);
    let (words, rest) = result.as_chunks::<8>();
    let words = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    let rest = rest.iter().fold(0_u64, |sum, byte| sum + u64::from(*byte));
    let expected = (len as u64 / 8).wrapping_mul(0x0707_0707_0707_0707).wrapping_add(len as u64 % 8 * 7);
    assert_eq!(words.wrapping_add(rest), expected);
}

/// The same where it is read, without a `Vec` in between.
fn write(len: u64, out: &mut Output<'_>) -> io::Result<()> {
    let piece = [7; 16 * 1024];
    let mut left = len as usize;
    while left > 0 {
        let some = left.min(piece.len());
        out.write_all(&piece[..some])?;
        left -= some;
    }
    Ok(())
}

/// Ours. In a worker process, works as one.
pub(crate) fn tasks() -> Registered {
    Tasks::new()
        .add("bytes", |len: Bytes| Ok::<_, Infallible>(make(number(&len))))
        .add("written", |len: Bytes| {
            let len = number(&len);
            Ok::<_, Infallible>(InPlace(move |out: &mut Output<'_>| Ok(write(len, out)?)))
        })
        .init()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

pub(crate) fn argument(len: usize) -> Bytes {
    Bytes::copy_from_slice(&(len as u64).to_le_bytes())
}

/// A pool with so many worker processes, and nothing else set.
pub(crate) async fn ours(tasks: Registered, workers: usize) -> Multicore<()> {
    let settings = ProcessSettings::default().workers(workers);
    Multicore::<()>::builder()
        .workers(1)
        .processes(tasks)
        .process_settings(settings)
        .start()
        .await
        .expect("a pool with workers")
}

pub(crate) fn ours_blocking(processes: &Processes, task: &str, len: usize) {
    let result: Bytes = processes.run_blocking(task, argument(len)).expect("a result");
    check(&result, len);
}

pub(crate) async fn ours_async(processes: &Processes, task: &str, len: usize) {
    let result: Bytes = processes.run(task, argument(len)).await.expect("a result");
    check(&result, len);
}

/// In a process that was started as a peer, works as one.
pub(crate) fn become_peer() {
    procspawn::init();
    let Ok(peer) = std::env::var(VARIABLE) else { return };
    let token = std::env::args().nth(1).unwrap_or_default();
    match peer.as_str() {
        "nothing" => exit(0),
        "stream" => serve_stream(),
        "ipc" => serve_ipc::<IpcSender<Vec<u8>>>(token, |replies, len| replies.send(make(len)).is_ok()),
        "ipc-bytes" => serve_ipc::<IpcBytesSender>(token, |replies, len| replies.send(&make(len)).is_ok()),
        "ipc-memory" => serve_ipc::<IpcSender<IpcSharedMemory>>(token, |replies, len| {
            replies.send(IpcSharedMemory::from_bytes(&make(len))).is_ok()
        }),
        other => panic!("{other} is no peer"),
    }
}

fn peer(name: &str, token: &str, stdin: Stdio) -> Child {
    Command::new("/proc/self/exe").env(VARIABLE, name).arg(token).stdin(stdin).spawn().expect("a process")
}

/// Starts a process that does nothing, and waits for its end: what a start cannot take less than.
pub(crate) fn start_nothing() {
    let ended = peer("nothing", "", Stdio::null()).wait().expect("a status");
    assert!(ended.success());
}

/// A thread with a queue, that answers through oneshot channels.
#[derive(Clone)]
pub(crate) struct Thread(mpsc::Sender<(u64, oneshot::Sender<Vec<u8>>)>);

impl Thread {
    pub(crate) fn start() -> Self {
        let (sender, receiver) = mpsc::channel::<(u64, oneshot::Sender<Vec<u8>>)>();
        thread::spawn(move || {
            for (len, reply) in receiver {
                reply.send(make(len)).expect("a listener");
            }
        });
        Thread(sender)
    }

    pub(crate) async fn run(&self, len: usize) {
        let (reply, result) = oneshot::channel();
        self.0.send((len as u64, reply)).expect("a thread");
        check(&result.await.expect("a result"), len);
    }
}

/// A process behind a pair of stream sockets: a length goes out, a length and as many bytes come back.
pub(crate) struct Stream {
    socket: UnixStream,
    child: Child,
}

impl Stream {
    pub(crate) fn start() -> Self {
        let (socket, other) = UnixStream::pair().expect("a pair of sockets");
        Stream { socket, child: peer("stream", "", Stdio::from(OwnedFd::from(other))) }
    }

    pub(crate) fn run(&mut self, len: usize) {
        self.socket.write_all(&(len as u64).to_le_bytes()).expect("a peer");
        let mut prefix = [0; 8];
        self.socket.read_exact(&mut prefix).expect("a peer");
        let coming = number(&prefix);
        let mut result = Vec::with_capacity(coming as usize);
        (&self.socket).take(coming).read_to_end(&mut result).expect("a peer");
        check(&result, len);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    let _ended = (child.kill(), child.wait());
}

fn serve_stream() -> ! {
    let socket = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned().expect("a socket");
    let mut socket = UnixStream::from(socket);
    let mut prefix = [0; 8];
    while socket.read_exact(&mut prefix).is_ok() {
        let len = number(&prefix);
        let result = make(len);
        let sent = if len <= 4_096 {
            // One call for a short one, as a frame in one buffer.
            socket.write_all(&[&len.to_le_bytes()[..], &result].concat())
        } else {
            socket.write_all(&len.to_le_bytes()).and_then(|()| socket.write_all(&result))
        };
        if sent.is_err() {
            break;
        }
    }
    exit(0)
}

/// A process behind a channel of `ipc-channel`'s, whose answers come as `R` receives them.
pub(crate) struct Ipc<R> {
    lengths: IpcSender<u64>,
    replies: R,
    child: Child,
}

/// What a process of `ipc-channel`'s says first: where to send lengths. It is answered with where to reply to.
type Greeting<S> = (IpcSender<u64>, IpcSender<S>);

impl<R> Ipc<R> {
    fn start<S>(name: &str, channel: impl FnOnce() -> (S, R)) -> Self
    where
        S: serde::Serialize + serde::de::DeserializeOwned,
    {
        let (server, token) = IpcOneShotServer::<Greeting<S>>::new().expect("a server");
        let child = peer(name, &token, Stdio::null());
        let (_server, (lengths, where_to)) = server.accept().expect("a greeting");
        let (sender, replies) = channel();
        where_to.send(sender).expect("a peer");
        Ipc { lengths, replies, child }
    }

    fn ask(&self, len: usize) {
        self.lengths.send(len as u64).expect("a peer");
    }
}

impl<R> Drop for Ipc<R> {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Ipc<IpcReceiver<Vec<u8>>> {
    pub(crate) fn values() -> Self {
        Ipc::start("ipc", || ipc::channel().expect("a channel"))
    }

    pub(crate) fn run(&self, len: usize) {
        self.ask(len);
        check(&self.replies.recv().expect("a result"), len);
    }
}

impl Ipc<IpcBytesReceiver> {
    pub(crate) fn bytes() -> Self {
        Ipc::start("ipc-bytes", || ipc::bytes_channel().expect("a channel"))
    }

    pub(crate) fn run(&self, len: usize) {
        self.ask(len);
        check(&self.replies.recv().expect("a result"), len);
    }
}

impl Ipc<IpcReceiver<IpcSharedMemory>> {
    pub(crate) fn memory() -> Self {
        Ipc::start("ipc-memory", || ipc::channel().expect("a channel"))
    }

    pub(crate) fn run(&self, len: usize) {
        self.ask(len);
        check(&self.replies.recv().expect("a result"), len);
    }
}

fn serve_ipc<S>(token: String, reply: impl Fn(&S, u64) -> bool) -> !
where
    S: serde::Serialize + serde::de::DeserializeOwned,
{
    let server = IpcSender::<Greeting<S>>::connect(token).expect("a server");
    let (sender, lengths) = ipc::channel().expect("a channel");
    let (where_to, replies) = ipc::channel().expect("a channel");
    server.send((sender, where_to)).expect("a server");
    let replies = replies.recv().expect("a channel to reply to");
    while let Ok(len) = lengths.recv() {
        if !reply(&replies, len) {
            break;
        }
    }
    exit(0)
}

/// A pool of `procspawn`'s with so many processes.
pub(crate) fn procspawn(size: usize) -> procspawn::Pool {
    let pool = procspawn::Pool::new(size).expect("a pool");
    // All are up once they have answered.
    let calls: Vec<_> = (0..size).map(|_| pool.spawn(1_u64, make)).collect();
    for call in calls {
        call.join().expect("a result");
    }
    pool
}

pub(crate) fn procspawn_run(pool: &procspawn::Pool, len: usize) {
    check(&pool.spawn(len as u64, make).join().expect("a result"), len);
}

/// So many calls at a time, from one thread.
pub(crate) fn procspawn_batch(pool: &procspawn::Pool, calls: usize, len: usize) {
    let calls: Vec<_> = (0..calls).map(|_| pool.spawn(len as u64, make)).collect();
    for call in calls {
        check(&call.join().expect("a result"), len);
    }
}
