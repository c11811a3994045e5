//! A row that was copied out of a statement, and its values.

use std::borrow::Cow;
use std::fmt;
use std::str::Utf8Error;
use std::sync::Arc;

use sqlx::{ColumnIndex, Error, Row, TypeInfo, Value, ValueRef};

use super::{Direct, Unconverted};
use crate::list::cursor::KeyValue;

/// Up to so many columns a name is looked for one after the other.
const FEW: usize = 16;

/// A row of SQLite that was read where it is used.
#[derive(Clone)]
pub struct DirectRow {
    pub(super) columns: Arc<Columns>,
    pub(super) cells: Vec<Cell>,
    /// The texts and blobs of all cells.
    pub(super) bytes: Vec<u8>,
}

/// A value's place, or the value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text { start: usize, length: usize },
    Blob { start: usize, length: usize },
}

/// The columns of a statement's rows.
#[derive(Debug, Default)]
pub(super) struct Columns {
    all: Vec<DirectColumn>,
    /// Their places by their names, where there are many; of equal names the last one's.
    by_name: Vec<(Arc<str>, usize)>,
}

impl Columns {
    pub(super) fn new(all: Vec<DirectColumn>) -> Self {
        let mut by_name: Vec<(Arc<str>, usize)> = Vec::new();
        if all.len() > FEW {
            by_name.extend(all.iter().map(|column| (Arc::clone(&column.name), column.ordinal)));
            // The later one first, which is kept.
            by_name.sort_by(|one, other| one.0.cmp(&other.0).then(other.1.cmp(&one.1)));
            by_name.dedup_by(|later, kept| later.0 == kept.0);
        }
        Columns { all, by_name }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    fn find(&self, name: &str) -> Option<usize> {
        if self.all.len() <= FEW {
            return self.all.iter().rposition(|column| *column.name == *name);
        }
        let at = self.by_name.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(self.by_name[at].1)
    }
}

impl DirectRow {
    pub(crate) fn width(&self) -> usize {
        self.cells.len()
    }

    /// A column's value, by what is stored.
    pub(crate) fn key(&self, index: usize) -> Result<KeyValue, Utf8Error> {
        Ok(match self.cell(index).content {
            Content::Null => KeyValue::Null,
            Content::Integer(number) => KeyValue::Int(number),
            Content::Real(number) => KeyValue::Real(number),
            Content::Text(text) => KeyValue::Text(std::str::from_utf8(text)?.to_owned()),
            Content::Blob(bytes) => KeyValue::Blob(bytes.to_owned()),
        })
    }

    pub(super) fn cell(&self, index: usize) -> DirectValueRef<'_> {
        let bytes = |start, length| &self.bytes[start..start + length];
        let content = match self.cells[index] {
            Cell::Null => Content::Null,
            Cell::Integer(number) => Content::Integer(number),
            Cell::Real(number) => Content::Real(number),
            Cell::Text { start, length } => Content::Text(bytes(start, length)),
            Cell::Blob { start, length } => Content::Blob(bytes(start, length)),
        };
        DirectValueRef { content, declared: self.columns.all[index].declared }
    }
}

impl Row for DirectRow {
    type Database = Direct;

    fn columns(&self) -> &[DirectColumn] {
        &self.columns.all
    }

    fn try_get_raw<I: ColumnIndex<Self>>(&self, index: I) -> Result<DirectValueRef<'_>, Error> {
        Ok(self.cell(index.index(self)?))
    }
}

impl ColumnIndex<DirectRow> for usize {
    fn index(&self, row: &DirectRow) -> Result<usize, Error> {
        let len = row.columns.len();
        if *self < len { Ok(*self) } else { Err(Error::ColumnIndexOutOfBounds { len, index: *self }) }
    }
}

impl ColumnIndex<DirectRow> for &'_ str {
    fn index(&self, row: &DirectRow) -> Result<usize, Error> {
        row.columns.find(self).ok_or_else(|| Error::ColumnNotFound((*self).to_owned()))
    }
}

impl fmt::Debug for DirectRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = self.columns.all.iter().map(|column| (&column.name, self.cell(column.ordinal).content));
        f.write_str("DirectRow ")?;
        f.debug_map().entries(cells).finish()
    }
}

/// A column of a [`DirectRow`].
#[derive(Clone, Debug)]
pub struct DirectColumn {
    pub(super) name: Arc<str>,
    pub(super) ordinal: usize,
    pub(super) declared: DirectTypeInfo,
}

impl sqlx::Column for DirectColumn {
    type Database = Direct;

    fn ordinal(&self) -> usize {
        self.ordinal
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn type_info(&self) -> &DirectTypeInfo {
        &self.declared
    }
}

/// The type of a value, or that of a column as it was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectTypeInfo(pub(super) Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Integer,
    Real,
    Text,
    Blob,
    // Only declared.
    Boolean,
    Int4,
    Date,
    Time,
    Datetime,
}

impl DirectTypeInfo {
    /// What sqlx makes of a declared type; `Null` of one it does not know.
    pub(super) fn declared(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        DirectTypeInfo(match &*text {
            "int4" => Kind::Int4,
            "boolean" | "bool" => Kind::Boolean,
            "date" => Kind::Date,
            "time" => Kind::Time,
            "datetime" | "timestamp" => Kind::Datetime,
            _ if has(&["int"]) => Kind::Integer,
            _ if has(&["char", "clob", "text"]) => Kind::Text,
            _ if has(&["blob"]) => Kind::Blob,
            _ if has(&["real", "floa", "doub"]) => Kind::Real,
            _ => Kind::Null,
        })
    }
}

impl fmt::Display for DirectTypeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl TypeInfo for DirectTypeInfo {
    fn is_null(&self) -> bool {
        self.0 == Kind::Null
    }

    fn name(&self) -> &str {
        match self.0 {
            Kind::Null => "NULL",
            Kind::Integer | Kind::Int4 => "INTEGER",
            Kind::Real => "REAL",
            Kind::Text => "TEXT",
            Kind::Blob => "BLOB",
            Kind::Boolean => "BOOLEAN",
            Kind::Date => "DATE",
            Kind::Time => "TIME",
            Kind::Datetime => "DATETIME",
        }
    }
}

/// A value in a row.
#[derive(Clone, Copy, Debug)]
pub struct DirectValueRef<'r> {
    pub(super) content: Content<'r>,
    declared: DirectTypeInfo,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'r> {
    Null,
    Integer(i64),
    Real(f64),
    /// UTF-8 if the database's texts are.
    Text(&'r [u8]),
    Blob(&'r [u8]),
}

impl<'r> DirectValueRef<'r> {
    fn kind(&self) -> Kind {
        match self.content {
            // As sqlx does: what is stored says more than what was declared, except where nothing is.
            Content::Null => self.declared.0,
            Content::Integer(_) => Kind::Integer,
            Content::Real(_) => Kind::Real,
            Content::Text(_) => Kind::Text,
            Content::Blob(_) => Kind::Blob,
        }
    }

    fn unconverted(&self, to: &'static str) -> Unconverted {
        let from = match self.content {
            Content::Null => "NULL",
            Content::Integer(_) => "INTEGER",
            Content::Real(_) => "REAL",
            Content::Text(_) => "TEXT",
            Content::Blob(_) => "BLOB",
        };
        Unconverted { from, to }
    }

    /// As SQLite reads a value as an integer; NULL is zero.
    pub(super) fn integer(&self) -> Result<i64, Unconverted> {
        match self.content {
            Content::Null => Ok(0),
            Content::Integer(number) => Ok(number),
            Content::Real(number) => Ok(number as i64),
            Content::Text(_) | Content::Blob(_) => Err(self.unconverted("an integer")),
        }
    }

    /// As SQLite reads a value as a real; NULL is zero.
    pub(super) fn real(&self) -> Result<f64, Unconverted> {
        match self.content {
            Content::Null => Ok(0.0),
            Content::Integer(number) => Ok(number as f64),
            Content::Real(number) => Ok(number),
            Content::Text(_) | Content::Blob(_) => Err(self.unconverted("a real")),
        }
    }

    /// The bytes of a text or a blob; NULL has none.
    pub(super) fn bytes(&self) -> Result<&'r [u8], Unconverted> {
        match self.content {
            Content::Null => Ok(&[]),
            Content::Text(bytes) | Content::Blob(bytes) => Ok(bytes),
            Content::Integer(_) | Content::Real(_) => Err(self.unconverted("bytes")),
        }
    }

    pub(super) fn text(&self) -> Result<Result<&'r str, Utf8Error>, Unconverted> {
        match self.content {
            Content::Integer(_) | Content::Real(_) => Err(self.unconverted("a text")),
            _ => self.bytes().map(std::str::from_utf8),
        }
    }
}

impl<'r> ValueRef<'r> for DirectValueRef<'r> {
    type Database = Direct;

    fn to_owned(&self) -> DirectValue {
        let stored = match self.content {
            Content::Null => Stored::Null,
            Content::Integer(number) => Stored::Integer(number),
            Content::Real(number) => Stored::Real(number),
            Content::Text(bytes) => Stored::Text(bytes.into()),
            Content::Blob(bytes) => Stored::Blob(bytes.into()),
        };
        DirectValue { stored, declared: self.declared }
    }

    fn type_info(&self) -> Cow<'_, DirectTypeInfo> {
        Cow::Owned(DirectTypeInfo(self.kind()))
    }

    fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }
}

/// A value of its own.
#[derive(Clone, Debug)]
pub struct DirectValue {
    stored: Stored,
    declared: DirectTypeInfo,
}

#[derive(Clone, Debug)]
enum Stored {
    Null,
    Integer(i64),
    Real(f64),
    Text(Box<[u8]>),
    Blob(Box<[u8]>),
}

impl Value for DirectValue {
    type Database = Direct;

    fn as_ref(&self) -> DirectValueRef<'_> {
        let content = match &self.stored {
            Stored::Null => Content::Null,
            Stored::Integer(number) => Content::Integer(*number),
            Stored::Real(number) => Content::Real(*number),
            Stored::Text(bytes) => Content::Text(bytes),
            Stored::Blob(bytes) => Content::Blob(bytes),
        };
        DirectValueRef { content, declared: self.declared }
    }

    fn type_info(&self) -> Cow<'_, DirectTypeInfo> {
        Cow::Owned(DirectTypeInfo(self.as_ref().kind()))
    }

    fn is_null(&self) -> bool {
        matches!(self.stored, Stored::Null)
    }
}
