//! The formats of a stream's bytes: how a row is written, and what stands before, between and behind the
//! rows. What a format is called over HTTP does not belong here.

use serde::Serialize;

use super::ListError;

/// In which format a list is streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// One JSON array, as [`list`](crate::Multicore::list) gives it.
    JsonArray,
    /// A JSON value and a line feed for each row.
    Ndjson,
    /// Comma-separated values (RFC 4180), after a line with the fields' names. Rows must be rendered to
    /// structures of plain fields; without a row there is no line of names either.
    Csv,
}

impl Format {
    /// Puts before the first chunk what the format begins with.
    pub(super) fn open(self, mut chunk: Vec<u8>, header: &[u8]) -> Vec<u8> {
        match self {
            // In place of the comma before the first element.
            Format::JsonArray => chunk[0] = b'[',
            Format::Ndjson => {}
            Format::Csv => drop(chunk.splice(..0, header.iter().copied())),
        }
        chunk
    }

    /// What the format ends with; `opened` says whether there was a row.
    pub(super) fn close(self, opened: bool) -> &'static [u8] {
        match (self, opened) {
            (Format::JsonArray, true) => b"]",
            (Format::JsonArray, false) => b"[]",
            (Format::Ndjson | Format::Csv, _) => b"",
        }
    }
}

/// Rows of comma-separated values under way.
pub(super) type CsvRows = csv::Writer<Vec<u8>>;

/// A writer that does not write the names.
pub(super) fn csv_rows(into: Vec<u8>) -> CsvRows {
    csv::WriterBuilder::new().has_headers(false).from_writer(into)
}

/// The line with the names of a row's fields.
pub(super) fn csv_header<V: Serialize>(view: &V) -> Result<Vec<u8>, ListError> {
    let written = |names: bool| {
        let mut rows = csv::WriterBuilder::new().has_headers(names).from_writer(Vec::new());
        rows.serialize(view).map_err(encode_error)?;
        rows.into_inner().map_err(|error| ListError::Encode(error.into_error().into()))
    };
    let (mut with, without) = (written(true)?, written(false)?);
    with.truncate(with.len() - without.len());
    Ok(with)
}

pub(super) fn encode_error(error: csv::Error) -> ListError {
    ListError::Encode(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct View<'a> {
        id: u8,
        name: &'a str,
    }

    #[test]
    fn a_header_names_the_fields() {
        let header = csv_header(&View { id: 1, name: "a,\n\"b\"" }).unwrap();
        assert_eq!(String::from_utf8(header).unwrap(), "id,name\n");
    }

    #[test]
    fn a_format_opens_and_closes_with_and_without_rows() {
        for (format, chunk, opened, empty) in [
            (Format::JsonArray, ",1,2", "[1,2]", "[]"),
            (Format::Ndjson, "1\n2\n", "1\n2\n", ""),
            (Format::Csv, "1\n2\n", "n\n1\n2\n", ""),
        ] {
            let mut whole = format.open(chunk.into(), b"n\n");
            whole.extend(format.close(true));
            assert_eq!(String::from_utf8(whole).unwrap(), opened);
            assert_eq!(String::from_utf8_lossy(format.close(false)), empty);
        }
    }
}
