//! The URL of a database: which of the three it names, how to connect to it, and how to show it
//! without its password. Connecting itself is in [`connection`](crate::connection).

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use url::Url;

/// How long a statement waits for another's write lock on SQLite.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A database's URL, read. Displays without the password and without parameters.
#[derive(Clone, Debug)]
pub struct DatabaseUrl {
    shown: String,
    options: DatabaseOptions,
}

/// How to connect, by the database.
#[derive(Clone, Debug)]
pub enum DatabaseOptions {
    /// A URL that begins with `sqlite:`.
    Sqlite(Box<SqliteConnectOptions>),
    /// A URL that begins with `postgres:` or `postgresql:`.
    Postgres(Box<PgConnectOptions>),
    /// A URL that begins with `mysql:` or `mariadb:`.
    MySql(Box<MySqlConnectOptions>),
}

impl DatabaseUrl {
    /// How to connect.
    #[must_use]
    pub const fn options(&self) -> &DatabaseOptions {
        &self.options
    }

    /// The folder in which an SQLite database has its file, if it is not the current one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match &self.options {
            DatabaseOptions::Sqlite(options) => {
                options.get_filename().parent().filter(|folder| *folder != Path::new(""))
            }
            DatabaseOptions::Postgres(_) | DatabaseOptions::MySql(_) => None,
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// A text that is no URL of a database; says what is accepted, and nothing that was in the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    /// It begins with none of the known schemes.
    #[error("accepted: a URL that begins with sqlite:, postgres:, mysql: or mariadb:")]
    Scheme,
    /// An SQLite URL without a file.
    #[error("accepted after sqlite: is the path of a file, as in sqlite:data/example.db")]
    NoFile,
    /// The rest is not as the driver expects it.
    #[error("accepted: a URL such as {example}; {reason}")]
    Rest {
        /// What such a URL looks like.
        example: &'static str,
        /// What the driver says.
        reason: String,
    },
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let (scheme, rest) = text.split_once(':').ok_or(InvalidDatabaseUrl::Scheme)?;
        let options = match scheme {
            "sqlite" if matches!(rest.split('?').next(), Some("" | "//")) => {
                return Err(InvalidDatabaseUrl::NoFile);
            }
            "sqlite" => DatabaseOptions::Sqlite(Box::new(sqlite(text)?)),
            "postgres" | "postgresql" => {
                DatabaseOptions::Postgres(parse(text, "postgres://user@localhost/example")?)
            }
            "mysql" | "mariadb" => DatabaseOptions::MySql(parse(text, "mysql://user@localhost/example")?),
            _ => return Err(InvalidDatabaseUrl::Scheme),
        };
        Ok(Self { shown: without_password(text), options })
    }
}

/// WAL lets lists read while something is written; with it, `NORMAL` loses no consistency.
fn sqlite(text: &str) -> Result<SqliteConnectOptions, InvalidDatabaseUrl> {
    let options: Box<SqliteConnectOptions> = parse(text, "sqlite:data/example.db")?;
    let options = options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(SQLITE_BUSY_TIMEOUT);
    // A URL that says how to open the file has the last word.
    let says_how = text.contains("mode=");
    Ok(if says_how { options } else { options.create_if_missing(true) })
}

fn parse<O: FromStr<Err = sqlx::Error>>(
    text: &str,
    example: &'static str,
) -> Result<Box<O>, InvalidDatabaseUrl> {
    let options = text.parse().map_err(|error| {
        let reason = match error {
            sqlx::Error::Configuration(reason) => reason.to_string(),
            other => other.to_string(),
        };
        InvalidDatabaseUrl::Rest { example, reason }
    })?;
    Ok(Box::new(options))
}

/// The text of a URL as it may be shown: without password, parameters and fragment, and cut down to
/// its scheme where it cannot be said what in it is the password.
#[must_use]
pub fn without_password(text: &str) -> String {
    if !text.contains(['@', '?', '#']) || text.starts_with("sqlite:") {
        return text.to_owned();
    }
    match Url::parse(text) {
        Ok(mut url) if url.has_host() => {
            // It has a host, so there is nothing that could not be set.
            let _nothing = url.set_password(None);
            url.set_query(None);
            url.set_fragment(None);
            url.into()
        }
        _ => format!("{}:…", text.split(':').next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_chooses_the_database() {
        let options = |text: &str| text.parse::<DatabaseUrl>().map(|url| url.options);
        for text in ["sqlite:a.db", "sqlite://a.db", "sqlite:///tmp/a.db", "sqlite::memory:"] {
            assert!(matches!(options(text), Ok(DatabaseOptions::Sqlite(_))), "{text}");
        }
        for text in ["postgres://h/d", "postgresql://u:p@h:5432/d?application_name=x"] {
            assert!(matches!(options(text), Ok(DatabaseOptions::Postgres(_))), "{text}");
        }
        for text in ["mysql://h/d", "mariadb://u:p@h:3306/d"] {
            assert!(matches!(options(text), Ok(DatabaseOptions::MySql(_))), "{text}");
        }
    }

    #[test]
    fn what_is_no_database_is_refused_with_what_is_accepted() {
        for (text, says) in [
            ("mongodb://u:secret@h/d", "accepted: a URL that begins with sqlite:"),
            ("data/example.db", "accepted: a URL that begins with sqlite:"),
            ("", "accepted: a URL that begins with sqlite:"),
            ("sqlite:", "accepted after sqlite: is the path of a file"),
            ("sqlite://", "accepted after sqlite: is the path of a file"),
            ("sqlite:a.db?mode=fast", "such as sqlite:data/example.db; unknown value \"fast\""),
            ("postgres://h:port/d", "such as postgres://user@localhost/example; invalid port"),
            ("mysql://h:99999/d", "such as mysql://user@localhost/example; invalid port"),
        ] {
            let error = text.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (text, shown) in [
            ("sqlite:data/example.db", "sqlite:data/example.db"),
            ("postgres://localhost/d", "postgres://localhost/d"),
            ("postgres://u:secret@h:5433/d", "postgres://u@h:5433/d"),
            ("postgres://u:se%40cret@h/d?sslmode=disable&password=secret", "postgres://u@h/d"),
            ("postgres:///d?host=/run&password=secret", "postgres:…"),
            ("mysql://u:sec@ret@h/d", "mysql://u@h/d"),
            ("mysql://u:sec/ret@h/d", "mysql:…"),
            ("mongodb://u:secret@h/d", "mongodb://u@h/d"),
            ("u:secret@h/d", "u:…"),
        ] {
            assert_eq!(without_password(text), shown);
        }
    }

    #[test]
    fn the_folder_is_that_of_an_sqlite_file() {
        let folder = |text: &str| text.parse::<DatabaseUrl>().unwrap().folder().map(Path::to_owned);
        assert_eq!(folder("sqlite:data/example.db").as_deref(), Some(Path::new("data")));
        assert_eq!(folder("sqlite:///a/b/c.db").as_deref(), Some(Path::new("/a/b")));
        assert_eq!(folder("sqlite:example.db"), None);
        assert_eq!(folder("sqlite::memory:"), None);
        assert_eq!(folder("postgres://h/d"), None);
    }
}
