//! JSON as serde_json writes it, byte for byte, with strings looked through many bytes at a time. What takes the
//! time in a list's rows is mostly the search of their texts for what JSON escapes, and serde_json looks at one byte
//! after the other. Everything but strings and the brackets around values is still written by serde_json.

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::Error;

/// Adds a value's JSON.
///
/// # Errors
/// As serde_json's: what the value's own implementation says, or that a map's key is no string. What was added until
/// then stays.
pub(crate) fn put<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    value.serialize(Json(out))
}

/// How many bytes are looked at together: as many as a few instructions take on any processor.
const LANES: usize = 32;
/// And of what is left of them.
const FEW: usize = 8;

fn is_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Whether there is one among these, all of them looked at, without a jump in between.
fn has_escaped<const N: usize>(lane: &[u8; N]) -> bool {
    lane.iter().fold(false, |any, byte| any | is_escaped(*byte))
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let (lanes, rest) = bytes.as_chunks::<LANES>();
    let (few, last) = rest.as_chunks::<FEW>();
    // From where on nothing was put yet, and where it is looked.
    let (mut from, mut at) = (0, 0);
    for lane in lanes {
        if has_escaped(lane) {
            from = put_escaped(out, bytes, from, at..at + LANES);
        }
        at += LANES;
    }
    for lane in few {
        if has_escaped(lane) {
            from = put_escaped(out, bytes, from, at..at + FEW);
        }
        at += FEW;
    }
    if last.iter().any(|byte| is_escaped(*byte)) {
        from = put_escaped(out, bytes, from, at..bytes.len());
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// Puts what is before and between those bytes in the range that are escaped, and these. Says from where on nothing
/// was put yet.
#[cold]
fn put_escaped(out: &mut Vec<u8>, bytes: &[u8], mut from: usize, range: std::ops::Range<usize>) -> usize {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let start = range.start;
    for (index, &byte) in bytes[range].iter().enumerate() {
        if !is_escaped(byte) {
            continue;
        }
        let at = start + index;
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0c => b'f',
            b'\r' => b'r',
            _ => {
                let [high, low] = [byte >> 4, byte & 15].map(|half| HEX[usize::from(half)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    from
}

/// Names under which serde_json hands over what it writes in a way of its own: raw values, and numbers of any length.
fn is_private(name: &str) -> bool {
    name.starts_with("$serde_json::private::")
}

struct Json<'a>(&'a mut Vec<u8>);

/// A sequence or an object under way, and what closes it.
struct Within<'a> {
    out: &'a mut Vec<u8>,
    /// What comes before the next element: the opening bracket or a comma.
    before: u8,
    close: &'static [u8],
    /// Whether it is a struct that serde_json writes in a way of its own.
    private: Option<&'static str>,
}

impl<'a> Json<'a> {
    fn within(self, open: u8, close: &'static [u8]) -> Within<'a> {
        Within { out: self.0, before: open, close, private: None }
    }

    /// The name of an enum's variant, before its content.
    fn variant(self, name: &str) -> Self {
        self.0.push(b'{');
        put_string(self.0, name);
        self.0.push(b':');
        self
    }
}

impl Within<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.out.push(self.before);
        self.before = b',';
        put(self.out, value)
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        if let Some(name) = self.private {
            let mut json = serde_json::Serializer::new(&mut *self.out);
            let mut only = json.serialize_struct(name, 1)?;
            SerializeStruct::serialize_field(&mut only, key, value)?;
            return SerializeStruct::end(only);
        }
        self.out.push(self.before);
        self.before = b',';
        put_string(self.out, key);
        self.out.push(b':');
        put(self.out, value)
    }

    fn close(self) -> Result<(), Error> {
        if self.private.is_some() {
            return Ok(());
        }
        if self.before != b',' {
            self.out.push(self.before);
        }
        self.out.extend_from_slice(self.close);
        Ok(())
    }
}

macro_rules! by_serde_json {
    ($($method:ident($type:ty);)*) => {
        $(fn $method(self, value: $type) -> Result<(), Error> {
            serde_json::Serializer::new(self.0).$method(value)
        })*
    };
}

impl<'a> Serializer for Json<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Within<'a>;
    type SerializeTuple = Within<'a>;
    type SerializeTupleStruct = Within<'a>;
    type SerializeTupleVariant = Within<'a>;
    type SerializeMap = Within<'a>;
    type SerializeStruct = Within<'a>;
    type SerializeStructVariant = Within<'a>;

    by_serde_json! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_bytes(&[u8]);
        serialize_unit_struct(&'static str);
    }

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        put_string(self.0, text);
        Ok(())
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        serde_json::Serializer::new(self.0).collect_str(value)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        serde_json::Serializer::new(self.0).serialize_unit()
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let Json(out) = self.variant(variant);
        put(out, value)?;
        out.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Within<'a>, Error> {
        Ok(self.within(b'[', b"]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Within<'a>, Error> {
        Ok(self.within(b'[', b"]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Within<'a>, Error> {
        Ok(self.within(b'[', b"]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Within<'a>, Error> {
        Ok(self.variant(variant).within(b'[', b"]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Within<'a>, Error> {
        Ok(self.within(b'{', b"}"))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Within<'a>, Error> {
        let private = is_private(name).then_some(name);
        Ok(Within { private, ..self.within(b'{', b"}") })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Within<'a>, Error> {
        Ok(self.variant(variant).within(b'{', b"}}"))
    }
}

impl SerializeMap for Within<'_> {
    type Ok = ();
    type Error = Error;

    /// What can be a key, and how, is serde_json's: it writes an object's opening bracket and its first key.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let at = self.out.len();
        serde_json::Serializer::new(&mut *self.out).serialize_map(None)?.serialize_key(key)?;
        self.out[at] = self.before;
        self.before = b',';
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.out.push(b':');
        put(self.out, value)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}

macro_rules! within {
    ($($trait:ident::$method:ident($($key:ident)?) by $by:ident;)*) => {
        $(impl $trait for Within<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($key: &'static str,)?
                value: &T,
            ) -> Result<(), Error> {
                self.$by($($key,)? value)
            }

            fn end(self) -> Result<(), Error> {
                self.close()
            }
        })*
    };
}

within! {
    SerializeSeq::serialize_element() by element;
    SerializeTuple::serialize_element() by element;
    SerializeTupleStruct::serialize_field() by element;
    SerializeTupleVariant::serialize_field() by element;
    SerializeStruct::serialize_field(key) by field;
    SerializeStructVariant::serialize_field(key) by field;
}

#[cfg(test)]
mod tests;
