//! The settings: collected from flags, environment, file and defaults, in this order of precedence,
//! and each checked as strictly as if it stood alone. The text of the command line is in
//! [`cli`](crate::cli).
//!
//! The `config` crate reads file and environment. It would also convert types freely (`true` to one
//! worker, 2.7 to three), so values are taken from it as they are, and what they are is decided here.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Case, Environment, File, FileFormat, Map, Source, Value, ValueKind};
use multicore_axum::StartError;
use multicore_axum::process::ProcessStartError;
use serde_json::{Map as JsonMap, Value as Json};

use crate::cli::Cli;
use crate::database_url::{DatabaseUrl, without_password};

/// Users that are seeded into an empty database unless asked otherwise.
pub const DEFAULT_ROWS: u32 = 10_000;
/// The most rows of a page, unless set otherwise: ten times the library's default, so that long pages
/// can be tried.
const DEFAULT_MAX_LIMIT: u64 = 10_000;
/// How long a thumbnail may take, and how much memory a worker process may have, unless set otherwise: what
/// draws pictures of strangers needs limits.
const DEFAULT_PROCESSES: [(&str, &str); 2] = [("timeout", "5s"), ("max-memory", "128MiB")];
/// What the keys of the library's tables begin with.
const MULTICORE: &str = "multicore.";
const PROCESSES: &str = "multicore.processes.";
/// Enough of a value to recognise it in a message.
const SHOWN_CHARS: usize = 80;

/// What was asked for, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen. Default: `127.0.0.1:3000`.
    pub listen: SocketAddr,
    /// Which database. Default: `sqlite:data/example.db`.
    pub database: DatabaseUrl,
    /// Users there should be. Default: none, which seeds [`DEFAULT_ROWS`] if there are no users yet.
    pub rows: Option<u32>,
    /// How long requests under way may take to finish once the server stops. Default: 10 s.
    pub drain: Duration,
    /// How long the server goes on accepting requests while it says that it is not ready any more.
    /// Default: none. Choose longer than a load balancer's interval between checks.
    pub drain_notice: Duration,
    /// What concerns Multicore.
    pub multicore: multicore_axum::Config,
}

/// Settings that mean nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file could not be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {path} is not TOML: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// The environment could not be read.
    #[error("{0}")]
    Environment(String),
    /// A value or a key is not accepted.
    #[error("{key} is `{value}` ({origin}); {accepted}")]
    Refused {
        /// The key, with a dot between levels.
        key: String,
        /// What was given.
        value: String,
        /// Which flag, variable or file it came from.
        origin: String,
        /// What would have been accepted.
        accepted: String,
    },
}

impl Settings {
    /// Reads the settings. `variables` stands in for the environment of the process, for tests.
    ///
    /// # Errors
    /// The first key or value that is not accepted, with where it came from and what is accepted.
    pub fn read(cli: &Cli, variables: Option<Map<String, String>>) -> Result<Self, SettingsError> {
        let mut given = Given::default();
        if let Some(path) = &cli.config {
            given.read_file(path)?;
        }
        given.read_environment(variables)?;
        given.read_flags(cli);
        given.settings()
    }
}

/// The values that were given, by key with a dot between levels; of several, the one that counts.
#[derive(Debug, Default)]
struct Given(BTreeMap<String, Setting>);

/// A value and where it came from.
#[derive(Debug)]
struct Setting {
    value: Value,
    origin: String,
}

impl Given {
    fn read_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
        let table = File::from_str(&text, FileFormat::Toml).collect().map_err(|error| {
            SettingsError::Syntax { path: path.to_owned(), reason: unquoted(&error.to_string()) }
        })?;
        for (key, value) in table {
            match value.kind {
                ValueKind::Table(table) if key == "multicore" => {
                    for (key, value) in table {
                        match value.kind {
                            ValueKind::Table(table) if key == "processes" => {
                                for (key, value) in table {
                                    self.set(format!("{PROCESSES}{key}"), value, path.display());
                                }
                            }
                            _ => self.set(format!("{MULTICORE}{key}"), value, path.display()),
                        }
                    }
                }
                _ => self.set(key, value, path.display()),
            }
        }
        Ok(())
    }

    fn read_environment(&mut self, variables: Option<Map<String, String>>) -> Result<(), SettingsError> {
        let environment = Environment::with_prefix("APP")
            .separator("__")
            .convert_case(Case::Kebab)
            .try_parsing(true)
            .source(variables);
        let values = environment.collect().map_err(|error| SettingsError::Environment(error.to_string()))?;
        for (key, value) in values {
            // Says which file to read, and has been followed already.
            if key != "config" {
                let variable = format!("APP__{}", key.to_uppercase().replace('.', "__").replace('-', "_"));
                self.set(key, value, variable);
            }
        }
        Ok(())
    }

    fn read_flags(&mut self, cli: &Cli) {
        for (key, flag, text) in cli.flags() {
            let value = text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from);
            self.set(key.to_owned(), value, flag);
        }
    }

    fn set(&mut self, key: String, value: Value, origin: impl fmt::Display) {
        self.0.insert(key, Setting { value, origin: origin.to_string() });
    }

    fn settings(&self) -> Result<Settings, SettingsError> {
        for key in self.0.keys() {
            let known = ["listen", "database-url", "rows", "drain", "drain-notice"];
            if !key.starts_with(MULTICORE) && !known.contains(&key.as_str()) {
                let known = known.join(", ");
                let accepted = format!("no such setting; accepted: {known}, and the table [multicore]");
                return Err(self.refused(key, accepted));
            }
        }
        Ok(Settings {
            listen: self.listen()?,
            database: self.database()?,
            rows: self.rows()?,
            drain: self.duration("drain", Duration::from_secs(10))?,
            drain_notice: self.duration("drain-notice", Duration::ZERO)?,
            multicore: self.multicore()?,
        })
    }

    fn listen(&self) -> Result<SocketAddr, SettingsError> {
        self.text("listen").unwrap_or("127.0.0.1:3000").parse().map_err(|_| {
            self.refused("listen", "accepted: an address and a port, such as 127.0.0.1:3000 or [::]:80")
        })
    }

    fn database(&self) -> Result<DatabaseUrl, SettingsError> {
        let text = self.text("database-url").unwrap_or("sqlite:data/example.db");
        text.parse().map_err(|error| self.refused("database-url", error))
    }

    fn rows(&self) -> Result<Option<u32>, SettingsError> {
        let Some(setting) = self.0.get("rows") else { return Ok(None) };
        match setting.value.kind {
            // Ids are signed 32-bit numbers.
            ValueKind::I64(rows @ 0..=0x7fff_ffff) => Ok(Some(rows as u32)),
            _ => Err(self.refused("rows", "accepted: a whole number from 0 to 2147483647")),
        }
    }

    fn duration(&self, key: &'static str, default: Duration) -> Result<Duration, SettingsError> {
        if !self.0.contains_key(key) {
            return Ok(default);
        }
        humantime::parse_duration(self.text(key).unwrap_or_default())
            .map_err(|_| self.refused(key, "accepted: a duration with units, such as 10s or 1m 30s"))
    }

    /// The library's own type says what it accepts; key by key, so that the error has a key.
    fn multicore(&self) -> Result<multicore_axum::Config, SettingsError> {
        let mut all = JsonMap::new();
        all.insert("max-limit".to_owned(), Json::from(DEFAULT_MAX_LIMIT));
        let default = |(key, value): (&str, &str)| (key.to_owned(), Json::from(value));
        let mut processes: JsonMap<String, Json> = DEFAULT_PROCESSES.map(default).into_iter().collect();
        for (key, setting) in &self.0 {
            let Some(name) = key.strip_prefix(MULTICORE) else { continue };
            let of_processes = key.strip_prefix(PROCESSES);
            let one = (of_processes.unwrap_or(name).to_owned(), json(&setting.value));
            let mut alone = JsonMap::from_iter([one.clone()]);
            if of_processes.is_some() {
                alone = JsonMap::from_iter([("processes".to_owned(), alone.into())]);
            }
            serde_json::from_value::<multicore_axum::Config>(alone.into())
                .map_err(|error| self.refused(key, accepted(&error.to_string())))?;
            if of_processes.is_some() { &mut processes } else { &mut all }.extend([one]);
        }
        all.insert("processes".to_owned(), processes.into());
        let config: multicore_axum::Config = serde_json::from_value(all.into())
            .map_err(|error| SettingsError::Environment(format!("[multicore]: {error}")))?;
        // What the library would refuse when its pool starts, which is after the database was made.
        config.check().map_err(|error| {
            let (key, value, accepted) = match error {
                StartError::Setting { key, value, accepted } => {
                    (format!("{MULTICORE}{key}"), value, accepted)
                }
                StartError::Processes(ProcessStartError::Setting { key, value, accepted }) => {
                    (format!("{PROCESSES}{key}"), value, accepted)
                }
                error => return SettingsError::Environment(format!("[multicore]: {error}")),
            };
            let default = Setting { value: Value::from(value), origin: "default".to_owned() };
            let setting = self.0.get(&key).unwrap_or(&default);
            setting.refused(&key, format_args!("accepted: {accepted}"))
        })?;
        Ok(config)
    }

    /// The text that was given; none if nothing was or it is not text. What is not text is shown to
    /// parse as nothing by the empty text.
    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|setting| match &setting.value.kind {
            ValueKind::String(text) => text.as_str(),
            _ => "",
        })
    }

    /// The error for a key that was given.
    fn refused(&self, key: &str, accepted: impl fmt::Display) -> SettingsError {
        self.0[key].refused(key, accepted)
    }
}

impl Setting {
    fn refused(&self, key: &str, accepted: impl fmt::Display) -> SettingsError {
        let value = match &self.value.kind {
            ValueKind::Table(_) | ValueKind::Array(_) => json(&self.value).to_string(),
            plain => plain.to_string(),
        };
        let value = if key.contains("secret") {
            // Misspelt keys too.
            "not shown".to_owned()
        } else {
            // Whatever the key is called, a URL may have been meant.
            without_password(&value).chars().take(SHOWN_CHARS).collect()
        };
        let (key, origin) = (key.to_owned(), self.origin.clone());
        SettingsError::Refused { key, value, origin, accepted: accepted.to_string() }
    }
}

/// A parser's message without the lines of the file it quotes, which may hold a secret.
fn unquoted(message: &str) -> String {
    let is_quote =
        |line: &&str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
    let lines: Vec<_> = message.trim_end().lines().filter(|line| !is_quote(line)).collect();
    lines.join("\n")
}

/// A value as it was written. JSON has no NaN and no infinity, which stay as words.
fn json(value: &Value) -> Json {
    match &value.kind {
        ValueKind::Nil => Json::Null,
        ValueKind::Boolean(value) => Json::from(*value),
        ValueKind::I64(value) => Json::from(*value),
        ValueKind::Float(value) if value.is_finite() => Json::from(*value),
        ValueKind::Array(values) => values.iter().map(json).collect(),
        ValueKind::Table(table) => table.iter().map(|(key, value)| (key.clone(), json(value))).collect(),
        other => Json::from(other.to_string()),
    }
}

/// What is accepted, out of the library's message; without key and value, which are said already.
fn accepted(message: &str) -> String {
    match message.split_once("; accepted") {
        Some((_, accepted)) => format!("accepted{accepted}"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
