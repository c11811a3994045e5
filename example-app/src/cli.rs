//! The command line. Values are taken as text here; what they mean, and whether they are any good, is
//! decided in [`settings`](crate::settings), alike for flags, environment and file.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Serves people and articles out of a database, with Multicore lending idle cores to the lists.
#[derive(Clone, Debug, Default, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub struct Cli {
    /// Where to listen; port 0 picks a free one [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,

    /// The database: sqlite:, postgres:, mysql: or mariadb: [default: sqlite:data/example.db]
    #[arg(long, value_name = "URL", global = true)]
    pub database_url: Option<String>,

    /// A TOML file with settings
    #[arg(long, value_name = "FILE", global = true, env = "APP__CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,

    /// Worker threads, each with a database connection [default: the cores this process may use]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub workers: Option<String>,

    /// The 1-minute load average per core above which no core is lent, such as 0.85 or 85%
    /// [default: none]
    #[arg(long, value_name = "LOAD", allow_negative_numbers = true)]
    pub max_load_average: Option<String>,

    /// Users there should be, with a fifth as many articles (up to 2000); missing ones are added
    /// [default: 10000 if there are none]
    #[arg(long, value_name = "NUMBER", global = true, allow_negative_numbers = true)]
    pub rows: Option<String>,

    /// How long requests under way may take to finish after SIGTERM or ctrl-c [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub drain: Option<String>,

    /// How long to go on serving after SIGTERM while /health/ready says 503 already, so that a load
    /// balancer sees it [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub drain_notice: Option<String>,

    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Only create and fill the tables
    Seed,
}

impl Cli {
    /// The settings among the flags that were given: key, name of the flag, value.
    pub fn flags(&self) -> impl Iterator<Item = (&'static str, &'static str, &str)> {
        [
            ("listen", "--listen", &self.listen),
            ("database-url", "--database-url", &self.database_url),
            ("rows", "--rows", &self.rows),
            ("drain", "--drain", &self.drain),
            ("drain-notice", "--drain-notice", &self.drain_notice),
            ("multicore.workers", "--workers", &self.workers),
            ("multicore.max-load-average", "--max-load-average", &self.max_load_average),
        ]
        .into_iter()
        .filter_map(|(key, flag, value)| Some((key, flag, value.as_deref()?)))
    }
}

const AFTER_HELP: &str = "\
A flag wins over the environment, the environment over the file, the file over the default.
In the environment, keys are upper-case with APP__ before them and __ between levels:
  APP__LISTEN=0.0.0.0:3000 APP__MULTICORE__MAX_LOAD_AVERAGE=85%
In the file, keys are kebab-case, and what concerns Multicore is in a table of its own:
  listen = \"0.0.0.0:3000\"
  [multicore]
  max-load-average = 0.85
RUST_LOG says what is logged [default: info,sqlx=warn].";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn seed_takes_the_flags_of_the_database_on_either_side() {
        for line in [["example-app", "--rows", "5", "seed"], ["example-app", "seed", "--rows", "5"]] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.command, Some(Command::Seed));
            assert_eq!(cli.flags().collect::<Vec<_>>(), [("rows", "--rows", "5")]);
        }
        assert!(Cli::try_parse_from(["example-app", "seed", "--workers", "5"]).is_err());
    }
}
