//! A body of known length that is in pieces, given in so few frames that the server writes it at once, as it
//! would one that is in one piece.
//!
//! An answer that is written in two goes waits in between where the adopter has not set `TCP_NODELAY`: the
//! second's end stays here until the client acknowledges the first's, which it may do 40 ms later. hyper
//! collects frames and writes them together, vectored, until there are 16 of them or 408 KiB with the head,
//! and looks at that before it asks for a frame, not after. So what comes beyond either goes into one last
//! frame, of whatever size.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Frames of a body: fewer than the server collects, so that a middleware may add some.
const FRAMES: usize = 12;
/// How much goes uncopied before the last frame: less than the server collects, by a long head. Copying what is
/// beyond it costs 0.02 ms a megabyte in memory that the allocator kept, and up to 0.5 ms where the system has
/// to give it first, which the plain handler's growing buffer pays as well.
const UNCOPIED: usize = 384 * 1024;

/// The body. As few pieces as are common are not copied.
pub(crate) struct Pieces {
    pieces: VecDeque<Bytes>,
    left: usize,
    frames: usize,
    given: usize,
}

impl Pieces {
    pub(crate) fn new(pieces: VecDeque<Bytes>) -> Self {
        let left = pieces.iter().map(Bytes::len).sum();
        Pieces { pieces, left, frames: 0, given: 0 }
    }

    /// All that is left, in one piece.
    fn join(&mut self) -> Bytes {
        let mut joined = Vec::with_capacity(self.left);
        // Each is freed once it is copied.
        for piece in self.pieces.drain(..) {
            joined.extend_from_slice(&piece);
        }
        joined.into()
    }

    fn next(&mut self) -> Option<Bytes> {
        let first = self.pieces.front()?.len();
        let is_last = self.pieces.len() == 1;
        let fits = self.frames + 1 < FRAMES && self.given + first <= UNCOPIED;
        let frame = if is_last || fits { self.pieces.pop_front()? } else { self.join() };
        self.frames += 1;
        self.given += frame.len();
        self.left -= frame.len();
        Some(frame)
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Body;

    /// Pieces of these lengths, all different in what they hold.
    fn pieces(lengths: &[usize]) -> VecDeque<Bytes> {
        let piece = |(index, length): (usize, &usize)| Bytes::from(vec![index as u8; *length]);
        lengths.iter().enumerate().map(piece).collect()
    }

    /// The frames of a body of such pieces, which say that nothing is lost.
    fn frames(lengths: &[usize]) -> Vec<Bytes> {
        let whole = pieces(lengths).iter().flatten().copied().collect::<Vec<u8>>();
        let mut body = Pieces::new(pieces(lengths));
        let mut frames = Vec::new();
        loop {
            let left = whole.len() - frames.iter().map(Bytes::len).sum::<usize>();
            assert_eq!(body.size_hint().exact(), Some(left as u64));
            assert_eq!(body.is_end_stream(), left == 0);
            let Some(frame) = body.next() else { break };
            frames.push(frame);
        }
        assert_eq!(frames.concat(), whole);
        frames
    }

    fn lengths(frames: &[Bytes]) -> Vec<usize> {
        frames.iter().map(Bytes::len).collect()
    }

    #[test]
    fn few_pieces_are_frames_as_they_are() {
        for of in [&[][..], &[2], &[100, 64 * 1024, 1], &[32 * 1024; FRAMES], &[9 * UNCOPIED]] {
            assert_eq!(lengths(&frames(of)), of);
        }
        let own = pieces(&[10, 20]);
        let [first, second] = [own[0].as_ptr(), own[1].as_ptr()];
        let mut body = Pieces::new(own);
        let given = [body.next().unwrap(), body.next().unwrap()];
        assert_eq!([given[0].as_ptr(), given[1].as_ptr()], [first, second], "none is copied");
    }

    #[test]
    fn of_many_pieces_the_last_frame_has_all_that_are_left() {
        let mut expected = vec![250; FRAMES - 1];
        expected.push(989 * 250 - (FRAMES - 1) * 250);
        assert_eq!(lengths(&frames(&[250; 989])), expected);
    }

    #[test]
    fn whatever_comes_before_the_last_frame_fits_what_the_server_collects() {
        let kib = 1024;
        assert_eq!(lengths(&frames(&[100 * kib; 8])), [100 * kib, 100 * kib, 100 * kib, 500 * kib]);
        assert_eq!(lengths(&frames(&[50, 1024 * kib, 1])), [50, 1024 * kib + 1]);
    }
}
