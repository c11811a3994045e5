//! The configuration as an application's file or environment spells it: keys in kebab-case, unknown
//! keys refused.

#[cfg(feature = "process")]
mod processes;
mod values;

use std::time::Duration;

use multicore_core::{CursorSecret, Database, LoadLimit, StartError};
use serde::Deserialize;

#[cfg(feature = "process")]
pub use self::processes::ProcessConfig;
use self::values::{
    default_limit, duration, max_limit, server_timing, servers, transaction_pooling, workers,
};
use crate::secret::GivenSecret;

/// Settings of a pool and of the lists it serves. All have defaults, so an empty table is fine.
///
/// ```
/// let config: multicore_axum::Config = toml::from_str(r#"
///     workers = 4                # default: the cores this process may use
///     max-load-average = 0.85    # per core; or 85, or "85%"; default: never vetoes
///     timeout = "30s"            # default: none
///     servers = 2                # that share the database; default: 1
///     transaction-pooling = true # PgBouncer in transaction mode; default: false
///     default-limit = 100
///     max-limit = 10000
///     server-timing = true       # default: false
///     cursor-secret = "d5ac1f0b7e934c62"   # default: random, so that cursors end with the server
/// "#).unwrap();
/// assert_eq!(config.max_load_average.unwrap().per_core(), 0.85);
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Config {
    /// How many worker threads, each with a database connection of its own. Default: the cores this
    /// process may use. Zero is an error at start.
    #[serde(deserialize_with = "workers")]
    pub workers: Option<usize>,
    /// The 1-minute load average per core above which no help is given. Default: none, which never
    /// vetoes. A number up to 10 is load per core; a number above 10, or a text with `%`, is per cent
    /// of one core.
    pub max_load_average: Option<LoadLimit>,
    /// The longest a list, a map, ranges or a task's `get` may take, as a text such as `30s` or
    /// `1m 30s`. Default: no limit.
    #[serde(deserialize_with = "duration")]
    pub timeout: Option<Duration>,
    /// How many servers like this one share the database: at start it is checked that it takes all their
    /// connections, and said in the log. Default: 1. Zero is an error at start.
    #[serde(deserialize_with = "servers")]
    pub servers: Option<usize>,
    /// Whether there is a pooler in transaction mode, such as PgBouncer, between the server and the
    /// database. Then nothing stays prepared on a connection, no snapshot is exported, and a list is
    /// one statement in a transaction of its own. Default: false.
    #[serde(deserialize_with = "transaction_pooling")]
    pub transaction_pooling: bool,
    /// Rows of a page that asks for no number. Default: 100, or `max-limit` where that is less.
    #[serde(deserialize_with = "default_limit")]
    pub default_limit: Option<u64>,
    /// The most rows a page may ask for. Default: 1,000. To choose it: a page of that many rows is
    /// held in memory once as JSON, for each request that asks for it.
    #[serde(deserialize_with = "max_limit")]
    pub max_limit: u64,
    /// Whether responses say in a `Server-Timing` header how long the list took. Default: false,
    /// since that tells strangers about the server.
    #[serde(deserialize_with = "server_timing")]
    pub server_timing: bool,
    /// See [`cursor_secret`](Config::cursor_secret).
    cursor_secret: GivenSecret,
    /// The table of worker processes, which are started if the builder is given tasks for them.
    #[cfg(feature = "process")]
    pub processes: ProcessConfig,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            workers: None,
            max_load_average: None,
            timeout: None,
            servers: None,
            transaction_pooling: false,
            default_limit: None,
            max_limit: PageLimits::default().max_limit,
            server_timing: false,
            cursor_secret: GivenSecret::Nothing,
            #[cfg(feature = "process")]
            processes: ProcessConfig::default(),
        }
    }
}

impl Config {
    /// With so many worker threads.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// With this limit of the load average.
    #[must_use]
    pub fn max_load_average(mut self, limit: LoadLimit) -> Self {
        self.max_load_average = Some(limit);
        self
    }

    /// With this time limit.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// With so many servers that share the database.
    #[must_use]
    pub fn servers(mut self, servers: usize) -> Self {
        self.servers = Some(servers);
        self
    }

    /// With or without a pooler in transaction mode.
    #[must_use]
    pub fn transaction_pooling(mut self, on: bool) -> Self {
        self.transaction_pooling = on;
        self
    }

    /// With so many rows for a page that asks for no number.
    #[must_use]
    pub fn default_limit(mut self, rows: u64) -> Self {
        self.default_limit = Some(rows);
        self
    }

    /// With so many rows at the most.
    #[must_use]
    pub fn max_limit(mut self, rows: u64) -> Self {
        self.max_limit = rows;
        self
    }

    /// With or without a `Server-Timing` header.
    #[must_use]
    pub fn server_timing(mut self, on: bool) -> Self {
        self.server_timing = on;
        self
    }

    /// With this secret to sign cursors with; in a file `cursor-secret`, a text of at least 16 bytes.
    /// Default: a random one for each start, so that cursors last until the server stops and no other
    /// server understands them. To choose it: one for all servers of the application, such as what
    /// `openssl rand -hex 32` prints. It is never shown, neither in errors nor by `Debug`.
    #[must_use]
    pub fn cursor_secret(mut self, secret: CursorSecret) -> Self {
        self.cursor_secret = GivenSecret::Secret(secret);
        self
    }

    /// With these settings of worker processes.
    #[cfg(feature = "process")]
    #[must_use]
    pub fn processes(mut self, processes: ProcessConfig) -> Self {
        self.processes = processes;
        self
    }

    /// Checks what `start` would check, so that an application can refuse a configuration before it
    /// opens anything.
    ///
    /// # Errors
    /// With the key, the value and what is accepted.
    pub fn check(&self) -> Result<(), StartError> {
        self.apply(multicore_core::Multicore::<()>::builder())?.check()?;
        self.page_limits().map(drop)
    }

    /// Gives a pool its part of the configuration.
    pub(crate) fn apply<DB: Database>(
        &self,
        mut pool: multicore_core::Builder<DB>,
    ) -> Result<multicore_core::Builder<DB>, StartError> {
        if let Some(workers) = self.workers {
            pool = pool.workers(workers);
        }
        if let Some(limit) = self.max_load_average {
            pool = pool.max_load_average(limit);
        }
        if let Some(timeout) = self.timeout {
            pool = pool.timeout(timeout);
        }
        if let Some(servers) = self.servers {
            pool = pool.servers(servers);
        }
        pool = pool.transaction_pooling(self.transaction_pooling);
        if let Some(secret) = self.cursor_secret.secret()? {
            pool = pool.cursor_secret(secret);
        }
        #[cfg(feature = "process")]
        {
            pool = pool.process_settings(self.processes.settings());
        }
        Ok(pool)
    }

    /// The page limits, checked.
    pub(crate) fn page_limits(&self) -> Result<PageLimits, StartError> {
        let max_limit = self.max_limit;
        if max_limit == 0 {
            return Err(refused("max-limit", "0".to_owned(), "a whole number from 1"));
        }
        let default_limit = self.default_limit.unwrap_or(PageLimits::default().default_limit.min(max_limit));
        if default_limit == 0 || default_limit > max_limit {
            return Err(refused(
                "default-limit",
                default_limit.to_string(),
                "a whole number from 1 to max-limit",
            ));
        }
        Ok(PageLimits { default_limit, max_limit })
    }
}

fn refused(key: &'static str, value: String, accepted: &'static str) -> StartError {
    StartError::Setting { key, value, accepted }
}

/// How many rows a page has, and may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimits {
    /// Rows of a page that asks for no number.
    pub default_limit: u64,
    /// The most rows a page may ask for.
    pub max_limit: u64,
}

impl Default for PageLimits {
    fn default() -> Self {
        PageLimits { default_limit: 100, max_limit: 1_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_gives_the_defaults() {
        let config: Config = toml::from_str("").unwrap();
        assert_eq!(config.page_limits().unwrap(), PageLimits { default_limit: 100, max_limit: 1_000 });
        assert!(config.workers.is_none() && config.max_load_average.is_none() && config.timeout.is_none());
        assert!(!config.server_timing);
    }

    #[test]
    fn keys_are_kebab_case() {
        let config: Config = toml::from_str(
            "workers = 3\nmax-load-average = '85%'\ntimeout = '1m 30s'\ndefault-limit = 5\nmax-limit = 50\nserver-timing = true",
        )
        .unwrap();
        assert_eq!(config.workers, Some(3));
        assert_eq!(config.max_load_average.map(LoadLimit::per_core), Some(0.85));
        assert_eq!(config.timeout, Some(Duration::from_secs(90)));
        assert_eq!(config.page_limits().unwrap(), PageLimits { default_limit: 5, max_limit: 50 });
        assert!(config.server_timing);
    }

    #[test]
    fn a_small_max_limit_lowers_the_default() {
        let config: Config = toml::from_str("max-limit = 50\nworkers = '3'").unwrap();
        assert_eq!(config.page_limits().unwrap(), PageLimits { default_limit: 50, max_limit: 50 });
        assert_eq!(config.workers, Some(3));
    }

    #[test]
    fn what_means_nothing_is_refused_with_the_key_and_what_is_accepted() {
        for (text, says) in [
            (
                "max_load_average = 0.5",
                "unknown field `max_load_average`, expected one of `workers`, `max-load-average`",
            ),
            ("max-load-average = 0", "max-load-average is `0`; accepted are"),
            ("max-load-average = 'often'", "max-load-average is `often`; accepted are"),
            ("max-load-average = true", "expected a load per core"),
            ("timeout = 'soon'", "timeout is `soon`; accepted: a duration with units"),
            ("timeout = 30", "timeout is `30`; accepted: a duration with units"),
            ("server-timing = 'maybe'", "server-timing is `maybe`; accepted: true or false"),
            ("transaction-pooling = 'x'", "transaction-pooling is `x`; accepted: true or false"),
            ("servers = -1", "servers is `-1`; accepted: a whole number from 1"),
            ("workers = -1", "workers is `-1`; accepted: a whole number from 1"),
            ("workers = 'two'", "workers is `two`; accepted: a whole number from 1"),
            ("workers = 2.5", "workers is `2.5`; accepted: a whole number from 1"),
            ("workers = true", "expected a whole number for workers"),
            ("max-limit = -5", "max-limit is `-5`; accepted: a whole number from 1"),
        ] {
            let error = toml::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn settings_that_contradict_each_other_or_mean_nothing_are_refused() {
        for (text, says) in [
            ("workers = 0", "workers is `0`; accepted: a whole number from 1 to 4096"),
            ("servers = 0", "servers is `0`; accepted: a whole number from 1"),
            ("workers = 5000", "workers is `5000`; accepted: a whole number from 1 to 4096"),
            ("timeout = '0s'", "timeout is `0s`; accepted: a duration above zero, such as 30s"),
            ("max-limit = 0", "max-limit is `0`; accepted: a whole number from 1"),
            ("default-limit = 0", "default-limit is `0`; accepted: a whole number from 1 to max-limit"),
            (
                "default-limit = 9\nmax-limit = 8",
                "default-limit is `9`; accepted: a whole number from 1 to max-limit",
            ),
            (
                "cursor-secret = 'hunter2'",
                "cursor-secret is `7 bytes, not shown`; accepted: at least 16 bytes",
            ),
            ("cursor-secret = ''", "cursor-secret is `0 bytes, not shown`; accepted: at least 16 bytes"),
        ] {
            let config: Config = toml::from_str(text).unwrap();
            assert_eq!(config.check().unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn a_cursor_secret_is_not_shown_whatever_it_is_and_whoever_fails() {
        for given in ["73501", "73501.5", "'73501'", "[73501]", "{ a = 73501 }", "'73501 and plenty more'"] {
            let config: Config = toml::from_str(&format!("cursor-secret = {given}")).unwrap();
            let mut shown = format!("{config:?}");
            if let Err(error) = config.check() {
                assert!(error.to_string().starts_with("cursor-secret is `"), "{error}");
                shown += &format!("{error} {error:?}");
            } else {
                assert!(given.len() > 16, "{given}");
            }
            assert!(!shown.contains("73501"), "{shown}");
        }
        for given in ["true", "1979-05-27"] {
            let config: Config = toml::from_str(&format!("cursor-secret = {given}")).unwrap();
            let says = "cursor-secret is `not a text, not shown`; accepted: a text of at least 16 bytes";
            assert_eq!(config.check().unwrap_err().to_string(), says);
        }
        let json = serde_json::from_str::<Config>(r#"{"cursor-secret": null}"#).unwrap();
        assert!(json.check().is_err());
        let config = Config::default().cursor_secret(CursorSecret::random());
        assert!(config.check().is_ok() && format!("{config:?}").contains("Some(not shown)"));
    }
}
