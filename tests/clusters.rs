//! PostgreSQL servers of a test's own, from the installed binaries, which can be stopped, restarted and
//! followed by a standby, and a PgBouncer in front of one. They and their folders are gone at the end,
//! also after a panic. Databases on a server that is shared are in `databases`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool};
use tempfile::TempDir;

use crate::databases::skip;
use crate::support::PATIENCE;

/// What every server of a test is set to; what is only a standby's comes behind it.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
# Its data is not meant to outlive the test.
fsync = off
full_page_writes = off
shared_buffers = 16MB
max_connections = 60
wal_level = replica
hot_standby = on
max_wal_senders = 8
# What a stopped standby needs to catch up.
wal_keep_size = 128MB
";

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stop {
    /// Connections are closed, what they do is rolled back.
    Fast,
    /// As in a crash.
    Immediate,
}

/// A PostgreSQL server. Its user is `postgres`, its database is `postgres`, it asks for no password and
/// sorts text by its bytes.
pub(crate) struct Cluster {
    place: Place,
    binaries: PathBuf,
}

impl Cluster {
    /// A new server, or none where PostgreSQL is not installed.
    pub(crate) async fn primary() -> Option<Cluster> {
        let binaries = match binaries() {
            Ok(binaries) => binaries,
            Err(error) => {
                skip("PostgreSQL", "pg_config --bindir or /usr/lib/postgresql/*/bin", error);
                return None;
            }
        };
        let cluster = Cluster { place: Place::new(), binaries };
        let mut initdb = cluster.command("initdb");
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync"]);
        run(initdb).await;
        cluster.configure(SETTINGS);
        cluster.start().await;
        Some(cluster)
    }

    /// A new server that follows this one, which streams and answers queries when this returns.
    pub(crate) async fn standby(&self) -> Cluster {
        self.standby_set_to("").await
    }

    /// The same, with settings of its own.
    pub(crate) async fn standby_set_to(&self, settings: &str) -> Cluster {
        let standby = Cluster { place: Place::new(), binaries: self.binaries.clone() };
        let mut backup = standby.command("pg_basebackup");
        backup.args(["--host=127.0.0.1", "--username=postgres", "--port"]).arg(self.place.port.to_string());
        backup.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
        run(backup).await;
        standby.configure(settings);
        standby.start().await;
        let connection = &mut standby.options().connect().await.unwrap();
        let streams = "SELECT count(*) = 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        holds(connection, streams).await;
        standby
    }

    /// Waits until this standby shows all that its primary has committed by now.
    pub(crate) async fn catch_up(&self, primary: &Cluster) {
        let connection = &mut primary.options().connect().await.unwrap();
        // What is committed is flushed. What is inserted beyond may only be sent much later.
        let sql = "SELECT pg_current_wal_flush_lsn()::text";
        let position: String = sqlx::query_scalar(sql).fetch_one(&mut *connection).await.unwrap();
        let connection = &mut self.options().connect().await.unwrap();
        holds(connection, &format!("SELECT pg_last_wal_replay_lsn() >= '{position}'")).await;
    }

    /// Starts it again after [`stop`](Self::stop), at the same port.
    pub(crate) async fn start(&self) {
        let mut start = self.command("pg_ctl");
        // Not its own output, which would be open for as long as the server runs.
        start.args(["start", "--wait", "--silent", "--log"]).arg(self.place.log());
        run(start).await;
    }

    pub(crate) async fn stop(&self, how: Stop) {
        run(self.stopping(how)).await;
    }

    pub(crate) async fn restart(&self, how: Stop) {
        self.stop(how).await;
        self.start().await;
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        self.place.options()
    }

    /// A pool of so many connections, which are opened when they are needed.
    pub(crate) fn pool(&self, connections: u32) -> PgPool {
        PgPoolOptions::new().max_connections(connections).connect_lazy_with(self.options())
    }

    fn stopping(&self, how: Stop) -> Command {
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "--wait", "--silent", "--mode"]).arg(match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        });
        stop
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.place.command(&self.binaries.join(program));
        command.arg("--pgdata").arg(self.data());
        command
    }

    fn data(&self) -> PathBuf {
        self.place.folder.path().join("data")
    }

    /// Adds to its settings. The last one of a name counts.
    fn configure(&self, settings: &str) {
        let path = self.data().join("postgresql.conf");
        let folder = self.place.folder.path().display();
        let port = self.place.port;
        let ours = format!("{settings}\nport = {port}\nunix_socket_directories = '{folder}'\n");
        fs::write(&path, fs::read_to_string(&path).unwrap() + &ours).unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Fails where it has been stopped or has never started.
        _ = self.stopping(Stop::Immediate).output();
    }
}

/// A PgBouncer that gives each transaction of its clients any of its few connections to a server.
pub(crate) struct PgBouncer {
    place: Place,
    process: Child,
}

impl PgBouncer {
    /// One in front of the server's databases, or none where PgBouncer is not installed.
    ///
    /// Statements that are prepared under a name are not supported before version 1.21.
    pub(crate) async fn new(cluster: &Cluster, connections: u32) -> Option<PgBouncer> {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
        let Some(program) =
            std::env::split_paths(&path).map(|dir| dir.join("pgbouncer")).find(|it| it.exists())
        else {
            skip("PgBouncer", "PATH or /usr/sbin", "not installed");
            return None;
        };
        let place = Place::new();
        let (folder, log) = (place.folder.path().display(), place.log());
        let settings = format!(
            "[databases]
             * = host=127.0.0.1 port={server} user=postgres
             [pgbouncer]
             pool_mode = transaction
             auth_type = any
             listen_addr = 127.0.0.1
             listen_port = {port}
             unix_socket_dir = {folder}
             default_pool_size = {connections}
             max_client_conn = 500
             # sqlx sends it, and each connection has it.
             ignore_startup_parameters = extra_float_digits",
            server = cluster.place.port,
            port = place.port,
        );
        let settings = settings.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
        let file = place.folder.path().join("pgbouncer.ini");
        fs::write(&file, settings).unwrap();
        place.give(&file);
        let mut command = place.command(&program);
        command.arg(&file).stdout(Stdio::null()).stderr(fs::File::create(log).unwrap());
        let mut bouncer = PgBouncer { process: command.spawn().unwrap(), place };
        let start = Instant::now();
        while let Err(error) = bouncer.options().connect().await {
            let ended = bouncer.process.try_wait().unwrap();
            let log = || fs::read_to_string(bouncer.place.log()).unwrap();
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "{error}, {ended:?}: {}", log());
            pause().await;
        }
        Some(bouncer)
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        self.place.options()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // Fails where it has ended by itself.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// The folder and the port of a server, and the user it runs as. PostgreSQL and PgBouncer refuse root.
struct Place {
    folder: TempDir,
    port: u16,
    user: Option<(u32, u32)>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let place = Place { folder, port: free_port(), user: root.then(unprivileged) };
        place.give(place.folder.path());
        place
    }

    /// Makes the user the owner.
    fn give(&self, path: &Path) {
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // The current folder may be closed to the user.
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn options(&self) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.port);
        options.username("postgres").database("postgres")
    }
}

/// The folder of the newest installed PostgreSQL.
fn binaries() -> Result<PathBuf, String> {
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if folder.join("initdb").exists() {
            return Ok(folder);
        }
    }
    let versions = fs::read_dir("/usr/lib/postgresql").map_err(|error| error.to_string())?;
    let folders = versions.filter_map(|version| {
        let path = version.ok()?.path();
        let number: u32 = path.file_name()?.to_str()?.parse().ok()?;
        path.join("bin/initdb").exists().then(|| (number, path.join("bin")))
    });
    Ok(folders.max().ok_or("no initdb in any version's folder")?.1)
}

/// The user and the group that a server runs as when the tests run as root.
fn unprivileged() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids_of = |name: &str| {
        let fields: Vec<_> = users.lines().find(|line| line.starts_with(name))?.split(':').collect();
        Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
    };
    ids_of("postgres:").or_else(|| ids_of("nobody:")).expect("a user for the server, which refuses root")
}

/// A port that nobody listens on, below those that the kernel gives to connections, so that it is still
/// free when a server comes back to it.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Runs of the tests at the same time begin in different places.
    let start = std::process::id() as u16 % 100 * 100;
    let candidates = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed)).take(10_000);
    let mut ports = candidates.map(|next| 20_000 + start.wrapping_add(next) % 10_000);
    ports.find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).expect("a free port")
}

/// Runs a command to its end.
///
/// # Panics
/// If it fails, with what it said.
async fn run(mut command: Command) {
    tokio::task::spawn_blocking(move || {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (said(&output.stdout), said(&output.stderr));
        assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    })
    .await
    .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
}

/// Waits until a condition of one row is true.
pub(crate) async fn holds(connection: &mut PgConnection, sql: &str) {
    let start = Instant::now();
    while !sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *connection).await.unwrap_or(false) {
        assert!(start.elapsed() < PATIENCE, "never came true: {sql}");
        pause().await;
    }
}

/// Gives another process a moment before it is asked again. It has no gate to wait at, and asking
/// without a pause would take from it the core that it needs.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

/// What a statement of one row and one column gives.
pub(crate) async fn one<T>(pool: &PgPool, sql: &'static str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_cluster_keeps_its_rows_and_its_port_over_restarts_and_is_gone_at_the_end() {
    let Some(primary) = Cluster::primary().await else { return };
    let folder = primary.place.folder.path().to_owned();
    let pool = primary.pool(1);
    pool.execute("CREATE TABLE number AS SELECT generate_series(1, 100) AS id").await.unwrap();
    for how in [Stop::Fast, Stop::Immediate] {
        let start: f64 = one(&pool, "SELECT extract(epoch FROM pg_postmaster_start_time())::float8").await;
        primary.restart(how).await;
        // The pool's connection broke.
        let pool = primary.pool(1);
        let again: f64 = one(&pool, "SELECT extract(epoch FROM pg_postmaster_start_time())::float8").await;
        assert!(again > start, "{how:?}");
        assert_eq!(one::<i64>(&pool, "SELECT count(*) FROM number").await, 100, "{how:?}");
    }
    primary.stop(Stop::Fast).await;
    assert!(primary.options().connect().await.is_err());
    primary.start().await;
    primary.options().connect().await.unwrap();
    let options = primary.options();
    drop(primary);
    assert!(options.connect().await.is_err());
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_cluster_is_gone_after_a_panic() {
    let Some(primary) = Cluster::primary().await else { return };
    let (options, folder) = (primary.options(), primary.place.folder.path().to_owned());
    let test = tokio::spawn(async move {
        primary.options().connect().await.unwrap();
        panic!("as meant");
    });
    assert!(test.await.unwrap_err().is_panic());
    assert!(options.connect().await.is_err());
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_standby_shows_what_its_primary_commits_also_after_it_was_away() {
    let Some(primary) = Cluster::primary().await else { return };
    let standby = primary.standby().await;
    let pool = standby.pool(1);
    assert!(one::<bool>(&pool, "SELECT pg_is_in_recovery()").await);
    pool.close().await;
    let commits = primary.pool(1);
    commits.execute("CREATE TABLE number (id int PRIMARY KEY)").await.unwrap();
    for id in 1..=3 {
        if id == 2 {
            standby.stop(Stop::Fast).await;
        }
        sqlx::query("INSERT INTO number VALUES ($1)").bind(id).execute(&commits).await.unwrap();
        if id == 2 {
            standby.start().await;
        }
        standby.catch_up(&primary).await;
        assert_eq!(one::<i32>(&standby.pool(1), "SELECT max(id) FROM number").await, id);
    }
    let refused = standby.pool(1).execute("INSERT INTO number VALUES (4)").await.unwrap_err();
    assert!(refused.to_string().contains("read-only transaction"), "{refused}");
}

#[tokio::test]
async fn clients_of_a_bouncer_share_a_connection_between_transactions() {
    let Some(primary) = Cluster::primary().await else { return };
    let Some(bouncer) = PgBouncer::new(&primary, 1).await else { return };
    // Both stay connected, which would be one too many if a session kept its connection.
    let mut clients =
        [bouncer.options().connect().await.unwrap(), bouncer.options().connect().await.unwrap()];
    let mut backends = vec![];
    for _ in 0..3 {
        for client in &mut clients {
            let mut transaction = client.begin().await.unwrap();
            let sql = sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid() WHERE $1").bind(true);
            // Without a name, hence of this transaction alone.
            backends.push(sql.persistent(false).fetch_one(&mut *transaction).await.unwrap());
            transaction.commit().await.unwrap();
        }
    }
    backends.dedup();
    assert_eq!(backends.len(), 1, "{backends:?}");
}
