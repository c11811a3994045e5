//! What is done with a list's rows: decoded, rendered and encoded, in chunks of bytes that follow each
//! other.

use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use serde::Serialize;

use super::ListError;
use super::format::{CsvRows, Format, csv_header, csv_rows, encode_error};
use super::query::Decode;
use crate::db::{Database, SqlDatabase};
use crate::job::Work;
use crate::json;

/// A chunk that the owner adds to is closed beyond this size: a few socket writes' worth, and small
/// enough that growing it copies little.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// What a rendered row is taken to need before the first was seen.
const ROW_BYTES: usize = 256;

/// Decodes, renders and encodes rows.
pub(super) struct Render<DB: Database, R, V, F> {
    render: F,
    decode: Decode<R, DB>,
    format: Format,
    /// The line with the names of the fields, in a format that has one.
    header: OnceLock<Vec<u8>>,
    /// What a rendered row needed last, for the size of the next chunk.
    row_bytes: AtomicUsize,
    /// Whether the bytes of a batch are counted, which a page need not: its length bounds it.
    streamed: bool,
    batch_bytes: AtomicUsize,
    types: PhantomData<fn() -> V>,
}

impl<DB: Database, R, V, F> Render<DB, R, V, F> {
    /// For a page; `row_bytes` is what a row of the route's last pages needed.
    pub(super) fn new(decode: Decode<R, DB>, render: F, row_bytes: Option<usize>) -> Self {
        Render {
            render,
            decode,
            format: Format::JsonArray,
            header: OnceLock::new(),
            row_bytes: AtomicUsize::new(row_bytes.unwrap_or(ROW_BYTES)),
            streamed: false,
            batch_bytes: AtomicUsize::new(0),
            types: PhantomData,
        }
    }

    /// For an export.
    pub(super) fn streamed(
        decode: Decode<R, DB>,
        render: F,
        format: Format,
        row_bytes: Option<usize>,
    ) -> Self {
        Render { format, streamed: true, ..Render::new(decode, render, row_bytes) }
    }
}

/// What lists ask of the work besides doing it.
pub(super) trait Rendering: Work<Out = Elements, Error = ListError> {
    /// Adds a row whose memory is used again.
    fn add_row(&self, row: &Self::Item, out: &mut Elements) -> Result<(), ListError>;

    /// What a row needed last, in bytes.
    fn row_bytes(&self) -> usize;

    /// Begins to count a batch's bytes.
    fn begin_batch(&self);

    /// How many bytes the batch has so far.
    fn batch_bytes(&self) -> usize;

    /// The line that names the columns, once a row was rendered; empty in a format without one.
    fn header(&self) -> &[u8];

    /// A page's chunks as they are handed out.
    fn join(&self, outs: Vec<Elements>) -> Vec<Bytes> {
        array(outs.into_iter().map(Elements::into_bytes))
    }
}

/// Encoded rows. Those of a JSON array each have a comma before them.
pub(super) struct Elements {
    bytes: Vec<u8>,
    /// In place of `bytes` for comma-separated values.
    csv: Option<CsvRows>,
    pub(super) rows: usize,
}

impl Elements {
    #[cfg(feature = "process")]
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Elements { bytes: Vec::with_capacity(bytes), csv: None, rows: 0 }
    }

    /// What was added so far, of rows that are in no text format.
    #[cfg(feature = "process")]
    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        match self.csv {
            None => self.bytes,
            // Writing to memory does not fail.
            Some(csv) => csv.into_inner().unwrap_or_default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.csv.as_ref().map_or(self.bytes.len(), |csv| csv.get_ref().len())
    }
}

impl<DB, R, V, F> Work for Render<DB, R, V, F>
where
    DB: SqlDatabase,
    R: 'static,
    V: Serialize + 'static,
    F: Fn(R) -> V + Send + Sync + 'static,
{
    type Item = DB::Item;
    type Out = Elements;
    type Error = ListError;

    fn begin(&self, items: usize) -> Elements {
        let row = self.row_bytes.load(Ordering::Relaxed).min(CHUNK_BYTES);
        let bytes = items.saturating_mul(row).min(CHUNK_BYTES);
        // Growing it would copy it: room for rows that are longer than usual, and for the closing bracket.
        let bytes = Vec::with_capacity(bytes + bytes / 8 + row);
        match self.format {
            Format::Csv => Elements { bytes: Vec::new(), csv: Some(csv_rows(bytes)), rows: 0 },
            _ => Elements { bytes, csv: None, rows: 0 },
        }
    }

    fn add(&self, row: Self::Item, out: &mut Elements) -> Result<(), ListError> {
        self.add_row(&row, out)
    }

    fn is_full(&self, out: &Elements) -> bool {
        out.len() >= CHUNK_BYTES
    }
}

impl<DB, R, V, F> Rendering for Render<DB, R, V, F>
where
    DB: SqlDatabase,
    R: 'static,
    V: Serialize + 'static,
    F: Fn(R) -> V + Send + Sync + 'static,
{
    fn add_row(&self, row: &Self::Item, out: &mut Elements) -> Result<(), ListError> {
        let row = (self.decode)(row).map_err(|error| ListError::Decode(error.into()))?;
        let view = (self.render)(row);
        let before = out.len();
        if let Some(csv) = &mut out.csv {
            if self.header.get().is_none() {
                // Several threads may find it missing; they all write the same.
                let _filled_by_another = self.header.set(csv_header(&view)?);
            }
            csv.serialize(&view).map_err(encode_error)?;
        } else {
            if self.format == Format::JsonArray {
                out.bytes.push(b',');
            }
            json::put(&mut out.bytes, &view).map_err(|error| ListError::Encode(error.into()))?;
            if self.format == Format::Ndjson {
                out.bytes.push(b'\n');
            }
        }
        out.rows += 1;
        if self.streamed {
            self.batch_bytes.fetch_add(out.len() - before, Ordering::Relaxed);
        }
        if out.rows.is_power_of_two() {
            self.row_bytes.store(out.len() / out.rows, Ordering::Relaxed);
        }
        Ok(())
    }

    fn row_bytes(&self) -> usize {
        self.row_bytes.load(Ordering::Relaxed)
    }

    fn begin_batch(&self) {
        self.batch_bytes.store(0, Ordering::Relaxed);
    }

    fn batch_bytes(&self) -> usize {
        self.batch_bytes.load(Ordering::Relaxed)
    }

    fn header(&self) -> &[u8] {
        self.header.get().map_or(&[], Vec::as_slice)
    }
}

/// Turns chunks of elements, each with a comma before it, into an array.
pub(super) fn array(chunks: impl Iterator<Item = Vec<u8>>) -> Vec<Bytes> {
    let mut chunks: Vec<Vec<u8>> = chunks.filter(|chunk| !chunk.is_empty()).collect();
    let Some(first) = chunks.first_mut() else { return vec![Bytes::from_static(b"[]")] };
    first[0] = b'[';
    if let Some(last) = chunks.last_mut() {
        last.push(b']');
    }
    chunks.into_iter().map(Bytes::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_become_one_array() {
        let texts = |of: &[&str]| {
            let chunks = of.iter().map(|chunk| chunk.as_bytes().to_vec()).collect::<Vec<_>>();
            String::from_utf8(array(chunks.into_iter()).concat()).unwrap()
        };
        assert_eq!(texts(&[]), "[]");
        assert_eq!(texts(&["", ""]), "[]");
        assert_eq!(texts(&[",1"]), "[1]");
        assert_eq!(texts(&[",1,2", "", ",3"]), "[1,2,3]");
    }
}
