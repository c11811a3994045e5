//! Settings of worker processes, and what is accepted.

use std::time::Duration;

use super::error::ProcessStartError;

/// Settings of worker processes. All have defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessSettings {
    /// How many worker processes. Default: as many as the pool has worker threads. An idle one takes some 4 MB,
    /// nearly all of it shared, and no processor time.
    pub workers: Option<usize>,
    /// The longest a call may take, waiting included; then its worker is killed. None: no limit. Default: 30
    /// seconds, since what runs apart may hang.
    pub timeout: Option<Duration>,
    /// How many calls may wait for a worker; beyond, calls are refused. Default: 1,024. To choose it: what a
    /// caller waits is at most that number times a task's time, by the workers.
    pub max_queue: usize,
    /// The longest result, in bytes. Default: none, a result may be as long as memory allows.
    pub max_result: Option<u64>,
    /// What a worker may allocate for itself, in bytes; results in shared memory are not counted. The system refuses more
    /// (`RLIMIT_DATA`), which ends most programs, and a worker that has more in memory is killed. Default: none.
    pub max_memory: Option<u64>,
    /// A worker with more in memory than this, in bytes, is replaced when its task is done. Against leaks.
    /// Default: none.
    pub max_rss: Option<u64>,
    /// A worker is replaced after so many tasks. Default: none.
    pub max_tasks: Option<u64>,
    /// Results are copied out of the shared memory before they are handed out, and never mapped by the server:
    /// for tasks that may be taken over by their input. Default: false.
    pub copy_results: bool,
    /// How long a worker may take from its start until it is ready. Default: 10 seconds.
    pub start_timeout: Duration,
    /// How long a worker that is asked to end may take before it is killed. Default: 1 second.
    pub grace: Duration,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        ProcessSettings {
            workers: None,
            timeout: Some(Duration::from_secs(30)),
            max_queue: 1_024,
            max_result: None,
            max_memory: None,
            max_rss: None,
            max_tasks: None,
            copy_results: false,
            start_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(1),
        }
    }
}

/// Below this, an executable of Rust's cannot even start.
const LEAST_MEMORY: u64 = 16 * 1024 * 1024;

impl ProcessSettings {
    /// With so many worker processes.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// With this limit of a call's time, or with none.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// With so many calls that may wait.
    #[must_use]
    pub fn max_queue(mut self, calls: usize) -> Self {
        self.max_queue = calls;
        self
    }

    /// With results of so many bytes at the most.
    #[must_use]
    pub fn max_result(mut self, bytes: u64) -> Self {
        self.max_result = Some(bytes);
        self
    }

    /// With workers that may allocate so many bytes.
    #[must_use]
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = Some(bytes);
        self
    }

    /// With workers that are replaced once they have more bytes in memory.
    #[must_use]
    pub fn max_rss(mut self, bytes: u64) -> Self {
        self.max_rss = Some(bytes);
        self
    }

    /// With workers that are replaced after so many tasks.
    #[must_use]
    pub fn max_tasks(mut self, tasks: u64) -> Self {
        self.max_tasks = Some(tasks);
        self
    }

    /// With or without copies of results.
    #[must_use]
    pub fn copy_results(mut self, on: bool) -> Self {
        self.copy_results = on;
        self
    }

    /// With this limit of a worker's start.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// With this time for a worker to end by itself.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Checks what a start would check before it starts anything.
    ///
    /// # Errors
    /// With the key, the value and what is accepted.
    pub fn check(&self) -> Result<(), ProcessStartError> {
        fn bad(key: &'static str, value: impl ToString, accepted: &'static str) -> ProcessStartError {
            ProcessStartError::Setting { key, value: value.to_string(), accepted }
        }
        const COUNT: &str = "a whole number from 1";
        if let Some(workers) = self.workers.filter(|workers| !(1..=4_096).contains(workers)) {
            return Err(bad("workers", workers, "a whole number from 1 to 4096"));
        }
        if self.max_queue == 0 {
            return Err(bad("max-queue", 0, COUNT));
        }
        for (key, value) in
            [("max-result", self.max_result), ("max-rss", self.max_rss), ("max-tasks", self.max_tasks)]
        {
            if value == Some(0) {
                return Err(bad(key, 0, COUNT));
            }
        }
        if let Some(memory) = self.max_memory.filter(|memory| *memory < LEAST_MEMORY) {
            return Err(bad("max-memory", memory, "a number of bytes from 16777216 (16 MiB)"));
        }
        for (key, value) in [
            ("timeout", self.timeout),
            ("start-timeout", Some(self.start_timeout)),
            ("grace", Some(self.grace)),
        ] {
            if value == Some(Duration::ZERO) {
                return Err(bad(key, "0s", "a duration above zero, such as 30s"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_nothing_is_refused_by_its_key() {
        let good = ProcessSettings::default();
        assert!(good.check().is_ok());
        let told = |settings: ProcessSettings| settings.check().unwrap_err().to_string();
        for (settings, says) in [
            (good.clone().workers(0), "processes.workers is `0`; accepted: a whole number from 1 to 4096"),
            (good.clone().max_queue(0), "processes.max-queue is `0`; accepted: a whole number from 1"),
            (good.clone().max_result(0), "processes.max-result is `0`; accepted: a whole number from 1"),
            (good.clone().max_rss(0), "processes.max-rss is `0`; accepted: a whole number from 1"),
            (good.clone().max_tasks(0), "processes.max-tasks is `0`; accepted: a whole number from 1"),
            (
                good.clone().max_memory(1_000),
                "processes.max-memory is `1000`; accepted: a number of bytes from 16777216 (16 MiB)",
            ),
            (
                good.clone().timeout(Duration::ZERO),
                "processes.timeout is `0s`; accepted: a duration above zero, such as 30s",
            ),
        ] {
            assert_eq!(told(settings), says);
        }
        assert!(told(good.clone().grace(Duration::ZERO)).contains("processes.grace"));
        assert!(told(good.start_timeout(Duration::ZERO)).contains("processes.start-timeout"));
    }
}
