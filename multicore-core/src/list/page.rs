//! A page as it was made: its bytes, and how they came about. Making it is in `read`.

use bytes::Bytes;

use super::paging::Around;
use super::query::Strategy;
use crate::mode::Mode;

/// A page as JSON, in pieces that follow each other.
#[derive(Debug)]
pub struct List {
    pub(super) chunks: Vec<Bytes>,
    pub(super) rows: usize,
    pub(super) mode: Mode,
    pub(super) strategy: Strategy,
    pub(super) from_place: bool,
    pub(super) around: Around,
    pub(super) in_processes: bool,
}

impl List {
    /// The pieces of the JSON array, brackets included, in order.
    pub fn into_chunks(self) -> Vec<Bytes> {
        self.chunks
    }

    /// How many rows the page has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How it was made.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How it was read: [`Single`](Strategy::Single) or [`Ranges`](Strategy::Ranges).
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Whether its first row was found from one whose place in the list an earlier page had seen, instead of from the
    /// list's start.
    pub fn is_from_known_place(&self) -> bool {
        self.from_place
    }

    /// Whether its rows were rendered in worker processes; then [`mode`](List::mode) counts those.
    pub fn in_processes(&self) -> bool {
        self.in_processes
    }

    /// What is around it.
    pub fn around(&self) -> &Around {
        &self.around
    }

    /// The JSON array in one piece.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.chunks.concat()
    }
}
