//! Rows on their way to a worker process that renders them: each with its length before it, so that groups can be
//! cut without reading them.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::portable::Output;
use super::registry::Failure;
use crate::json;

/// Rows of this type, as a task's argument.
pub(crate) struct Rows<R>(PhantomData<fn() -> R>);

/// Their JSON, each with a comma before it.
pub(crate) enum Rendered {}

/// Adds a row.
#[cfg_attr(
    not(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql")),
    allow(dead_code, reason = "only lists have rows")
)]
pub(crate) fn put_row(out: &mut Vec<u8>, row: &[u8]) {
    // A row of 4 GB does not fit anywhere else either.
    out.extend(u32::try_from(row.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(row);
}

/// The rows in their order; ends where the bytes do, or make no sense.
pub(crate) fn each_row(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (row, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        bytes = rest;
        Some(row)
    })
}

/// Renders rows as the task `render` says, one after the other.
pub(super) fn render_rows<R, V>(
    render: &impl Fn(R) -> V,
    rows: &Bytes,
    out: &mut Output<'_>,
) -> Result<(), Failure>
where
    R: DeserializeOwned,
    V: Serialize,
{
    use std::io::Write as _;
    let mut element = Vec::new();
    for row in each_row(rows) {
        let row = rmp_serde::from_slice(row).map_err(|error| Failure::Argument(error.into()))?;
        let view = render(row);
        element.clear();
        element.push(b',');
        json::put(&mut element, &view).map_err(|error| Failure::Result(error.into()))?;
        out.write_all(&element).map_err(|error| Failure::Result(error.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_rendered_in_order_each_with_a_comma_before_it() {
        for (rows, expected) in [(vec![], ""), (vec![1u64], ",2"), (vec![1, 20, 300], ",2,40,600")] {
            let mut bytes = Vec::new();
            for row in rows {
                put_row(&mut bytes, &rmp_serde::to_vec_named(&row).unwrap());
            }
            let mut out = Vec::new();
            let rendered = render_rows(&|row: u64| row * 2, &bytes.into(), &mut Output(&mut out));
            assert!(rendered.is_ok());
            assert_eq!(out, expected.as_bytes());
        }
    }

    #[test]
    fn what_is_no_row_is_refused() {
        let mut bytes = Vec::new();
        put_row(&mut bytes, b"\xc1");
        let refused = render_rows(&|row: u64| row, &bytes.into(), &mut Output(&mut Vec::new()));
        assert!(matches!(refused, Err(Failure::Argument(_))));
        assert_eq!(each_row(&[9, 0, 0, 0, 1]).count(), 0);
    }
}
