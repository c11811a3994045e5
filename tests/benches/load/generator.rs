//! The load generator, `wrk`: one thread, an event loop in C, so that it leaves most of a core to the
//! server that it shares the machine with. A second one asks the neighbour.
//!
//! `wrk` keeps every connection busy, and fills its sample up for answers that took more than twice a
//! connection's mean turn, by what would have been asked meanwhile ("coordinated omission"). For the
//! neighbour, which is asked every 2 ms, that is what counts: each millisecond of a stall. For the lists
//! it weighs long answers a little more than a plain sample would, for all contestants by the same rule.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Outcome;

/// Prints what is wanted in a form that need not be guessed at. Times come in microseconds.
const LIST: &str = r#"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("measured %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"#;
/// 1 to 3 ms after each answer, so that it falls into step with nothing.
const DELAY: &str = "function delay() return math.random(1, 3) end";

/// What `wrk` takes longer than its window: it looks at its own end every 100 ms.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) struct Generator {
    pub(crate) version: String,
    list: PathBuf,
    light: PathBuf,
    _folder: TempDir,
}

/// What one generator saw.
pub(crate) struct Seen {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Generator {
    pub(crate) fn new() -> Outcome<Self> {
        let version = Command::new("wrk").arg("-v").output().map_err(|error| {
            format!(
                "cannot run the load generator `wrk` ({error}). Install it: `apt-get install wrk` on \
                 Debian and Ubuntu, `brew install wrk`, or from https://github.com/wg/wrk"
            )
        })?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let version = version.split(" [").next().unwrap_or("wrk").to_owned();
        let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
        let (list, light) = (folder.path().join("list.lua"), folder.path().join("light.lua"));
        std::fs::write(&list, LIST)
            .and_then(|()| std::fs::write(&light, format!("{LIST}{DELAY}\n")))
            .map_err(|error| format!("no scripts: {error}"))?;
        Ok(Generator { version, list, light, _folder: folder })
    }

    /// Asks for the list over so many connections and for the neighbour over one more, at the same time.
    pub(crate) fn run(
        &self,
        address: SocketAddr,
        path: &str,
        connections: usize,
        seconds: u64,
    ) -> Outcome<(Seen, Seen)> {
        let light = start(&self.light, &format!("http://{address}/light"), 1, seconds)?;
        let list = start(&self.list, &format!("http://{address}{path}"), connections, seconds)?;
        let patience = Duration::from_secs(seconds) + PATIENCE;
        let list = list.finish(patience)?;
        Ok((list, light.finish(patience)?))
    }
}

struct Running(Child);

fn start(script: &PathBuf, url: &str, connections: usize, seconds: u64) -> Outcome<Running> {
    let child = Command::new("wrk")
        .args(["--threads", "1", "--timeout", "30s"])
        .args(["--connections", &connections.to_string(), "--duration", &format!("{seconds}s")])
        .arg("--script")
        .arg(script)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    child.map(Running).map_err(|error| format!("wrk did not start: {error}"))
}

impl Running {
    fn finish(mut self, patience: Duration) -> Outcome<Seen> {
        let started = Instant::now();
        // It prints less than a pipe holds, so it never waits to be read.
        while self.0.try_wait().map_err(|error| format!("wrk: {error}"))?.is_none() {
            if started.elapsed() > patience {
                return Err("wrk does not end".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut text = String::new();
        if let Some(mut out) = self.0.stdout.take() {
            out.read_to_string(&mut text).map_err(|error| format!("wrk: {error}"))?;
        }
        let line = text.lines().find_map(|line| line.strip_prefix("measured "));
        let numbers: Option<Vec<f64>> =
            line.map(|line| line.split(' ').filter_map(|n| n.parse().ok()).collect());
        match numbers.as_deref() {
            Some([requests, us, p50, p99, errors]) if *errors == 0.0 => {
                Ok(Seen { requests: *requests, seconds: us / 1e6, p50_ms: p50 / 1e3, p99_ms: p99 / 1e3 })
            }
            _ => Err(format!("wrk met errors:\n{text}")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
