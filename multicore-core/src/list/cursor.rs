//! Where a page begins or ends, as a text that a client keeps and hands back: the values of the order's
//! keys at one row, signed. Which values, and what is read from there, does not belong here.
//!
//! A token is base64url, without padding, of
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 8 | the list's shape: which query, filters and order it belongs to |
//! | any | values, each a tag and what follows it; numbers and lengths as LEB128, of 1 to 10 bytes |
//! | 16 | the first half of the HMAC-SHA256 over all before |
//!
//! The signature is checked before anything else is looked at, so values are only ever read as they were
//! written. They are signed, not hidden: a client can read the keys of a row it was shown.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::cursor_secret::CursorSecret;

/// What the first byte of our tokens is.
const VERSION: u8 = 1;
const SHAPE_BYTES: usize = 8;
const MAC_BYTES: usize = 16;
/// The longest token that is looked at: beyond what servers take as a URL. Keys are rarely above a
/// hundred bytes; a token made of more than some 12 kB of them cannot be read again.
pub(crate) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A value of an order key.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyValue {
    Null,
    Int(i64),
    Uint(u64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// What a cursor must agree on with the list that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape([u8; SHAPE_BYTES]);

impl Shape {
    /// The shape of a list made of these parts. Other parts, or the same cut differently, give another.
    pub(crate) fn of(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut shape = [0; SHAPE_BYTES];
        shape.copy_from_slice(&hash.finalize()[..SHAPE_BYTES]);
        Shape(shape)
    }
}

/// Why a cursor cannot be continued from. All are the client's to solve: start again without a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// It is no cursor, was cut or changed, or comes from a server with another secret; these look alike.
    #[error(
        "the cursor was not made by this server, or was changed; start again without it, and hand cursors \
         back as they were given"
    )]
    Malformed,
    /// It was made by an older or newer version of the server.
    #[error("the cursor is of version {found}, and this server reads version 1; start again without it")]
    Version {
        /// The cursor's version.
        found: u8,
    },
    /// It belongs to another list, or to another order or other filters of this one.
    #[error("the cursor belongs to another list, order or filter; start again without it")]
    OtherList,
}

/// Whether a text has the form of a cursor, such as a client may hand to a list that has none. Whether some list can
/// continue from it is not known by that.
pub fn is_cursor(text: &str) -> bool {
    if text.len() > MAX_TOKEN_BYTES {
        return false;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text);
    bytes.is_ok_and(|bytes| bytes.len() >= 1 + SHAPE_BYTES + MAC_BYTES && bytes[0] == VERSION)
}

/// The token for these values in a list of this shape.
pub(crate) fn encode(secret: &CursorSecret, shape: Shape, values: &[KeyValue]) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(shape.0);
    for value in values {
        write(&mut bytes, value);
    }
    sign(secret, bytes)
}

/// The values in a token that [`encode`] made for the same secret and shape.
pub(crate) fn decode(secret: &CursorSecret, shape: Shape, token: &str) -> Result<Vec<KeyValue>, CursorError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(CursorError::Malformed);
    }
    // Takes each text of bytes in one spelling only.
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| CursorError::Malformed)?;
    let (signed, tag) = bytes.split_last_chunk::<MAC_BYTES>().ok_or(CursorError::Malformed)?;
    mac(secret, signed).verify_truncated_left(tag).map_err(|_| CursorError::Malformed)?;
    let (&version, signed) = signed.split_first().ok_or(CursorError::Malformed)?;
    if version != VERSION {
        return Err(CursorError::Version { found: version });
    }
    let (found, mut left) = signed.split_first_chunk::<SHAPE_BYTES>().ok_or(CursorError::Malformed)?;
    if *found != shape.0 {
        return Err(CursorError::OtherList);
    }
    let mut values = Vec::new();
    while !left.is_empty() {
        values.push(read(&mut left).ok_or(CursorError::Malformed)?);
    }
    Ok(values)
}

fn sign(secret: &CursorSecret, mut bytes: Vec<u8>) -> String {
    let tag = mac(secret, &bytes).finalize().into_bytes();
    bytes.extend(&tag[..MAC_BYTES]);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn mac(secret: &CursorSecret, bytes: &[u8]) -> Hmac<Sha256> {
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.bytes()) else {
        unreachable!("HMAC takes keys of any length")
    };
    mac.chain_update(bytes)
}

fn write(bytes: &mut Vec<u8>, value: &KeyValue) {
    match value {
        KeyValue::Null => bytes.push(0),
        KeyValue::Int(number) => {
            bytes.push(1);
            // Zigzag: small numbers are short, whatever their sign.
            write_number(bytes, ((number << 1) ^ (number >> 63)).cast_unsigned());
        }
        KeyValue::Uint(number) => {
            bytes.push(2);
            write_number(bytes, *number);
        }
        KeyValue::Real(number) => {
            bytes.push(3);
            bytes.extend(number.to_bits().to_be_bytes());
        }
        KeyValue::Text(text) => {
            bytes.push(4);
            write_number(bytes, text.len() as u64);
            bytes.extend(text.as_bytes());
        }
        KeyValue::Blob(blob) => {
            bytes.push(5);
            write_number(bytes, blob.len() as u64);
            bytes.extend(blob);
        }
    }
}

fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// The value that `left` begins with; none if it does not begin with one.
fn read(left: &mut &[u8]) -> Option<KeyValue> {
    let (&tag, rest) = left.split_first()?;
    *left = rest;
    Some(match tag {
        0 => KeyValue::Null,
        1 => {
            let number = read_number(left)?;
            KeyValue::Int((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
        }
        2 => KeyValue::Uint(read_number(left)?),
        3 => {
            let (number, rest) = left.split_first_chunk()?;
            *left = rest;
            KeyValue::Real(f64::from_bits(u64::from_be_bytes(*number)))
        }
        4 => KeyValue::Text(String::from_utf8(read_bytes(left)?.to_vec()).ok()?),
        5 => KeyValue::Blob(read_bytes(left)?.to_vec()),
        _ => return None,
    })
}

fn read_bytes<'t>(left: &mut &'t [u8]) -> Option<&'t [u8]> {
    let length = usize::try_from(read_number(left)?).ok()?;
    let (bytes, rest) = left.split_at_checked(length)?;
    *left = rest;
    Some(bytes)
}

fn read_number(left: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = left.split_first()?;
        *left = rest;
        let part = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if (part << shift) >> shift != part {
            return None;
        }
        number |= part << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret() -> CursorSecret {
        CursorSecret::new("0123456789abcdef").unwrap()
    }

    fn shape() -> Shape {
        Shape::of(&["SELECT", "id ASC"])
    }

    fn value() -> impl Strategy<Value = KeyValue> {
        prop_oneof![
            Just(KeyValue::Null),
            any::<i64>().prop_map(KeyValue::Int),
            (-300_i64..300).prop_map(KeyValue::Int),
            any::<u64>().prop_map(KeyValue::Uint),
            // All of them, infinities and NaNs too.
            any::<u64>().prop_map(|bits| KeyValue::Real(f64::from_bits(bits))),
            any::<String>().prop_map(KeyValue::Text),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(KeyValue::Blob),
        ]
    }

    fn values() -> impl Strategy<Value = Vec<KeyValue>> {
        proptest::collection::vec(value(), 0..5)
    }

    /// Equal bit for bit: a NaN equals itself, zero and minus zero differ.
    fn same(one: &[KeyValue], other: &[KeyValue]) -> bool {
        let same = |pair: (&KeyValue, &KeyValue)| match pair {
            (KeyValue::Real(one), KeyValue::Real(other)) => one.to_bits() == other.to_bits(),
            (one, other) => one == other,
        };
        one.len() == other.len() && one.iter().zip(other).all(same)
    }

    /// A token of bytes that are authentic whatever they say.
    fn signed(bytes: &[u8]) -> String {
        sign(&secret(), bytes.to_vec())
    }

    proptest! {
        #[test]
        fn any_values_come_back_as_they_were(values in values()) {
            let token = encode(&secret(), shape(), &values);
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            let found = decode(&secret(), shape(), &token);
            prop_assert!(found.as_ref().is_ok_and(|found| same(found, &values)), "{found:?}");
            prop_assert!(is_cursor(&token));
        }

        #[test]
        fn any_change_of_one_byte_is_refused(values in values(), at: prop::sample::Index, by: u8) {
            let token = encode(&secret(), shape(), &values);
            let at = at.index(token.len());
            let mut changed = token.clone().into_bytes();
            // Below 128, so that it stays a text.
            changed[at] = by & 0x7f;
            let changed = String::from_utf8(changed).unwrap();
            prop_assume!(changed != token);
            prop_assert_eq!(decode(&secret(), shape(), &changed), Err(CursorError::Malformed));
        }

        #[test]
        fn what_is_cut_or_has_more_is_refused(values in values(), at: prop::sample::Index, more in ".{1,20}") {
            let token = encode(&secret(), shape(), &values);
            let at = at.index(token.len());
            for text in [&token[..at], &token[at + 1..], &(token.clone() + &more), &(more + &token)] {
                prop_assert_eq!(decode(&secret(), shape(), text), Err(CursorError::Malformed));
            }
        }

        #[test]
        fn another_secret_is_refused_and_another_shape_is_named(values in values(), part: String) {
            let token = encode(&secret(), shape(), &values);
            let other = CursorSecret::random();
            prop_assert_eq!(decode(&other, shape(), &token), Err(CursorError::Malformed));
            let other = Shape::of(&["SELECT", "id ASC", &part]);
            prop_assert_eq!(decode(&secret(), other, &token), Err(CursorError::OtherList));
        }

        #[test]
        fn other_versions_are_told_apart_if_they_are_authentic(version: u8, rest: Vec<u8>) {
            prop_assume!(version != VERSION);
            let token = signed(&[&[version], &rest[..]].concat());
            prop_assert_eq!(decode(&secret(), shape(), &token), Err(CursorError::Version { found: version }));
            let other = CursorSecret::random();
            prop_assert_eq!(decode(&other, shape(), &token), Err(CursorError::Malformed));
        }

        #[test]
        fn no_text_makes_it_panic(text: String, base64 in "[A-Za-z0-9_-]{0,200}") {
            prop_assert_eq!(decode(&secret(), shape(), &text), Err(CursorError::Malformed));
            prop_assert_eq!(decode(&secret(), shape(), &base64), Err(CursorError::Malformed));
        }

        #[test]
        fn no_bytes_make_it_panic_even_if_they_are_authentic(bytes: Vec<u8>) {
            let _refused = decode(&secret(), shape(), &signed(&bytes));
            let bytes = [&[VERSION], &shape().0[..], &bytes].concat();
            if let Ok(values) = decode(&secret(), shape(), &signed(&bytes)) {
                let token = encode(&secret(), shape(), &values);
                let found = decode(&secret(), shape(), &token);
                prop_assert!(found.is_ok_and(|found| same(&found, &values)));
            }
        }
    }

    #[test]
    fn a_token_is_what_the_table_says() {
        let values = [
            KeyValue::Int(-2),
            KeyValue::Uint(300),
            KeyValue::Text("é".to_owned()),
            KeyValue::Null,
            KeyValue::Real(1.0),
            KeyValue::Blob(vec![0xff]),
        ];
        let bytes = URL_SAFE_NO_PAD.decode(encode(&secret(), shape(), &values)).unwrap();
        let (head, tag) = bytes.split_at(bytes.len() - MAC_BYTES);
        assert_eq!(head[0], 1);
        assert_eq!(head[1..9], shape().0);
        assert_eq!(
            head[9..],
            [1, 3, 2, 0xac, 2, 4, 2, 0xc3, 0xa9, 0, 3, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 5, 1, 0xff]
        );
        assert_eq!(tag.len(), 16);
    }

    /// Made by another implementation of the table above. Tokens of released servers must be understood
    /// by the next ones, or get another version.
    #[test]
    fn a_token_of_today_is_understood_tomorrow() {
        let token = encode(&secret(), shape(), &[KeyValue::Int(42), KeyValue::Text("ada".to_owned())]);
        assert_eq!(token, "AbUbcXlgb80OAVQEA2FkYbZgNdD6B8TYWkmR-xR05z0");
    }

    #[test]
    fn the_longest_numbers_come_back() {
        let values = [KeyValue::Int(i64::MIN), KeyValue::Int(i64::MAX), KeyValue::Uint(u64::MAX)];
        let token = encode(&secret(), shape(), &values);
        assert_eq!(decode(&secret(), shape(), &token), Ok(values.to_vec()));
    }

    #[test]
    fn values_that_do_not_end_or_say_too_much_are_refused() {
        for values in [
            &[1][..],
            &[1, 0x80],
            &[2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            &[2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
            &[3, 0, 0, 0],
            &[4, 2, b'a'],
            &[4, 1, 0xff],
            &[5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[6],
        ] {
            let token = signed(&[&[VERSION], &shape().0[..], values].concat());
            assert_eq!(decode(&secret(), shape(), &token), Err(CursorError::Malformed), "{values:?}");
        }
    }

    #[test]
    fn the_length_is_bounded_before_anything_is_decoded() {
        let fits = |bytes| {
            let token = encode(&secret(), shape(), &[KeyValue::Blob(vec![0; bytes])]);
            (token.len() <= MAX_TOKEN_BYTES, decode(&secret(), shape(), &token).is_ok())
        };
        assert_eq!(fits(12_000), (true, true));
        assert_eq!(fits(13_000), (false, false));
    }

    #[test]
    fn shapes_depend_on_where_parts_end() {
        assert_eq!(Shape::of(&["ab", "c"]), Shape::of(&["ab", "c"]));
        for other in [&["a", "bc"][..], &["abc"], &["ab", "c", ""], &["c", "ab"], &[]] {
            assert_ne!(Shape::of(&["ab", "c"]), Shape::of(other), "{other:?}");
        }
    }

    #[test]
    fn errors_tell_a_client_what_to_do() {
        for error in [CursorError::Malformed, CursorError::Version { found: 2 }, CursorError::OtherList] {
            assert!(error.to_string().contains("start again without it"), "{error}");
        }
    }
}
