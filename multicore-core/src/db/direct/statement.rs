//! A statement on sqlx's own connection, stepped on the thread that uses its rows. **The only unsafe code of
//! the databases**: SQLite is C.
//!
//! Why it is sound:
//!
//! 1. **One at a time.** sqlx opens its connections in SQLite's multi-thread mode: a connection and its
//!    statements may be used by any thread, by one at a time. [`LockedSqliteHandle`] is sqlx's word that its
//!    own thread does not touch them while it is held. A [`Hand`] holds it for as long as it lives, and every
//!    call here takes `&mut Hand`. Hence it may be sent to another thread between two calls ([`Prepared`] is
//!    `Send`), and is not `Sync`. An SQLite that was built for one thread alone is refused.
//! 2. **Nothing outlives the lock.** The statements are private fields of the hand, finalised by its `drop`
//!    before the lock's field is dropped; sqlx may close the connection at any time after. A hand that is
//!    leaked leaks the lock as well: the connection is stuck then, and nothing is freed under anyone.
//! 3. **Nothing that SQLite owns is handed out.** Texts and blobs are copied before the next call to SQLite,
//!    names too; bound values are copied by SQLite (`SQLITE_TRANSIENT`).
//! 4. **Unwinding.** No user code runs here, and no Rust frame is below SQLite's, except sqlx's own callbacks
//!    (collations, functions, the progress handler), which catch what unwinds.
//! 5. **Sizes** that SQLite gives are checked, not trusted to be positive.

// The workspace denies it; which files may say this is held by a test.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use libsqlite3_sys as ffi;
use sqlx::sqlite::LockedSqliteHandle;
use sqlx::{Error, SqliteConnection};

use super::row::{Cell, Columns, DirectColumn, DirectRow, DirectTypeInfo};
use crate::list::cursor::KeyValue;

/// SQLite asks whether to go on after about so many instructions of its virtual machine, which take some
/// ten microseconds.
const ASK_EVERY: i32 = 1_000;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stepped {
    /// A row, to be read before the next step.
    Row,
    /// The end of the rows. The statement is gone.
    End,
    /// It would take longer than allowed, or has to wait for somebody. The statement is gone; what it has
    /// given so far counts.
    Stalled,
}

/// The hand on a connection: sqlx keeps off it meanwhile. It runs one statement at a time.
#[doc(hidden)]
pub struct Hand<'c> {
    // In this order: the statements are finalised while the lock is held.
    statement: Option<Prepared>,
    /// One that has begun and is not gone on with, so that the connection keeps the snapshot it took.
    snapshot: Option<Prepared>,
    columns: Option<Arc<Columns>>,
    /// How many bytes of text the last row had.
    row_bytes: usize,
    /// A step that was taken before anyone asked for it.
    ahead: Option<Result<Stepped, Error>>,
    /// How often the running step was asked whether to go on, if that is limited.
    asked: Option<Arc<AtomicU32>>,
    limit: u32,
    lock: LockedSqliteHandle<'c>,
}

/// A statement that is finalised when dropped.
struct Prepared(NonNull<ffi::sqlite3_stmt>);

// SAFETY: see 1. above; it never leaves the hand that holds the lock.
unsafe impl Send for Prepared {}

impl Drop for Prepared {
    fn drop(&mut self) {
        // SAFETY: made by `prepare`, finalised once, the lock being held (2.). Its result repeats what the
        // last step said.
        let _repeated = unsafe { ffi::sqlite3_finalize(self.0.as_ptr()) };
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        self.statement = None;
        self.snapshot = None;
        if self.asked.is_some() {
            self.lock.remove_progress_handler();
        }
    }
}

impl<'c> Hand<'c> {
    /// Waits until sqlx keeps off the connection; none where this SQLite cannot be used from several threads.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) async fn on(connection: &'c mut SqliteConnection) -> Result<Option<Self>, Error> {
        // SAFETY: reads a constant.
        if unsafe { ffi::sqlite3_threadsafe() } == 0 {
            return Ok(None);
        }
        let lock = connection.lock_handle().await?;
        Ok(Some(Hand {
            statement: None,
            snapshot: None,
            columns: None,
            row_bytes: 0,
            ahead: None,
            asked: None,
            limit: 0,
            lock,
        }))
    }

    /// From now on a step ends as [`Stalled`](Stepped::Stalled) after about so many thousand instructions of
    /// SQLite's, some ten microseconds each. In place of the connection's own progress handler.
    pub(crate) fn limit_steps(&mut self, thousands: u32) {
        let asked = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&asked);
        // On this thread, within the step.
        self.lock.set_progress_handler(ASK_EVERY, move || {
            let before = counter.load(Ordering::Relaxed);
            counter.store(before.saturating_add(1), Ordering::Relaxed);
            before < thousands
        });
        self.asked = Some(asked);
        self.limit = thousands;
    }

    /// Runs statements without values and without rows.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn run(&mut self, sql: &CStr) -> Result<(), Error> {
        self.begin_step();
        let database = self.lock.as_raw_handle().as_ptr();
        // SAFETY: the lock is held (1.); the text ends in NUL; there is no callback, and no error text is
        // asked for.
        let status =
            unsafe { ffi::sqlite3_exec(database, sql.as_ptr(), None, ptr::null_mut(), ptr::null_mut()) };
        if status == ffi::SQLITE_OK { Ok(()) } else { Err(self.error()) }
    }

    /// The one number that the prepared statement gives now. It stays prepared, at no snapshot.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn number(&mut self) -> Result<i64, Error> {
        let stepped = self.step()?;
        let (Some(statement), Stepped::Row) = (&self.statement, stepped) else {
            return Err(Error::RowNotFound);
        };
        let raw = statement.0.as_ptr();
        // SAFETY: the statement is alive and at a row (`step` said so), and the lock is held. Reset repeats what
        // the last step said, which was no error.
        let (number, _repeated) = unsafe { (ffi::sqlite3_column_int64(raw, 0), ffi::sqlite3_reset(raw)) };
        Ok(number)
    }

    /// Takes a snapshot that all statements of this hand see from now on. It takes no transaction: a connection
    /// keeps what it sees for as long as one of its statements is between two rows.
    ///
    /// # Errors
    /// The database's, or that something else has a snapshot on this connection already.
    pub(crate) fn keep_snapshot(&mut self) -> Result<(), Error> {
        self.close();
        self.snapshot = None;
        let database = self.lock.as_raw_handle().as_ptr();
        // SAFETY: the lock is held; null asks for all of its databases.
        let state = unsafe { ffi::sqlite3_txn_state(database, ptr::null()) };
        if self.in_transaction() || state != ffi::SQLITE_TXN_NONE {
            return Err(Error::InvalidSavePointStatement);
        }
        // The cheapest statement that reads the file and gives a row.
        if !self.prepare("PRAGMA data_version", &[])? || self.step()? != Stepped::Row {
            return Err(Error::RowNotFound);
        }
        self.snapshot = self.statement.take();
        Ok(())
    }

    /// Prepares a statement in place of the last one and binds its values, which are numbered from 1. False
    /// if it is not one that is read here: more than one statement, one that writes, or one whose parameters
    /// have names.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn prepare(&mut self, sql: &str, values: &[KeyValue]) -> Result<bool, Error> {
        self.statement = None;
        self.columns = None;
        self.ahead = None;
        self.begin_step();
        let Ok(length) = c_int::try_from(sql.len()) else { return Ok(false) };
        let database = self.lock.as_raw_handle().as_ptr();
        let start = sql.as_ptr().cast::<c_char>();
        let (mut statement, mut rest) = (ptr::null_mut(), ptr::null());
        // SAFETY: the lock is held; SQLite reads `length` bytes at most, and both places to write are ours.
        let status =
            unsafe { ffi::sqlite3_prepare_v3(database, start, length, 0, &mut statement, &mut rest) };
        if status != ffi::SQLITE_OK {
            return Err(self.error());
        }
        let Some(statement) = NonNull::new(statement) else { return Ok(false) };
        let statement = Prepared(statement);
        // Where SQLite stopped reading, as an address.
        let read = rest.addr().wrapping_sub(start.addr());
        if sql.get(read..).is_none_or(|rest| !rest.trim().is_empty()) {
            return Ok(false);
        }
        // SAFETY: the statement is alive, the lock held.
        if unsafe { ffi::sqlite3_stmt_readonly(statement.0.as_ptr()) } == 0 {
            return Ok(false);
        }
        if !self.bind(&statement, values)? {
            return Ok(false);
        }
        self.statement = Some(statement);
        Ok(true)
    }

    fn bind(&mut self, statement: &Prepared, values: &[KeyValue]) -> Result<bool, Error> {
        let raw = statement.0.as_ptr();
        // SAFETY: the statement is alive, the lock held.
        let parameters = unsafe { ffi::sqlite3_bind_parameter_count(raw) };
        for index in 1..=parameters {
            // SAFETY: as above; the name is SQLite's, read before the next call, and ends in NUL.
            let number = unsafe {
                let name = ffi::sqlite3_bind_parameter_name(raw, index);
                // `?` alone, or `?1`. Numbers that nobody uses have no name.
                if name.is_null() { Some(index) } else { numbered(CStr::from_ptr(name)) }
            };
            let Some(number) = number.and_then(|number| usize::try_from(number).ok()) else {
                return Ok(false);
            };
            // What nobody bound is NULL.
            let Some(value) = number.checked_sub(1).and_then(|number| values.get(number)) else { continue };
            // SAFETY: the statement is alive and not running, the lock held; SQLite copies what it is given
            // the length of before it returns (3.).
            let status = unsafe {
                match value {
                    KeyValue::Null => ffi::sqlite3_bind_null(raw, index),
                    KeyValue::Int(number) => ffi::sqlite3_bind_int64(raw, index, *number),
                    KeyValue::Real(number) => ffi::sqlite3_bind_double(raw, index, *number),
                    KeyValue::Text(text) => ffi::sqlite3_bind_text64(
                        raw,
                        index,
                        text.as_ptr().cast(),
                        text.len() as u64,
                        ffi::SQLITE_TRANSIENT(),
                        UTF8,
                    ),
                    KeyValue::Blob(bytes) => ffi::sqlite3_bind_blob64(
                        raw,
                        index,
                        bytes.as_ptr().cast(),
                        bytes.len() as u64,
                        ffi::SQLITE_TRANSIENT(),
                    ),
                    KeyValue::Uint(_) => return Ok(false),
                }
            };
            if status != ffi::SQLITE_OK {
                return Err(self.error());
            }
        }
        Ok(true)
    }

    /// One row further; [`End`](Stepped::End) without a statement.
    ///
    /// # Errors
    /// The database's. The statement is gone then.
    pub(crate) fn step(&mut self) -> Result<Stepped, Error> {
        if let Some(taken) = self.ahead.take() {
            return taken;
        }
        let Some(statement) = &self.statement else { return Ok(Stepped::End) };
        self.begin_step();
        // SAFETY: the statement is alive and has not ended (else it would be gone), the lock is held.
        let status = unsafe { ffi::sqlite3_step(statement.0.as_ptr()) };
        if status == ffi::SQLITE_ROW {
            return Ok(Stepped::Row);
        }
        let stepped = match status & 0xff {
            ffi::SQLITE_DONE => Ok(Stepped::End),
            ffi::SQLITE_INTERRUPT if self.is_over_limit() => Ok(Stepped::Stalled),
            // Another connection of the same cache; sqlx's driver knows how to wait for it.
            ffi::SQLITE_LOCKED => Ok(Stepped::Stalled),
            _ => Err(self.error()),
        };
        // Stepped again it would begin anew.
        self.statement = None;
        stepped
    }

    /// Takes the next step now, so that [`step`](Hand::step) finds it done.
    pub(crate) fn step_ahead(&mut self) {
        let taken = self.step();
        self.ahead = Some(taken);
    }

    /// The row the statement is at.
    ///
    /// # Errors
    /// When memory is short.
    pub(crate) fn row(&mut self) -> Result<DirectRow, Error> {
        let columns = self.columns();
        let cells = Vec::with_capacity(columns.len());
        let bytes = Vec::with_capacity(self.row_bytes);
        let mut row = DirectRow { columns, cells, bytes };
        self.read(&mut row)?;
        self.row_bytes = row.bytes.len();
        Ok(row)
    }

    /// The row the statement is at, in place of one that [`row`](Hand::row) gave for this statement.
    ///
    /// # Errors
    /// When memory is short.
    pub(crate) fn read(&mut self, row: &mut DirectRow) -> Result<(), Error> {
        let Some(statement) = &self.statement else { return Err(Error::RowNotFound) };
        let raw = statement.0.as_ptr();
        let (cells, bytes) = (&mut row.cells, &mut row.bytes);
        cells.clear();
        bytes.clear();
        for index in 0..row.columns.len() {
            let index = index as c_int;
            // SAFETY: the statement is alive, the lock held. It is at a row, or SQLite gives NULL; the same
            // for a column that is not there.
            let cell = unsafe {
                match ffi::sqlite3_column_type(raw, index) {
                    ffi::SQLITE_INTEGER => Cell::Integer(ffi::sqlite3_column_int64(raw, index)),
                    ffi::SQLITE_FLOAT => Cell::Real(ffi::sqlite3_column_double(raw, index)),
                    kind @ (ffi::SQLITE_TEXT | ffi::SQLITE_BLOB) => {
                        // First the length, which makes UTF-8 of a text that is not; then where it is.
                        let length = ffi::sqlite3_column_bytes(raw, index);
                        let data = ffi::sqlite3_column_blob(raw, index).cast::<u8>();
                        let length = usize::try_from(length).unwrap_or(0);
                        let start = bytes.len();
                        if data.is_null() {
                            if length > 0 {
                                return Err(Error::Protocol("SQLite is out of memory".to_owned()));
                            }
                        } else {
                            // `length` bytes that SQLite keeps until its next call on this column.
                            bytes.extend_from_slice(slice::from_raw_parts(data, length));
                        }
                        if kind == ffi::SQLITE_TEXT {
                            Cell::Text { start, length }
                        } else {
                            Cell::Blob { start, length }
                        }
                    }
                    _ => Cell::Null,
                }
            };
            cells.push(cell);
        }
        Ok(())
    }

    /// The columns of the statement's rows. Not before its first: the first step prepares a statement anew
    /// whose tables have changed since.
    fn columns(&mut self) -> Arc<Columns> {
        if let Some(columns) = &self.columns {
            return Arc::clone(columns);
        }
        let mut all = Vec::new();
        if let Some(statement) = &self.statement {
            let raw = statement.0.as_ptr();
            // SAFETY: the statement is alive, the lock held.
            let count = unsafe { ffi::sqlite3_column_count(raw) };
            for index in 0..count {
                // SAFETY: as above; both are null or end in NUL, and are copied before the next call.
                let (name, declared) = unsafe {
                    let name = text(ffi::sqlite3_column_name(raw, index)).unwrap_or_default();
                    (name, text(ffi::sqlite3_column_decltype(raw, index)).unwrap_or_default())
                };
                let declared = DirectTypeInfo::declared(&declared);
                all.push(DirectColumn { name: name.into(), ordinal: all.len(), declared });
            }
        }
        let columns = Arc::new(Columns::new(all));
        self.columns = Some(Arc::clone(&columns));
        columns
    }

    /// Whether a transaction is open.
    pub(crate) fn in_transaction(&mut self) -> bool {
        // SAFETY: the lock is held.
        unsafe { ffi::sqlite3_get_autocommit(self.lock.as_raw_handle().as_ptr()) == 0 }
    }

    /// Ends the statement.
    pub(crate) fn close(&mut self) {
        self.statement = None;
        self.ahead = None;
    }

    fn begin_step(&self) {
        if let Some(asked) = &self.asked {
            asked.store(0, Ordering::Relaxed);
        }
    }

    fn is_over_limit(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.load(Ordering::Relaxed) > self.limit)
    }

    fn error(&mut self) -> Error {
        match self.lock.last_error() {
            Some(error) => error.into(),
            None => Error::Protocol("SQLite failed and does not say why".to_owned()),
        }
    }
}

/// How SQLite is told that a text is UTF-8.
const UTF8: u8 = ffi::SQLITE_UTF8 as u8;

/// The number of a parameter `?1` or `$1`; none if it has a name.
fn numbered(name: &CStr) -> Option<c_int> {
    let name = name.to_str().ok()?;
    name.strip_prefix(['?', '$'])?.parse().ok()
}

/// A text of SQLite's, copied; none of null.
///
/// # Safety
/// It must be null or end in NUL, and stay as it is meanwhile.
unsafe fn text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller says so.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
