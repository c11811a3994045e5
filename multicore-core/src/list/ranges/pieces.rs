//! Parts of a page, what reading them gave, and whether that is enough to know that they saw the same.

use crate::list::render::Elements;
use crate::list::rows::Seen;

/// The pieces that say what their readers saw, if the others need not: behind one that came to the end of
/// the rows there are none, whatever anybody saw.
pub(super) fn told(pieces: &[Piece]) -> Option<&[Piece]> {
    let end = pieces.iter().position(|piece| piece.is_last).map_or(pieces.len(), |last| last + 1);
    let (told, behind) = pieces.split_at(end);
    let says = |piece: &Piece| piece.seen.rows > 0;
    (told.iter().all(says) && !behind.iter().any(says)).then_some(told)
}

/// A range of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Rows before it, from where the page's own start counts.
    pub(super) skip: u64,
    pub(super) rows: u64,
    /// One more to look at behind the page.
    pub(super) ahead: u64,
}

/// What reading a range gave.
pub(super) struct Piece {
    pub(super) outs: Vec<Elements>,
    pub(super) seen: Seen,
    /// The rows came to their end before the range did.
    pub(super) is_last: bool,
}

impl Piece {
    pub(super) fn new(part: Part, outs: Vec<Elements>, seen: Seen) -> Self {
        let is_last = seen.rows < part.rows;
        Piece { outs, seen, is_last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_behind_the_end_of_the_rows_need_not_say_what_they_saw() {
        // How many rows each range of ten gave, and how many ranges say enough.
        for (rows, want) in [
            (&[10, 10, 10][..], Some(3)),
            (&[10, 10, 4], Some(3)),
            (&[10, 4, 0], Some(2)),
            (&[4, 0, 0], Some(1)),
            // Perhaps the end, perhaps another snapshot.
            (&[10, 10, 0], None),
            (&[10, 0, 0], None),
            (&[0, 0, 0], None),
            // Certainly another snapshot.
            (&[10, 4, 10], None),
            (&[0, 10, 10], None),
        ] {
            let pieces = rows.iter().map(|&rows| {
                let part = Part { skip: 0, rows: 10, ahead: 0 };
                Piece::new(part, Vec::new(), Seen { rows, ..Seen::default() })
            });
            let pieces: Vec<_> = pieces.collect();
            assert_eq!(told(&pieces).map(<[_]>::len), want, "{rows:?}");
        }
    }
}
