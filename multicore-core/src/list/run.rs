//! `list`: a page as JSON, read again as a whole should its connection be lost or its statement be given up. How it is
//! read is in `read`.

use std::sync::Arc;

use serde::Serialize;

use super::ListError;
use super::page::List;
use super::paging::{Paging, Start};
use super::query::{ListQuery, Request, number};
use super::read::PageRead;
use super::render::{Render, Rendering};
use crate::admission::cost::CostModel;
use crate::db::SqlDatabase;
use crate::pool::Multicore;
use crate::task::within;

impl<DB: SqlDatabase> Multicore<DB> {
    /// Reads one page and returns it as a JSON array. The caller's own task reads the rows from a
    /// connection of the application's pool and renders them; idle workers help if the work pays for
    /// waking them, with rendering, or with reading over their own connections on the same snapshot. The
    /// bytes are the same either way.
    ///
    /// `render` turns a row into what is serialised. It runs on several threads at a time, and twice for a
    /// row if the page has to be read again.
    ///
    /// # Errors
    /// The first error in the order of the rows: a row that cannot be decoded or serialised, a panic
    /// of `render`, the database's own. An order that is not total, or a cursor of another list. Also when
    /// no connection is free in time, and when the time is up. Where a connection is lost, or the database gives a
    /// statement up so that something else can go on (a standby its replay), the whole page is read again, once and by
    /// one statement; never a part of it.
    ///
    /// # Cancel safety
    /// Dropping the future cancels what was not begun and drops the result. A statement that still runs is
    /// cancelled in the database, and its connection is given back once it is clean.
    pub async fn list<R, V, F>(
        &self,
        query: ListQuery<R, DB>,
        page: impl Into<Paging>,
        render: F,
    ) -> Result<List, ListError>
    where
        R: 'static,
        V: Serialize + 'static,
        F: Fn(R) -> V + Send + Sync + 'static,
    {
        let decode = query.decode();
        let request = query.request()?;
        let paging = page.into();
        let limit = [self.core.timeout, request.timeout].into_iter().flatten().min();
        let model = self.core.costs.of::<Render<DB, R, V, F>>();
        let work = Arc::new(Render::<DB, R, V, F>::new(decode, render, model.item_bytes()));
        let read = self.read(request, &paging, &work, model);
        match limit {
            None => read.await,
            Some(after) => within(after, read).await.unwrap_or(Err(ListError::Timeout { after })),
        }
    }

    pub(super) async fn read<W>(
        &self,
        request: Request<DB>,
        paging: &Paging,
        work: &Arc<W>,
        model: &CostModel,
    ) -> Result<List, ListError>
    where
        W: Rendering<Item = DB::Item>,
    {
        number("limit", paging.limit)?;
        if let Start::Offset(offset) = paging.start {
            number("offset", offset)?;
        }
        let mut page = PageRead::new(&self.core, request, paging, work, model);
        match page.attempt().await {
            Err(error) if error.may_pass::<DB>() => {
                error.log_retry::<DB>();
                page.attempt_again().await
            }
            result => result,
        }
    }
}
