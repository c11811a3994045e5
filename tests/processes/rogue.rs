//! Tasks that do what no task should: break the protocol, write where they must not, eat memory. All of it in safe
//! code, through what the kernel offers a process about itself.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;

use memmap2::MmapMut;
use multicore_core::process::{Json, Packed, Tasks};
use rustix::net::{SendFlags, Shutdown, SocketType, send, shutdown};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Signal, getpid, kill_process, pidfd_getfd, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::system::wait_at;

/// What a worker sends in place of its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Lie {
    /// An answer to a call of another number, so much from the open one's.
    OtherCall(i64),
    /// A result in a map that was not lent for it.
    OtherMap(u32),
    /// A result of so many bytes in the map that was lent.
    Longer(u64),
    /// A text that is longer than the message that it is in.
    CutShort,
    Raw(Vec<u8>),
    /// Ends its end of the socket, and lives on.
    Closed,
}

pub(crate) fn add<C: Send + 'static>(tasks: Tasks<C>) -> Tasks<C> {
    tasks
        .add("lie", |Packed(lie): Packed<Lie>| -> Result<(), io::Error> {
            tell(&lie)?;
            // The true answer is not to come after it.
            loop {
                std::thread::park();
            }
        })
        .add("answer-and-die", |(): ()| -> Result<(), io::Error> {
            send(&control()?, &reply(begun()?, &[0, 0, 0, 0, 0, 0]), SendFlags::NOSIGNAL)?;
            std::process::exit(9)
        })
        .add("shrink", |(): ()| {
            let mut told = Vec::new();
            for (path, link) in own_descriptors()? {
                if link.contains("memfd:multicore-") {
                    let file = OpenOptions::new().read(true).write(true).open(path)?;
                    told.push(file.set_len(1).err().and_then(|error| error.raw_os_error()));
                }
            }
            Ok::<_, io::Error>(Json(told))
        })
        .add("write-handed-over", |(): ()| -> Result<(), io::Error> {
            let maps = fs::read_to_string("/proc/self/maps")?;
            let map =
                maps.lines().find(|line| line.contains("r--s") && line.contains("memfd:multicore-result"));
            let map = map.ok_or_else(|| io::Error::other("no result's map is read-only"))?;
            let start = map.split('-').next().and_then(|start| u64::from_str_radix(start, 16).ok());
            write_at(start.ok_or_else(|| io::Error::other("a map without a start"))?)?;
            Err(io::Error::other("it could be written to"))
        })
        .add("fault", |(): ()| write_at(8))
        .add("segv", |(): ()| -> Result<(), io::Error> {
            // Rust's own handler takes the first one for a fault that comes again.
            loop {
                kill_process(getpid(), Signal::SEGV)?;
            }
        })
        .add("overflow", |(): ()| Ok::<_, Infallible>(Json(deeper(1))))
        .add("eat", |(): ()| -> Result<(), Infallible> {
            let mut eaten = Vec::new();
            loop {
                eaten.push(black_box(vec![1_u8; 1 << 20]));
            }
        })
        .add("eat-unseen", |gate: String| -> Result<(), io::Error> {
            // What cannot be written to is not under the system's limit.
            let mut eaten = Vec::new();
            for _ in 0..96 {
                let mut map = MmapMut::map_anon(1 << 20)?;
                map.fill(1);
                eaten.push(map.make_read_only()?);
            }
            wait_at(&gate, std::process::id())
        })
        .add("oom-score", |(): ()| fs::read_to_string("/proc/self/oom_score_adj"))
        .add("pool-inside", |(): ()| -> Result<String, io::Error> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let tasks = Tasks::new().add("nothing", |(): ()| Ok::<_, Infallible>(())).init();
            let started = runtime
                .block_on(multicore_core::Multicore::<()>::builder().workers(1).processes(tasks).start());
            Ok(started.map_or_else(|error| chain(&error), |_| "it started".to_owned()))
        })
        .add("run-itself", |test: String| -> Result<String, io::Error> {
            let output = crate::system::through("/proc/self/exe", &test).output()?;
            Ok(format!("{}{}", output.status, String::from_utf8_lossy(&output.stdout)))
        })
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Whose frame is not small, and which the compiler cannot turn into a loop.
fn deeper(level: u64) -> u64 {
    let frame = black_box([level; 512]);
    if level == 0 { 0 } else { deeper(level + 1) + black_box(frame)[7] }
}

/// A wild pointer, as corrupted memory has them: a box whose pointer was overwritten. The number is written to where
/// it points then.
fn write_at(address: u64) -> io::Result<()> {
    let mut victim = Box::new(0_u64);
    let pointer = &raw const victim as u64;
    let mut memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
    memory.seek(SeekFrom::Start(pointer))?;
    memory.write_all(&address.to_ne_bytes())?;
    **black_box(&mut victim) = u64::MAX;
    // Its memory is not where the box thinks.
    std::mem::forget(victim);
    Ok(())
}

fn own_descriptors() -> io::Result<Vec<(std::path::PathBuf, String)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        if let Ok(link) = fs::read_link(&path) {
            all.push((path, link.to_string_lossy().into_owned()));
        }
    }
    Ok(all)
}

/// This worker's end of the socket to its server.
fn control() -> io::Result<OwnedFd> {
    let process = pidfd_open(getpid(), PidfdFlags::empty())?;
    for (path, _) in own_descriptors()?.iter().filter(|(_, link)| link.starts_with("socket:")) {
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        let number = number.ok_or_else(|| io::Error::other("a descriptor without a number"))?;
        let socket = pidfd_getfd(&process, number, PidfdGetfdFlags::empty())?;
        if rustix::net::sockopt::socket_type(&socket)? == SocketType::SEQPACKET {
            return Ok(socket);
        }
    }
    Err(io::Error::other("there is no socket to the server"))
}

/// The number of the open call, from the page that is shared with the server.
fn begun() -> io::Result<u64> {
    let page = own_descriptors()?.into_iter().find(|(_, link)| link.contains("memfd:multicore-control"));
    if let Some((path, _)) = page {
        let mut number = [0; 8];
        io::Read::read_exact(&mut File::open(path)?, &mut number)?;
        return Ok(u64::from_ne_bytes(number));
    }
    // The page is mapped and its file closed.
    let maps = fs::read_to_string("/proc/self/maps")?;
    let page = maps.lines().find(|line| line.contains("memfd:multicore-control"));
    let start = page.and_then(|page| u64::from_str_radix(page.split('-').next()?, 16).ok());
    let mut memory = File::open("/proc/self/mem")?;
    memory.seek(SeekFrom::Start(start.ok_or_else(|| io::Error::other("no control page"))?))?;
    let mut number = [0; 8];
    io::Read::read_exact(&mut memory, &mut number)?;
    Ok(u64::from_ne_bytes(number))
}

fn reply(call: u64, outcome: &[u8]) -> Vec<u8> {
    let mut bytes = call.to_le_bytes().to_vec();
    bytes.push(0);
    bytes.extend(outcome);
    bytes
}

fn in_map(map: u32, len: u64) -> Vec<u8> {
    let mut outcome = vec![0, 1];
    outcome.extend(map.to_le_bytes());
    outcome.extend(len.to_le_bytes());
    outcome
}

fn tell(lie: &Lie) -> io::Result<()> {
    let (control, call) = (control()?, begun()?);
    // Of a worker that has answered nothing yet the first map is lent.
    let bytes = match lie {
        Lie::OtherCall(by) => reply(call.wrapping_add_signed(*by), &[0, 0, 1, 0, 0, 0, b'x']),
        Lie::OtherMap(map) => reply(call, &in_map(*map, 1)),
        Lie::Longer(len) => reply(call, &in_map(1, *len)),
        Lie::CutShort => reply(call, &[1, 200, 0, 0, 0, b'x']),
        Lie::Raw(bytes) => bytes.clone(),
        Lie::Closed => {
            shutdown(&control, Shutdown::Both)?;
            return Ok(());
        }
    };
    send(&control, &bytes, SendFlags::NOSIGNAL)?;
    Ok(())
}
