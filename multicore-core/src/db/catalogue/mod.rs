//! What a database's catalogue says of a base table: its columns and what is unique in it. One module a
//! driver asks; what follows from the answers for a list is in `list::analysis`.

#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite-driver")]
pub(crate) mod sqlite;

#[cfg(all(test, any(feature = "postgres", feature = "mysql")))]
pub(crate) mod test_server;

/// A table's name as the catalogue has it: quotes are gone, and case is folded as the database does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName {
    /// `None`: where the connection looks for names without one.
    pub(crate) schema: Option<String>,
    pub(crate) name: String,
}

/// A base table whose rows every connection sees alike. Views, foreign and temporary tables have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub(crate) columns: Vec<Column>,
    /// The columns of each index by which no two rows without NULL in them are alike, also in the
    /// order of those columns (which is not so where index and column differ in collation).
    pub(crate) unique: Vec<Vec<String>>,
    /// Which of its rows are seen depends on more than the snapshot: on the session, by PostgreSQL's row-level
    /// security; on another server, by foreign partitions; on another file, in a database that SQLite has
    /// attached.
    pub(crate) beyond_snapshot: bool,
}

/// A column of a base table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) nullable: bool,
    pub(crate) equality: Equality,
}

/// What `=` means in a column. Only between two columns with the same meaning does the value of one
/// settle the other: `'A' = 'a'` without regard to case, or `1 = '01'` across types, settles nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Equality {
    /// Whole numbers of any width.
    Integer,
    /// Text, by this collation.
    Text(String),
    /// Anything else, by its type.
    Other(String),
    /// Cannot tell; like no other.
    Unknown,
}

impl Equality {
    /// Whether a value that is equal to one in a column with this equality settles that one.
    pub(crate) fn same(&self, other: &Equality) -> bool {
        *self != Equality::Unknown && self == other
    }
}

/// Puts the rows of a catalogue, one a column of an index in index order, together into column sets.
/// An index with a column that does not count does not count.
#[cfg(any(feature = "sqlite-driver", feature = "mysql"))]
fn column_sets(rows: impl IntoIterator<Item = (String, Option<String>)>) -> Vec<Vec<String>> {
    let mut sets: Vec<(String, Option<Vec<String>>)> = Vec::new();
    for (index, column) in rows {
        if sets.last().is_none_or(|(last, _)| *last != index) {
            sets.push((index, Some(Vec::new())));
        }
        if let Some((_, set)) = sets.last_mut() {
            *set = set.take().zip(column).map(|(mut set, column)| {
                set.push(column);
                set
            });
        }
    }
    sets.into_iter().filter_map(|(_, set)| set).collect()
}
