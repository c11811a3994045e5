//! `list_in_processes`: a page whose rows are rendered in worker processes. They are read here, as they always
//! are, and cross over in groups; what comes back is JSON, and goes into the response as it is.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use serde::Serialize;

use super::ListError;
use super::page::List;
use super::paging::Paging;
use super::query::{Decode, ListQuery};
use super::render::{CHUNK_BYTES, Elements, Rendering};
use crate::db::{Database, SqlDatabase};
use crate::job::Work;
use crate::mode::{Mode, Reason};
use crate::pool::Multicore;
use crate::process::{ProcessError, Rendered, Rows, each_row, put_row};
use crate::task::within;

/// How many groups each worker gets, so that one with slow rows does not hold up the page much.
const GROUPS_A_WORKER: usize = 4;
/// How many rows a group has at the most, and how many bytes: a crash costs a group, and a short one is lent
/// again soon.
const MOST_ROWS: usize = 256;
const MOST_BYTES: usize = 1024 * 1024;

impl<DB: SqlDatabase> Multicore<DB> {
    /// Reads one page as [`list`](Multicore::list) does, and renders its rows in the pool's worker processes, by the
    /// function that [`Tasks::add_render`](crate::process::Tasks::add_render) registered under the name `render`. The
    /// rows go over in groups of up to 256, and the bytes come back in order.
    ///
    /// For rendering that may crash, leak or hang. It costs more than rendering here, since every row is encoded and
    /// decoded once more, and it is never done here instead: where all workers are busy, the page waits.
    ///
    /// # Errors
    /// As [`list`](Multicore::list), and [`ListError::Process`] for what becomes of the workers.
    ///
    /// # Cancel safety
    /// As [`list`](Multicore::list). Workers that have begun a group are killed and replaced.
    pub async fn list_in_processes<R>(
        &self,
        query: ListQuery<R, DB>,
        page: impl Into<Paging>,
        render: &str,
    ) -> Result<List, ListError>
    where
        R: Serialize + Send + 'static,
    {
        let task = self.processes().task::<Rows<R>, Rendered>(render)?;
        let decode = query.decode();
        let request = query.request()?;
        let paging = page.into();
        let limit = [self.core.timeout, request.timeout].into_iter().flatten().min();
        let model = self.core.costs.of::<Packing<DB, R>>();
        let work = Arc::new(Packing::<DB, R>::new(decode, model.item_bytes()));
        let made = async {
            let list = self.read(request, &paging, &work, model).await?;
            self.render_groups(list, task).await
        };
        match limit {
            None => made.await,
            Some(after) => within(after, made).await.unwrap_or(Err(ListError::Timeout { after })),
        }
    }

    async fn render_groups(&self, mut list: List, task: u32) -> Result<List, ListError> {
        let workers = self.processes().stats().workers;
        let rows = list.rows.div_ceil(workers.max(1) * GROUPS_A_WORKER).clamp(1, MOST_ROWS);
        let groups = groups(&list.chunks, rows);
        let count = groups.len();
        let rendered = self.processes().ordered(task, groups).await.map_err(|error| match error {
            ProcessError::Panicked { message, .. } => ListError::Panicked { message },
            error => ListError::Process(error),
        })?;
        list.chunks = array(rendered);
        list.in_processes = true;
        list.mode = match (workers, count) {
            (..=1, _) => Mode::Sequential(Reason::OneCore),
            (_, ..=1) => Mode::Sequential(Reason::TooSmall),
            (workers, chunks) => Mode::Parallel { participants: workers.min(chunks), chunks },
        };
        Ok(list)
    }
}

/// Cuts what was read into groups of so many rows.
fn groups(chunks: &[Bytes], rows: usize) -> Vec<Bytes> {
    let mut groups = Vec::new();
    let (mut group, mut in_group) = (Vec::new(), 0);
    for row in chunks.iter().flat_map(|chunk| each_row(chunk)) {
        put_row(&mut group, row);
        in_group += 1;
        if in_group == rows || group.len() >= MOST_BYTES {
            groups.push(Bytes::from(std::mem::take(&mut group)));
            in_group = 0;
        }
    }
    if !group.is_empty() {
        groups.push(group.into());
    }
    groups
}

/// Rendered groups, each element with a comma before it, as an array of as few pieces.
fn array(groups: Vec<Bytes>) -> Vec<Bytes> {
    let mut chunks = Vec::with_capacity(groups.len() + 2);
    for group in groups.into_iter().filter(|group| !group.is_empty()) {
        if chunks.is_empty() {
            chunks.push(Bytes::from_static(b"["));
            chunks.push(group.slice(1..));
        } else {
            chunks.push(group);
        }
    }
    chunks.push(Bytes::from_static(if chunks.is_empty() { b"[]" } else { b"]" }));
    chunks
}

/// Decodes rows and packs them for the way.
struct Packing<DB: Database, R> {
    decode: Decode<R, DB>,
    row_bytes: AtomicUsize,
    types: PhantomData<fn() -> R>,
}

impl<DB: Database, R> Packing<DB, R> {
    fn new(decode: Decode<R, DB>, row_bytes: Option<usize>) -> Self {
        Packing { decode, row_bytes: AtomicUsize::new(row_bytes.unwrap_or(256)), types: PhantomData }
    }
}

impl<DB: SqlDatabase, R: Serialize + Send + 'static> Work for Packing<DB, R> {
    type Item = DB::Item;
    type Out = Elements;
    type Error = ListError;

    fn begin(&self, items: usize) -> Elements {
        let row = self.row_bytes.load(Ordering::Relaxed);
        Elements::with_capacity(items.saturating_mul(row).min(CHUNK_BYTES))
    }

    fn add(&self, row: Self::Item, out: &mut Elements) -> Result<(), ListError> {
        self.add_row(&row, out)
    }

    fn is_full(&self, out: &Elements) -> bool {
        out.len() >= CHUNK_BYTES
    }
}

impl<DB: SqlDatabase, R: Serialize + Send + 'static> Rendering for Packing<DB, R> {
    fn add_row(&self, row: &Self::Item, out: &mut Elements) -> Result<(), ListError> {
        let row = (self.decode)(row).map_err(|error| ListError::Decode(error.into()))?;
        let packed = rmp_serde::to_vec_named(&row).map_err(|error| ListError::Encode(error.into()))?;
        put_row(out.bytes_mut(), &packed);
        out.rows += 1;
        if out.rows.is_power_of_two() {
            self.row_bytes.store(out.len() / out.rows, Ordering::Relaxed);
        }
        Ok(())
    }

    fn join(&self, outs: Vec<Elements>) -> Vec<Bytes> {
        outs.into_iter().map(|out| Bytes::from(out.into_bytes())).collect()
    }

    fn row_bytes(&self) -> usize {
        self.row_bytes.load(Ordering::Relaxed)
    }

    // Only exports have batches and headers.
    fn begin_batch(&self) {}

    fn batch_bytes(&self) -> usize {
        0
    }

    fn header(&self) -> &[u8] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_grouped_across_chunks_and_in_order() {
        let chunk = |rows: &[&str]| {
            let mut bytes = Vec::new();
            rows.iter().for_each(|row| put_row(&mut bytes, row.as_bytes()));
            Bytes::from(bytes)
        };
        let chunks = [chunk(&["a", "bb"]), chunk(&[]), chunk(&["ccc", "", "e"])];
        for (rows, expected) in [
            (1, vec![vec!["a"], vec!["bb"], vec!["ccc"], vec![""], vec!["e"]]),
            (2, vec![vec!["a", "bb"], vec!["ccc", ""], vec!["e"]]),
            (9, vec![vec!["a", "bb", "ccc", "", "e"]]),
        ] {
            let groups = groups(&chunks, rows);
            let read: Vec<Vec<&[u8]>> = groups.iter().map(|group| each_row(group).collect()).collect();
            let read: Vec<Vec<&str>> =
                read.iter().map(|g| g.iter().map(|r| str::from_utf8(r).unwrap()).collect()).collect();
            assert_eq!(read, expected);
        }
        assert!(groups(&[], 3).is_empty());
    }

    #[test]
    fn groups_become_one_array() {
        let text = |groups: &[&'static str]| {
            let groups = groups.iter().map(|group| Bytes::from_static(group.as_bytes())).collect();
            String::from_utf8(array(groups).concat()).unwrap()
        };
        assert_eq!(text(&[]), "[]");
        assert_eq!(text(&[",1"]), "[1]");
        assert_eq!(text(&[",1,2", "", ",3"]), "[1,2,3]");
    }
}
