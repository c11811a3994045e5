//! The pool's own decisions, compiled from the very files the pool is built of. They are private to
//! `multicore-core`, so this is the only way to run them without making them public there.

#![allow(dead_code, reason = "what only the pool needs is compiled along")]

#[path = "../../../multicore-core/src/admission/cost.rs"]
pub(crate) mod cost;
#[path = "../../../multicore-core/src/admission/policy.rs"]
pub(crate) mod policy;
