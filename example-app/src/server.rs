//! The server's life: what is started in which order, so that a failure leaves nothing half-started
//! behind, and what is stopped in which order.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use multicore_axum::process::Registered;
use multicore_axum::{ListRow, Multicore, MulticoreLayer, SqlDatabase, StartError};
use sqlx::Pool;
use tokio::net::TcpListener;

use crate::articles::ArticleRow;
use crate::connection::{self, OpenError, Options};
use crate::database::AppDatabase;
use crate::drain::{self, Drained, Readiness};
use crate::markdown;
use crate::routes::{AppState, router};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::users::UserRow;

/// What closing workers and connections may take at least, however little of the deadline is left.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Why the server did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The database is not ready.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The pool of workers did not start.
    #[error("cannot start Multicore")]
    Multicore(#[from] StartError),
    /// Signals cannot be received.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// The listener failed.
    #[error("cannot accept connections")]
    Accept(#[source] io::Error),
}

/// Serves until SIGTERM or ctrl-c, then ends in good order; at a second signal at once.
///
/// # Errors
/// The first step that failed. What was started before it is stopped.
pub async fn run<DB>(settings: &Settings, options: &Options<DB>, tasks: Registered) -> Result<(), ServeError>
where
    DB: AppDatabase + SqlDatabase,
    UserRow: ListRow<DB>,
    ArticleRow: ListRow<DB>,
{
    // First, so that a port in use is found out before a database is made.
    let address = settings.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    let pool = connection::open::<DB>(&settings.database, options).await?;
    let served = fill_and_serve(settings, listener, &pool, tasks).await;
    if tokio::time::timeout(CLOSE_WITHIN, pool.close()).await.is_err() {
        tracing::warn!("some database connections were still in use, and were left behind");
    }
    served
}

async fn fill_and_serve<DB>(
    settings: &Settings,
    listener: TcpListener,
    pool: &Pool<DB>,
    tasks: Registered,
) -> Result<(), ServeError>
where
    DB: AppDatabase + SqlDatabase,
    UserRow: ListRow<DB>,
    ArticleRow: ListRow<DB>,
{
    let seeded = connection::fill(pool, &settings.database, settings.rows).await?;
    tracing::info!(
        database = %settings.database,
        users = seeded.users.already_there + seeded.users.inserted,
        articles = seeded.articles.already_there + seeded.articles.inserted,
        "the database is ready"
    );

    let mut builder = MulticoreLayer::<DB>::builder().config(settings.multicore.clone()).pool(pool.clone());
    if cfg!(target_os = "linux") {
        builder = builder.processes(tasks);
    } else {
        tracing::warn!("worker processes need Linux: there are no thumbnails here");
    }
    let layer = builder.start().await?;
    let multicore = layer.handle();
    let readiness = Readiness::default();
    let state = Arc::new(AppState { pool: pool.clone(), readiness: readiness.clone() });
    let app = router(state, layer);

    // The first article would wait for it; the first list of people need not.
    tokio::task::spawn_blocking(markdown::warm_up);
    let address = listener.local_addr().map_err(ServeError::Accept)?;
    let mut signals = Signals::install().map_err(ServeError::Signals)?;
    let stop = async move {
        let name = signals.next().await;
        tracing::info!("{name} received");
        tokio::spawn(async move {
            let name = signals.next().await;
            tracing::warn!("{name} received again: ending at once");
            std::process::exit(1);
        });
    };
    announce(address);

    let (notice, deadline) = (settings.drain_notice, settings.drain);
    let drained = drain::serve(listener, app, &readiness, stop, notice, deadline).await;
    close(&multicore, &drained, deadline).await;
    drained.map(|_| ()).map_err(ServeError::Accept)
}

/// The one line on standard output: who started the server can wait for it.
fn announce(address: SocketAddr) {
    let mut out = io::stdout();
    let said = writeln!(out, "listening on http://{address}").and_then(|()| out.flush());
    if let Err(error) = said {
        tracing::info!(%error, "listening on http://{address}, which standard output would not take");
    }
}

/// Stops the workers, once no request needs them any more.
async fn close<DB: SqlDatabase>(
    multicore: &Multicore<DB>,
    drained: &io::Result<Drained>,
    deadline: Duration,
) {
    let started = Instant::now();
    let report = match drained {
        Ok(Drained::Finished) => multicore.shutdown(deadline.max(CLOSE_WITHIN)).await,
        Ok(Drained::Cut) | Err(_) => {
            tracing::warn!("requests were still under way after {deadline:?}, and are cut off");
            multicore.shutdown(CLOSE_WITHIN).await
        }
    };
    let took = started.elapsed();
    let processes = multicore.processes().stats();
    tracing::info!(
        calls = processes.calls,
        refused = processes.refused,
        died = processes.died,
        killed = processes.killed,
        "worker processes ended"
    );
    if report.is_clean() {
        tracing::info!("workers stopped after {took:?}: {report}");
    } else {
        tracing::warn!("workers stopped after {took:?}: {report}");
    }
}
