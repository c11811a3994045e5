//! How far a long task is: the trait it reports to, and a bar for people at a terminal. What is
//! being done does not belong here.

use indicatif::{ProgressBar, ProgressStyle};

/// Is told of the progress of a task that has several parts, one after the other.
pub trait Progress: Send {
    /// A part begins: `done` of its `total` rows are there already.
    fn begin(&mut self, what: &'static str, done: u64, total: u64);

    /// `rows` more are there.
    fn advance(&mut self, rows: u64);

    /// The part is finished. Not called when it fails.
    fn end(&mut self);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&mut self, _what: &'static str, _done: u64, _total: u64) {}

    fn advance(&mut self, _rows: u64) {}

    fn end(&mut self) {}
}

/// Draws a bar on standard error while a part runs, if that is a terminal, and nothing otherwise.
#[derive(Debug, Default)]
pub struct Bar {
    bar: Option<ProgressBar>,
}

impl Progress for Bar {
    fn begin(&mut self, what: &'static str, done: u64, total: u64) {
        let style = ProgressStyle::with_template("{msg:9} {wide_bar} {human_pos}/{human_len} {eta}")
            .expect("the template is well formed");
        let bar = ProgressBar::new(total).with_style(style).with_message(what);
        bar.set_position(done);
        // A bar that begins in the middle must not count the earlier rows as quick ones.
        bar.reset_eta();
        self.bar = Some(bar);
    }

    fn advance(&mut self, rows: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(rows);
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
