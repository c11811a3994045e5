//! Values without end from one number, the same on every machine.

use crate::dataset::{mix, pick};

/// The sequence of splitmix64 from a state, for texts that need more values than a field has.
pub(super) struct Stream(u64);

impl Stream {
    pub(super) fn from_state(state: u64) -> Self {
        Stream(state)
    }

    pub(super) fn next(&mut self) -> u64 {
        let value = mix(self.0);
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        value
    }

    /// A value from 0 to `limit` - 1.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// An entry of `list`.
    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        pick(list, self.next())
    }
}
