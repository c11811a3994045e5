//! In place of the server's side on systems that have no memfd and no pidfd: no worker ever starts.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;

use super::error::{ProcessError, ProcessStartError};
use super::registry::{Program, Registry};
use super::settings::ProcessSettings;
use super::stats::ProcessStats;

/// There are none.
pub(super) struct Workers(Infallible);

impl Workers {
    pub(super) async fn start(
        _name: &str,
        _count: usize,
        _program: Program,
        _settings: ProcessSettings,
    ) -> Result<Self, ProcessStartError> {
        Err(ProcessStartError::Unsupported { system: std::env::consts::OS })
    }

    pub(super) fn tasks(&self) -> &Registry {
        match self.0 {}
    }

    pub(super) fn stats(&self) -> ProcessStats {
        match self.0 {}
    }

    pub(super) async fn shut_down(&self, _deadline: Duration) -> usize {
        match self.0 {}
    }

    pub(super) async fn call(
        &self,
        _task: u32,
        _argument: Bytes,
        _timeout: Option<Duration>,
    ) -> Result<Bytes, ProcessError> {
        match self.0 {}
    }

    pub(super) fn call_blocking(
        &self,
        _task: u32,
        _argument: Bytes,
        _timeout: Option<Duration>,
    ) -> Result<Bytes, ProcessError> {
        match self.0 {}
    }
}
