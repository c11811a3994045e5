//! What can cross to another process and back, and in which format.

use std::io::{self, Write};
use std::ops::Range;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::BoxError;

/// A value that goes to a worker process as an argument, or comes back as a result.
///
/// | type | format |
/// |---|---|
/// | [`Bytes`], `Vec<u8>`, `String` | as they are |
/// | [`Json<T>`] | JSON; as a result to be passed on, take it as [`Bytes`], ready for a response |
/// | [`Packed<T>`] | MessagePack with the names of fields: compact, and exact for every type of serde's, such as floats, flattened structs and untagged enums |
/// | `()`, `Range<u64>` | as `Packed` |
/// | [`InPlace`] | what a function writes, for results that are long |
///
/// An implementation of one's own needs to read what it wrote: the two sides are one program.
pub trait Portable: Sized + Send + 'static {
    /// Writes the value. A result is written straight into the memory that the server reads.
    ///
    /// # Errors
    /// That it has no form in the format.
    fn write(&self, out: &mut Output<'_>) -> Result<(), BoxError>;

    /// The value from what was written. Of a result, `bytes` is the shared memory itself, which goes back when
    /// they are dropped; of an argument in the worker too.
    ///
    /// # Errors
    /// That the bytes are no such value.
    fn read(bytes: Bytes) -> Result<Self, BoxError>;

    /// The same bytes as `write`'s, without a copy where they are there already.
    ///
    /// # Errors
    /// As [`write`](Portable::write).
    fn into_bytes(self) -> Result<Bytes, BoxError> {
        let mut bytes = Vec::new();
        self.write(&mut Output(&mut bytes))?;
        Ok(bytes.into())
    }
}

/// Where a value is written to.
pub struct Output<'a>(pub(super) &'a mut dyn Write);

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Portable for Bytes {
    fn write(&self, out: &mut Output<'_>) -> Result<(), BoxError> {
        Ok(out.write_all(self)?)
    }

    fn read(bytes: Bytes) -> Result<Self, BoxError> {
        Ok(bytes)
    }

    fn into_bytes(self) -> Result<Bytes, BoxError> {
        Ok(self)
    }
}

impl Portable for Vec<u8> {
    fn write(&self, out: &mut Output<'_>) -> Result<(), BoxError> {
        Ok(out.write_all(self)?)
    }

    fn read(bytes: Bytes) -> Result<Self, BoxError> {
        Ok(bytes.into())
    }

    fn into_bytes(self) -> Result<Bytes, BoxError> {
        Ok(self.into())
    }
}

impl Portable for String {
    fn write(&self, out: &mut Output<'_>) -> Result<(), BoxError> {
        Ok(out.write_all(self.as_bytes())?)
    }

    fn read(bytes: Bytes) -> Result<Self, BoxError> {
        Ok(String::from_utf8(bytes.into())?)
    }

    fn into_bytes(self) -> Result<Bytes, BoxError> {
        Ok(self.into())
    }
}

/// A value that crosses as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize + DeserializeOwned + Send + 'static> Portable for Json<T> {
    fn write(&self, out: &mut Output<'_>) -> Result<(), BoxError> {
        Ok(serde_json::to_writer(out, &self.0)?)
    }

    fn read(bytes: Bytes) -> Result<Self, BoxError> {
        Ok(Json(serde_json::from_slice(&bytes)?))
    }
}

/// A value that crosses as MessagePack with the names of its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed<T>(pub T);

impl<T: Serialize + DeserializeOwned + Send + 'static> Portable for Packed<T> {
    fn write(&self, out: &mut Output<'_>) -> Result<(), BoxError> {
        Ok(rmp_serde::encode::write_named(out, &self.0)?)
    }

    fn read(bytes: Bytes) -> Result<Self, BoxError> {
        Ok(Packed(rmp_serde::from_slice(&bytes)?))
    }
}

/// A result that is written as it is made, straight into the memory that the server reads. A `Vec` is filled first and
/// copied there; from some megabytes on those two are most of what a call costs.
///
/// It is for results; the caller takes it as [`Bytes`].
///
/// ```
/// # use std::convert::Infallible;
/// # use std::io::Write;
/// use multicore_core::process::{InPlace, Json, Output, Tasks};
///
/// let tasks = Tasks::new().add("table", |Json(rows): Json<u64>| {
///     Ok::<_, Infallible>(InPlace(move |out: &mut Output<'_>| {
///         (0..rows).try_for_each(|row| writeln!(out, "{row},{}", row * row))?;
///         Ok(())
///     }))
/// });
/// # let _ = tasks;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct InPlace<F>(pub F);

impl<F> Portable for InPlace<F>
where
    F: Fn(&mut Output<'_>) -> Result<(), BoxError> + Send + 'static,
{
    fn write(&self, out: &mut Output<'_>) -> Result<(), BoxError> {
        (self.0)(out)
    }

    /// # Errors
    /// Always: a function does not come back.
    fn read(_bytes: Bytes) -> Result<Self, BoxError> {
        Err("what is written in place is taken as the bytes it wrote".into())
    }
}

impl Portable for () {
    fn write(&self, _out: &mut Output<'_>) -> Result<(), BoxError> {
        Ok(())
    }

    fn read(bytes: Bytes) -> Result<Self, BoxError> {
        if bytes.is_empty() { Ok(()) } else { Err("more bytes than nothing has".into()) }
    }
}

impl Portable for Range<u64> {
    fn write(&self, out: &mut Output<'_>) -> Result<(), BoxError> {
        out.write_all(&self.start.to_le_bytes())?;
        Ok(out.write_all(&self.end.to_le_bytes())?)
    }

    fn read(bytes: Bytes) -> Result<Self, BoxError> {
        let Some((start, end)) = bytes.split_first_chunk::<8>() else { return Err("no range".into()) };
        Ok(u64::from_le_bytes(*start)..u64::from_le_bytes(end.try_into()?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    fn across<T: Portable>(value: T) -> T {
        T::read(value.into_bytes().unwrap()).unwrap()
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(f64),
        Text(String),
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        id: i128,
        either: Either,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        maybe: Option<bool>,
        #[serde(flatten)]
        others: BTreeMap<String, f64>,
    }

    proptest! {
        #[test]
        fn values_come_back_as_they_were(
            id: i64, number in any::<f64>().prop_filter("NaN is not equal to itself", |f| !f.is_nan()),
            text in ".{0,80}", maybe: Option<bool>, key in "[a-z]{5,9}", start: u64, end: u64,
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            for either in [Either::Number(number), Either::Text(text.clone())] {
                let others = BTreeMap::from([(key.clone(), number)]);
                let record = Record { id: id.into(), either, maybe, others };
                prop_assert_eq!(&across(Packed(record.clone())).0, &record);
            }
            prop_assert_eq!(&across(Json(text.clone())).0, &text);
            prop_assert_eq!(&across(text.clone()), &text);
            prop_assert_eq!(&across(bytes.clone()), &bytes);
            prop_assert_eq!(&across(Bytes::from(bytes.clone())), &bytes);
            prop_assert_eq!(across(start..end), start..end);
        }
    }

    #[test]
    fn what_is_written_in_place_is_what_was_written() {
        let table = InPlace(|out: &mut Output<'_>| Ok(out.write_all(b"1,2")?));
        assert_eq!(table.into_bytes().unwrap(), "1,2");
    }

    #[test]
    fn what_is_no_such_value_is_refused() {
        assert!(String::read(Bytes::from_static(b"\xff")).is_err());
        assert!(Range::read(Bytes::from_static(b"0123456789")).is_err());
        assert!(<()>::read(Bytes::from_static(b"x")).is_err());
        assert!(Packed::<String>::read(Bytes::from_static(b"\xc1")).is_err());
        assert!(Json::<u8>::read(Bytes::from_static(b"300")).is_err());
    }
}
