//! The table of worker processes, `[multicore.processes]` in an application's file.

use std::time::Duration;

use multicore_core::process::ProcessSettings;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::values::{Size, Span, Switch, Whole, span};

/// Settings of worker processes. All have defaults, so an empty table is fine.
///
/// ```
/// let config: multicore_axum::Config = toml::from_str(r#"
///     [processes]
///     workers = 2              # default: as many as worker threads
///     timeout = "10s"          # or "none"; default: 30s
///     max-queue = 500          # calls that may wait; default: 1024
///     max-result = "64MiB"     # default: none
///     max-memory = "512MiB"    # of each worker; default: none
///     max-rss = "256MiB"       # a larger one is replaced between two tasks; default: none
///     max-tasks = 1000         # and one that has done so many; default: none
///     copy-results = true      # for tasks that their input may take over; default: false
///     start-timeout = "5s"     # default: 10s
///     grace = "2s"             # for a worker to end by itself; default: 1s
/// "#).unwrap();
/// assert_eq!(config.processes.settings().max_result, Some(64 * 1024 * 1024));
/// ```
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ProcessConfig {
    #[serde(deserialize_with = "workers")]
    workers: Option<usize>,
    #[serde(deserialize_with = "timeout")]
    timeout: Option<Timeout>,
    #[serde(deserialize_with = "max_queue")]
    max_queue: Option<usize>,
    #[serde(deserialize_with = "max_result")]
    max_result: Option<u64>,
    #[serde(deserialize_with = "max_memory")]
    max_memory: Option<u64>,
    #[serde(deserialize_with = "max_rss")]
    max_rss: Option<u64>,
    #[serde(deserialize_with = "max_tasks")]
    max_tasks: Option<u64>,
    #[serde(deserialize_with = "copy_results")]
    copy_results: Option<bool>,
    #[serde(deserialize_with = "start_timeout")]
    start_timeout: Option<Duration>,
    #[serde(deserialize_with = "grace")]
    grace: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timeout {
    None,
    After(Duration),
}

impl ProcessConfig {
    /// The settings they come to; what they mean and their defaults is said there.
    pub fn settings(&self) -> ProcessSettings {
        let mut settings = ProcessSettings::default();
        settings.workers = self.workers;
        settings.max_result = self.max_result;
        settings.max_memory = self.max_memory;
        settings.max_rss = self.max_rss;
        settings.max_tasks = self.max_tasks;
        match self.timeout {
            None => {}
            Some(Timeout::None) => settings.timeout = None,
            Some(Timeout::After(after)) => settings.timeout = Some(after),
        }
        settings.max_queue = self.max_queue.unwrap_or(settings.max_queue);
        settings.copy_results = self.copy_results.unwrap_or(settings.copy_results);
        settings.start_timeout = self.start_timeout.unwrap_or(settings.start_timeout);
        settings.grace = self.grace.unwrap_or(settings.grace);
        settings
    }
}

fn count<'de, D: Deserializer<'de>>(deserializer: D, key: &'static str) -> Result<Option<usize>, D::Error> {
    let number = deserializer.deserialize_any(Whole(key))?;
    usize::try_from(number).map(Some).map_err(|_| Whole(key).refuse(number))
}

fn workers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    count(deserializer, "processes.workers")
}

fn max_queue<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    count(deserializer, "processes.max-queue")
}

fn max_tasks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_any(Whole("processes.max-tasks")).map(Some)
}

fn max_result<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_any(Size("processes.max-result")).map(Some)
}

fn max_memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_any(Size("processes.max-memory")).map(Some)
}

fn max_rss<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_any(Size("processes.max-rss")).map(Some)
}

fn copy_results<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    deserializer.deserialize_any(Switch("processes.copy-results")).map(Some)
}

fn start_timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    deserializer.deserialize_any(Span("processes.start-timeout")).map(Some)
}

fn grace<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    deserializer.deserialize_any(Span("processes.grace")).map(Some)
}

fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timeout>, D::Error> {
    struct OrNone(Span);

    impl Visitor<'_> for OrNone {
        type Value = Timeout;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.expecting(f)?;
            f.write_str(", or \"none\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Timeout, E> {
            if text == "none" {
                return Ok(Timeout::None);
            }
            span(self.0.0, text, "a duration with units, such as 30s or 1m 30s, or none").map(Timeout::After)
        }

        // A bare number leaves open of what.
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Timeout, E> {
            self.visit_str(&number.to_string())
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Timeout, E> {
            self.visit_str(&number.to_string())
        }
    }

    deserializer.deserialize_any(OrNone(Span("processes.timeout"))).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn settings(table: &str) -> ProcessSettings {
        let config: Config = toml::from_str(&format!("[processes]\n{table}")).unwrap();
        config.processes.settings()
    }

    #[test]
    fn an_empty_table_gives_the_defaults_and_texts_do_as_well() {
        assert_eq!(settings(""), ProcessSettings::default());
        assert_eq!(settings("timeout = 'none'").timeout, None);
        assert_eq!(settings("timeout = '1m'").timeout, Some(Duration::from_secs(60)));
        assert_eq!(settings("max-memory = '512MiB'"), settings("max-memory = 536870912"));
        assert_eq!(settings("max-rss = '1 GB'").max_rss, Some(1_000_000_000));
        assert_eq!(
            settings("workers = '3'\ncopy-results = 'true'"),
            settings("workers = 3\ncopy-results = true")
        );
    }

    #[test]
    fn what_means_nothing_is_refused_with_the_key_and_what_is_accepted() {
        for (table, says) in [
            ("max_queue = 1", "unknown field `max_queue`"),
            ("workers = -1", "processes.workers is `-1`; accepted: a whole number from 1"),
            (
                "max-memory = 'plenty'",
                "processes.max-memory is `plenty`; accepted: a number of bytes, or a size",
            ),
            ("max-result = 1.5", "processes.max-result is `1.5`; accepted"),
            ("timeout = 30", "processes.timeout is `30`; accepted: a duration with units"),
            (
                "timeout = 'never'",
                "processes.timeout is `never`; accepted: a duration with units, such as 30s or 1m 30s, or none",
            ),
            ("grace = 'soon'", "processes.grace is `soon`"),
            ("copy-results = 'perhaps'", "processes.copy-results is `perhaps`; accepted: true or false"),
        ] {
            let error = toml::from_str::<Config>(&format!("[processes]\n{table}")).unwrap_err().to_string();
            assert!(error.contains(says), "{table}: {error}");
        }
        let zero: Config = toml::from_str("[processes]\nmax-tasks = 0").unwrap();
        let error = zero.check().unwrap_err();
        assert!(
            std::error::Error::source(&error).unwrap().to_string().contains("processes.max-tasks is `0`")
        );
    }
}
