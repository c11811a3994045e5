//! A contestant's server, as a process of its own: what one leaves behind (threads, pools, memory)
//! cannot disturb the others. It ends with this process, however that ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::plan::Contestant;

/// More than the longest answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    pub(crate) contestant: Contestant,
    pub(crate) address: SocketAddr,
    child: Child,
}

/// How far a server has come, by its own clock.
pub(crate) struct Progress {
    pub(crate) rows: u64,
    pub(crate) seconds: f64,
}

impl Server {
    pub(crate) fn start(contestant: Contestant, url: &str) -> Outcome<Self> {
        let failed = |error: &dyn std::fmt::Display| format!("no server for {}: {error}", contestant.name());
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut child = Command::new(program)
            .args(["serve", contestant.name(), url])
            // Its end is how the server learns of ours.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(&error))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line).map_err(|error| failed(&error))?;
        }
        match line.trim().parse() {
            Ok(address) => Ok(Server { contestant, address, child }),
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(failed(&"it said no address"))
            }
        }
    }

    /// The body of a 200.
    pub(crate) fn get(&self, path: &str) -> Outcome<Vec<u8>> {
        let failed = |error: &dyn std::fmt::Display| format!("{} {path}: {error}", self.contestant.name());
        let answer = (|| {
            let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            std::io::Result::Ok(answer)
        })();
        let answer = answer.map_err(|error| failed(&error))?;
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let end = end.ok_or_else(|| failed(&"no answer"))?;
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        if !head.starts_with("http/1.1 200") || head.contains("\r\ntransfer-encoding") {
            return Err(failed(&head));
        }
        Ok(answer[end + 4..].to_vec())
    }

    pub(crate) fn progress(&self) -> Outcome<Progress> {
        let text = String::from_utf8(self.get("/progress")?).unwrap_or_default();
        let numbers = text.split_once(' ');
        let progress = numbers.and_then(|(rows, seconds)| Some((rows.parse().ok()?, seconds.parse().ok()?)));
        let (rows, seconds) = progress.ok_or_else(|| format!("a strange progress: {text}"))?;
        Ok(Progress { rows, seconds })
    }

    /// Waits until the server has stopped computing: handlers that do not notice that their client has
    /// left work on for a while after a turn.
    pub(crate) fn settle(&self) -> Outcome {
        let start = Instant::now();
        let mut before = self.ticks();
        while start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(30));
            let now = self.ticks();
            if now == before {
                return Ok(());
            }
            before = now;
        }
        Err(format!("{} does not come to rest", self.contestant.name()))
    }

    /// The processor time it has used, in the kernel's ticks of mostly 10 ms.
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The name, in brackets, may hold anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
