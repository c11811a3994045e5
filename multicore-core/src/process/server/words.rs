//! What a worker writes to its standard output and error: passed on to the log, and the last of it kept for
//! when it dies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::process::error::LastWords;

/// How much is kept.
const KEEP: usize = 4 * 1024;
/// A longer line is logged in pieces.
const LINE: usize = 1024;

#[derive(Debug)]
pub(super) struct Words {
    worker: String,
    pipe: OwnedFd,
    last: Vec<u8>,
    line: Vec<u8>,
}

impl Words {
    /// The reading end, and the writing one for the worker.
    pub(super) fn new(worker: &str) -> io::Result<(Self, OwnedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        // Of this end only: a worker that writes much is to wait.
        fcntl_setfl(&read, fcntl_getfl(&read)? | OFlags::NONBLOCK)?;
        Ok((Words { worker: worker.to_owned(), pipe: read, last: Vec::new(), line: Vec::new() }, write))
    }

    pub(super) fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Takes what is there. False at the end: nobody is left who could write.
    pub(super) fn read(&mut self) -> bool {
        let mut buffer = [0; 4_096];
        // Not for ever, should somebody write faster than this reads.
        for _ in 0..16 {
            match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(0) => return false,
                Ok(some) => self.take(&buffer[..some]),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return error == rustix::io::Errno::AGAIN,
            }
        }
        true
    }

    fn take(&mut self, bytes: &[u8]) {
        self.last.extend_from_slice(bytes);
        let above = self.last.len().saturating_sub(KEEP);
        self.last.drain(..above);
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
            }
            if *byte == b'\n' || self.line.len() == LINE {
                self.log();
            }
        }
    }

    fn log(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        if !line.trim().is_empty() {
            tracing::info!(worker = self.worker, "{line}");
        }
        self.line.clear();
    }

    /// The last of it.
    pub(super) fn last(&self) -> LastWords {
        LastWords(String::from_utf8_lossy(&self.last).into_owned())
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        self.log();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_kept_and_no_more() {
        let (mut words, pipe) = Words::new("worker").unwrap();
        assert!(words.read());
        assert_eq!(words.last().as_str(), "");
        for part in [&b"one\ntwo"[..], &[b'x'; 6_000], b"\nl\xffast"] {
            rustix::io::write(&pipe, part).unwrap();
        }
        drop(pipe);
        assert!(!words.read());
        let last = words.last();
        assert!(last.as_str().ends_with("x\nl\u{fffd}ast") && !last.as_str().contains("one"));
        assert_eq!(last.as_str().len(), KEEP + 2, "a replaced byte has three");
    }
}
