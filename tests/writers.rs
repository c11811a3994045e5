//! Writers: they bring the writes of an `oracle` table to a database, each in a transaction that also
//! says its number, one at a time at a test's word or in the background. What the writes are is for
//! `oracle`.

use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, PgPool, SqliteConnection};

use crate::clusters::{Cluster, Stop};
use crate::databases::{sqlite, with_postgres};
use crate::oracle::{Item, Model, Table, Verdict, Write};
use crate::pages::{Asked, Order, Pages, Place};
use crate::support::{PATIENCE, until};

/// Tells the tests' binary that it is to be a writer: the seed, the rows, the writes a second and the
/// file, with blanks in between.
const AS_A_PROCESS: &str = "MULTICORE_TEST_WRITER";

/// How many writes a writer that is behind its rate brings at once.
const MANY: usize = 16;

/// How many writes a second at most; as many as it can where there is none.
pub(crate) type Rate = Option<u32>;

/// The writes of a table in their order, from the one that its database is at.
pub(crate) struct Writes {
    model: Model,
    database: Database,
}

enum Database {
    Sqlite(SqliteConnection),
    Postgres(Box<PgConnectOptions>, PgConnection),
}

impl Writes {
    pub(crate) async fn sqlite(table: Table, options: SqliteConnectOptions) -> Writes {
        let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Off);
        let mut connection = options.busy_timeout(PATIENCE).connect().await.unwrap();
        sqlx::raw_sql(BRING).execute(&mut connection).await.unwrap();
        let v = version_sqlite(&mut connection).await;
        Writes::from(table, v, Database::Sqlite(connection))
    }

    pub(crate) async fn postgres(table: Table, options: PgConnectOptions) -> Writes {
        let mut connection = connect_postgres(&options).await.unwrap();
        let v = version_postgres(&mut connection).await.unwrap();
        Writes::from(table, v, Database::Postgres(Box::new(options), connection))
    }

    fn from(table: Table, v: i64, database: Database) -> Writes {
        let mut model = table.model();
        model.advance_to(v);
        Writes { model, database }
    }

    /// Commits the next write and returns its number. Meets a restart of the server with patience.
    pub(crate) async fn write(&mut self) -> i64 {
        self.write_many(1, &|| false).await;
        self.model.v()
    }

    /// Commits the next so many writes, one after the other, or fewer when it is told to stop. Returns
    /// how many.
    async fn write_many(&mut self, count: usize, stop: &(dyn Fn() -> bool + Sync)) -> usize {
        match &mut self.database {
            Database::Sqlite(connection) => {
                write_sqlite(connection, &mut self.model, count).await.unwrap();
                count
            }
            Database::Postgres(options, connection) => {
                for done in 0..count {
                    let write = self.model.write();
                    if !insist_postgres(options, connection, &write, self.model.v(), stop).await {
                        return done;
                    }
                }
                count
            }
        }
    }
}

async fn version_sqlite(connection: &mut SqliteConnection) -> i64 {
    sqlx::query_scalar("SELECT v FROM version").fetch_one(connection).await.unwrap()
}

async fn version_postgres(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT v FROM version").fetch_one(connection).await
}

async fn connect_postgres(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let mut connection = options.connect().await?;
    // No write waits for the disk. Where none does anyway, a crash of the server must not lose one.
    let sql = "SELECT set_config('synchronous_commit', 'off', false) WHERE current_setting('fsync')::bool";
    sqlx::query(sql).execute(&mut connection).await?;
    Ok(connection)
}

/// Makes any write one statement, hence one transaction: the rows that go and the rows that come, at
/// most two of each. They are this connection's alone.
const BRING: &str = "
    CREATE TEMP VIEW write AS
    SELECT 0 gone, 0 gone2, 0 id, 0 k, '' note, 0 id2, 0 k2, '' note2, 0 v;
    CREATE TEMP TRIGGER bring INSTEAD OF INSERT ON write BEGIN
        DELETE FROM item WHERE id IN (NEW.gone, NEW.gone2);
        INSERT INTO item (id, k, note) SELECT NEW.id, NEW.k, NEW.note WHERE NEW.id IS NOT NULL;
        INSERT INTO item (id, k, note) SELECT NEW.id2, NEW.k2, NEW.note2 WHERE NEW.id2 IS NOT NULL;
        UPDATE version SET v = NEW.v;
    END";

/// Brings so many writes in one statement, which stays prepared: one way to the connection's thread and
/// back, which takes longer than a write does.
async fn write_sqlite(
    connection: &mut SqliteConnection,
    model: &mut Model,
    count: usize,
) -> sqlx::Result<()> {
    let mut query =
        sqlx::query(AssertSqlSafe("INSERT INTO write VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);".repeat(count)));
    for _ in 0..count {
        let (gone, come) = match model.write() {
            Write::Insert(item) => ([None, None], [Some(item), None]),
            Write::Delete(id) => ([Some(id), None], [None, None]),
            Write::Move(item) => ([Some(item.id), None], [Some(item), None]),
            Write::Swap(one, other) => ([Some(one.id), Some(other.id)], [Some(one), Some(other)]),
            Write::Renumber(from, item) => ([Some(from), None], [Some(item), None]),
        };
        for id in gone {
            query = query.bind(id);
        }
        for item in come {
            let (id, k) = item.as_ref().map(|item| (item.id, item.k)).unzip();
            query = query.bind(id).bind(k).bind(item.map(|item| item.note));
        }
        query = query.bind(model.v());
    }
    query.execute(connection).await.map(drop)
}

/// Brings the write, connecting again if the server restarts in the meantime. Whether it is done: a
/// server that does not come back must not keep anybody from stopping.
async fn insist_postgres(
    options: &PgConnectOptions,
    connection: &mut PgConnection,
    write: &Write,
    v: i64,
    stop: &(dyn Fn() -> bool + Sync),
) -> bool {
    let start = Instant::now();
    while let Err(error) = write_postgres(connection, write, v).await {
        assert!(start.elapsed() < PATIENCE, "write {v}: {error}");
        if let Ok(mut again) = connect_postgres(options).await {
            // The commit may have been done and only its answer lost.
            let at = version_postgres(&mut again).await;
            *connection = again;
            match at {
                Ok(at) if at == v => return true,
                Ok(at) => assert_eq!(at, v - 1, "a write was lost, or is not ours: {error}"),
                Err(_) => {}
            }
        } else if stop() {
            return false;
        }
        // Another process has no gate to wait at.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}

async fn write_postgres(connection: &mut PgConnection, write: &Write, v: i64) -> sqlx::Result<()> {
    let query = match write {
        Write::Insert(Item { id, k, note }) => sqlx::query(
            "WITH write AS (INSERT INTO item (id, k, note) VALUES ($2, $3, $4)) UPDATE version SET v = $1",
        )
        .bind(v)
        .bind(id)
        .bind(k)
        .bind(note),
        Write::Delete(id) => {
            sqlx::query("WITH write AS (DELETE FROM item WHERE id = $2) UPDATE version SET v = $1")
                .bind(v)
                .bind(id)
        }
        Write::Swap(one, other) => sqlx::query(
            "WITH one AS (UPDATE item SET k = $3, note = $4 WHERE id = $2),
                  other AS (UPDATE item SET k = $6, note = $7 WHERE id = $5)
             UPDATE version SET v = $1",
        )
        .bind(v)
        .bind(one.id)
        .bind(one.k)
        .bind(&one.note)
        .bind(other.id)
        .bind(other.k)
        .bind(&other.note),
        Write::Move(item @ Item { id: from, .. }) | Write::Renumber(from, item) => sqlx::query(
            "WITH write AS (UPDATE item SET id = $3, k = $4, note = $5 WHERE id = $2)
             UPDATE version SET v = $1",
        )
        .bind(v)
        .bind(from)
        .bind(item.id)
        .bind(item.k)
        .bind(&item.note),
    };
    query.execute(connection).await.map(drop)
}

/// Writes in the background until it is stopped or dropped.
pub(crate) struct Writer(Worker);

enum Worker {
    Thread { stop: Arc<AtomicBool>, written: Arc<AtomicU64>, thread: Option<JoinHandle<u64>> },
    Process { process: Child, stop: Option<ChildStdin> },
}

impl Writer {
    pub(crate) fn sqlite(table: Table, options: SqliteConnectOptions, rate: Rate) -> Writer {
        Writer::thread(Writes::sqlite(table, options), rate)
    }

    pub(crate) fn postgres(table: Table, options: PgConnectOptions, rate: Rate) -> Writer {
        Writer::thread(Writes::postgres(table, options), rate)
    }

    /// A writer that is a process of its own: the tests' binary again.
    pub(crate) fn sqlite_process(table: Table, path: &Path, rate: Rate) -> Writer {
        let Table { seed, rows } = table;
        let task = format!("{seed} {rows} {} {}", rate.unwrap_or(0), path.display());
        let test = concat!(module_path!(), "::as_a_process").split_once("::").unwrap().1;
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(AS_A_PROCESS, task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stop = process.stdin.take();
        Writer(Worker::Process { process, stop })
    }

    /// On a thread and a runtime of its own, so that it keeps its pace whatever the test's threads do.
    fn thread(writes: impl Future<Output = Writes> + Send + 'static, rate: Rate) -> Writer {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, count) = (stop.clone(), written.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                write_on(writes.await, rate, &count, || told.load(Ordering::Relaxed)).await;
            });
            count.load(Ordering::Relaxed)
        });
        Writer(Worker::Thread { stop, written, thread: Some(thread) })
    }

    /// Waits until it has done so many writes. Not for a process, whose pages tell.
    pub(crate) async fn at_least(&self, writes: u64) {
        let Worker::Thread { written, thread, .. } = &self.0 else { panic!("a process") };
        until("so many writes are done", || {
            assert!(!thread.as_ref().unwrap().is_finished(), "the writer has failed");
            written.load(Ordering::Relaxed) >= writes
        })
        .await;
    }

    /// Stops it and returns how many writes it did.
    ///
    /// # Panics
    /// If the writer did.
    pub(crate) fn stop(mut self) -> u64 {
        self.end().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn end(&mut self) -> std::thread::Result<u64> {
        match &mut self.0 {
            Worker::Thread { stop, thread, .. } => {
                stop.store(true, Ordering::Relaxed);
                thread.take().map_or(Ok(0), JoinHandle::join)
            }
            Worker::Process { process, stop } => {
                drop(stop.take());
                let mut said = String::new();
                if let Some(mut stdout) = process.stdout.take() {
                    stdout.read_to_string(&mut said).unwrap();
                }
                let ended = process.wait().unwrap();
                let count = said.lines().find_map(|line| line.strip_prefix("wrote ")?.parse().ok());
                count.ok_or_else(|| Box::new(format!("the writer's process: {ended}\n{said}")) as _)
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What it failed with is for `stop`.
        _ = self.end();
    }
}

/// Writes until it is told to stop, never ahead of the rate.
async fn write_on(mut writes: Writes, rate: Rate, written: &AtomicU64, stop: impl Fn() -> bool + Sync) {
    let start = Instant::now();
    while !stop() {
        // One at a time or all of these, so that few statements are prepared.
        let mut count = MANY;
        if let Some(rate) = rate {
            let written = written.load(Ordering::Relaxed);
            let due = |writes| start + Duration::from_secs_f64((written + writes) as f64 / f64::from(rate));
            if Instant::now() < due(MANY as u64) {
                count = 1;
            }
            // Not a wait for something: it is what the rate means.
            tokio::time::sleep_until(due(1).into()).await;
        }
        let done = writes.write_many(count, &stop).await;
        written.fetch_add(done as u64, Ordering::Relaxed);
    }
}

/// The writer of [`Writer::sqlite_process`]; nothing where the tests' binary is only that.
#[tokio::test]
async fn as_a_process() {
    let Ok(task) = std::env::var(AS_A_PROCESS) else { return };
    let mut task = task.splitn(4, ' ');
    let mut next = || task.next().expect("a word of the task");
    let table = Table { seed: next().parse().unwrap(), rows: next().parse().unwrap() };
    let rate = Some(next().parse().unwrap()).filter(|&rate| rate != 0);
    let writes = Writes::sqlite(table, SqliteConnectOptions::new().filename(next())).await;
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    // The other end is closed when the test wants no more, or is no more.
    std::thread::spawn(move || {
        _ = std::io::stdin().read_to_end(&mut vec![]);
        told.store(true, Ordering::Relaxed);
    });
    let written = AtomicU64::new(0);
    write_on(writes, rate, &written, || stop.load(Ordering::Relaxed)).await;
    let said = format!("\nwrote {}\n", written.load(Ordering::Relaxed));
    std::io::stdout().write_all(said.as_bytes()).unwrap();
}

const TABLE: Table = Table { seed: 42, rows: 2_000 };

/// Reads pages until so many are right at more than a few versions, and none may be wrong.
async fn all_right(pool: &impl Pages) {
    let mut model = TABLE.model();
    let (mut pages, mut versions) = (0, 0);
    let start = Instant::now();
    for n in 0.. {
        let asked = TABLE.asked(n);
        let before = model.v();
        let page = pool.read(asked).await;
        match model.check(asked, &page).unwrap() {
            Verdict::Right { .. } => pages += 1,
            Verdict::Empty => {}
        }
        versions += u32::from(model.v() > before);
        if pages >= 200 && versions >= 50 {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{versions} versions in {pages} pages");
    }
}

#[tokio::test]
async fn pages_of_one_statement_are_right_under_a_writer_of_sqlite() {
    let (folder, pool) = sqlite().await;
    TABLE.create_sqlite(&pool).await;
    let writer = Writer::sqlite(TABLE, (*pool.connect_options()).clone(), None);
    all_right(&pool).await;
    let by_thread = writer.stop();
    assert!(by_thread >= 50);

    // Another goes on where it stopped.
    let writer = Writer::sqlite_process(TABLE, &folder.path().join("test.db"), Some(1_000));
    all_right(&pool).await;
    let by_process = writer.stop();
    assert!(by_process >= 50);
    let mut model = TABLE.model();
    let verdict = model.check(Asked::ALL, &pool.read(Asked::ALL).await);
    assert_eq!(verdict, Ok(Verdict::Right { v: (by_thread + by_process) as i64 }));
}

async fn pages_are_right_under_a_writer_of_postgres(pool: PgPool) {
    TABLE.create_postgres(&pool).await;
    let writer = Writer::postgres(TABLE, (*pool.connect_options()).clone(), None);
    all_right(&pool).await;
    let written = writer.stop() as i64;
    let verdict = TABLE.model().check(Asked::ALL, &pool.read(Asked::ALL).await);
    assert_eq!(verdict, Ok(Verdict::Right { v: written }));
}

#[tokio::test]
async fn pages_of_one_statement_are_right_under_a_writer_of_a_shared_postgres() {
    with_postgres(pages_are_right_under_a_writer_of_postgres).await;
}

#[tokio::test]
async fn pages_of_one_statement_are_right_on_a_primary_and_on_its_standby() {
    let Some(primary) = Cluster::primary().await else { return };
    pages_are_right_under_a_writer_of_postgres(primary.pool(2)).await;
    let standby = primary.standby().await;
    let writer = Writer::postgres(TABLE, primary.options(), None);
    writer.at_least(1).await;
    let pool = standby.pool(2);
    all_right(&pool).await;
}

#[tokio::test]
async fn a_writer_outlives_restarts_of_its_server_without_losing_a_write() {
    let Some(primary) = Cluster::primary().await else { return };
    TABLE.create_postgres(&primary.pool(1)).await;
    let writer = Writer::postgres(TABLE, primary.options(), None);
    for (nth, how) in [Stop::Fast, Stop::Immediate, Stop::Immediate].into_iter().enumerate() {
        writer.at_least(100 * (nth as u64 + 1)).await;
        primary.restart(how).await;
    }
    writer.at_least(400).await;
    let written = writer.stop() as i64;
    let verdict = TABLE.model().check(Asked::ALL, &primary.pool(1).read(Asked::ALL).await);
    assert_eq!(verdict, Ok(Verdict::Right { v: written }));
}

#[tokio::test]
async fn two_halves_of_a_page_without_a_snapshot_are_refused() {
    let (_folder, pool) = sqlite().await;
    TABLE.create_sqlite(&pool).await;
    let mut writes = Writes::sqlite(TABLE, (*pool.connect_options()).clone()).await;
    let mut model = TABLE.model();
    let mut torn = 0;
    for n in 0..100 {
        let half =
            |half: usize| Asked { order: Order::K, place: Place::Offset(n * 17 + half * 50), limit: 50 };
        let mut page = pool.read(half(0)).await;
        for _ in 0..10 {
            writes.write().await;
        }
        page.extend(pool.read(half(1)).await);
        let asked = Asked { limit: 100, ..half(0) };
        assert!(model.check(asked, &page).unwrap_err().contains("in one page"));
        // Not only by what they say that they saw.
        let v = page.last().unwrap().v;
        page.iter_mut().for_each(|seen| seen.v = v);
        torn += u32::from(model.check(asked, &page).is_err());
        let whole = pool.read(asked).await;
        assert_eq!(model.check(asked, &whole), Ok(Verdict::Right { v }));
    }
    // The writes are always the same, and so is what they tear.
    assert!(torn >= 50, "{torn} pages of 100");
}

#[tokio::test]
async fn a_writer_whose_server_is_gone_can_be_stopped() {
    let Some(primary) = Cluster::primary().await else { return };
    let pool = primary.pool(1);
    TABLE.create_postgres(&pool).await;
    let writer = Writer::postgres(TABLE, primary.options(), None);
    writer.at_least(1).await;
    primary.stop(Stop::Fast).await;
    let written = writer.stop() as i64;
    primary.start().await;
    // The last one may be done without the writer's having heard of it.
    let page = primary.pool(1).read(Asked::ALL).await;
    assert!((written..=written + 1).contains(&page[0].v), "{written} written, {} read", page[0].v);
    TABLE.model().check(Asked::ALL, &page).unwrap();
}
