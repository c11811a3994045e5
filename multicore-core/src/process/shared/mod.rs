//! What both sides need: memory, the socket, and the messages on it.

pub(super) mod memory;
pub(super) mod socket;
pub(super) mod wire;
pub(super) mod write_map;
