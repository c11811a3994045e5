//! What several test files need: database servers, the routes without a network, and the program as
//! a process.

pub(crate) mod process;
pub(crate) mod servers;
pub(crate) mod web;
