//! The program: reads the settings, chooses the database by its URL, and serves or seeds. It ends
//! with 0 when all went well, 2 when a setting means nothing, and 1 when something failed.

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use example_app::articles::ArticleRow;
use example_app::cli::{Cli, Command};
use example_app::connection::{self, OpenError, Options};
use example_app::database::AppDatabase;
use example_app::database_url::DatabaseOptions;
use example_app::seed::Seeded;
use example_app::server::{self, ServeError};
use example_app::settings::{Settings, SettingsError};
use example_app::thumbnails;
use example_app::users::UserRow;
use multicore_axum::process::Registered;
use multicore_axum::{ListRow, SqlDatabase, StartError};
use sqlx::{MySql, Postgres, Sqlite};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // First of all: the worker processes are this program too, and go no further than here.
    let tasks = thumbnails::tasks().init();
    let cli = Cli::parse();
    let ended = tokio::runtime::Runtime::new().map_err(Failure::Runtime).and_then(|runtime| {
        let ended = runtime.block_on(run(&cli, tasks));
        // What computes still, such as a request past its deadline, does not delay the end.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message());
            failure.exit_code()
        }
    }
}

async fn run(cli: &Cli, tasks: Registered) -> Result<(), Failure> {
    log()?;
    let settings = Settings::read(cli, None)?;
    match settings.database.options() {
        DatabaseOptions::Sqlite(options) => start::<Sqlite>(cli.command, &settings, options, tasks).await?,
        DatabaseOptions::Postgres(options) => {
            start::<Postgres>(cli.command, &settings, options, tasks).await?
        }
        DatabaseOptions::MySql(options) => start::<MySql>(cli.command, &settings, options, tasks).await?,
    }
    Ok(())
}

async fn start<DB>(
    command: Option<Command>,
    settings: &Settings,
    options: &Options<DB>,
    tasks: Registered,
) -> Result<(), ServeError>
where
    DB: AppDatabase + SqlDatabase,
    UserRow: ListRow<DB>,
    ArticleRow: ListRow<DB>,
{
    match command {
        None => server::run::<DB>(settings, options, tasks).await,
        Some(Command::Seed) => Ok(seed::<DB>(settings, options).await?),
    }
}

/// Logs to standard error, as `RUST_LOG` says.
fn log() -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map_err(|error| {
            Failure::Log(format!(
                "RUST_LOG is `{text}`; accepted: directives such as info,sqlx=warn ({error})"
            ))
        })?,
        _ => EnvFilter::new("info,sqlx=warn"),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

/// Creates and fills the tables, and no more.
async fn seed<DB: AppDatabase>(settings: &Settings, options: &Options<DB>) -> Result<(), OpenError> {
    let pool = connection::open::<DB>(&settings.database, options).await?;
    let filled = connection::fill(&pool, &settings.database, settings.rows).await;
    pool.close().await;
    let report = filled?;
    let line = |Seeded { already_there, inserted, .. }: Seeded| {
        format!("{} ({inserted} new)", already_there + inserted)
    };
    tracing::info!(
        "{} has users: {}, articles: {}",
        settings.database,
        line(report.users),
        line(report.articles)
    );
    Ok(())
}

/// Why the program ends otherwise than well.
enum Failure {
    /// There are no threads to be had.
    Runtime(std::io::Error),
    /// What is to be logged means nothing.
    Log(String),
    /// A setting means nothing.
    Settings(SettingsError),
    /// Something failed.
    Run(ServeError),
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::Settings(error)
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        Self::Run(error)
    }
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Log(_) | Self::Settings(_) => ExitCode::from(2),
            Self::Run(ServeError::Multicore(StartError::Setting { .. })) => ExitCode::from(2),
            Self::Runtime(_) | Self::Run(_) => ExitCode::FAILURE,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Runtime(error) => format!("cannot start the runtime: {error}"),
            Self::Log(message) => message.clone(),
            Self::Settings(error) => error.to_string(),
            Self::Run(error) => chain(error),
        }
    }
}

/// An error and its causes in one line. Where one repeats its cause in words of its own, the cause
/// stands for both.
fn chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut last = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !last.contains(&said) {
            message.push_str(&last);
            last.clear();
            last.push_str(": ");
        } else {
            last.truncate(2);
        }
        last.push_str(&said);
        source = cause.source();
    }
    message + &last
}
