//! The future of the service: the inner one, polled with the handle laid out.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::extract::{Installed, within};

pin_project! {
    /// The answer to one request of [`MulticoreService`](crate::MulticoreService).
    pub struct MulticoreFuture<F> {
        #[pin]
        pub(crate) future: F,
        pub(crate) installed: Option<Installed>,
    }
}

impl<F: Future> Future for MulticoreFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        within(this.installed, || this.future.poll(context))
    }
}

impl<F> fmt::Debug for MulticoreFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MulticoreFuture").finish_non_exhaustive()
    }
}
