//! The cursor secret as a configuration gives it. What a secret must be, the core says.

use std::fmt;

use multicore_core::{CursorSecret, StartError};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a configuration has for `cursor-secret`. Reading it accepts anything, since a parser's own error
/// may quote the line, and with it the secret; what is no secret is refused afterwards.
#[derive(Clone, Default)]
pub(crate) enum GivenSecret {
    #[default]
    Nothing,
    Secret(CursorSecret),
    Text(String),
    /// A number, a switch, a table.
    NoText,
}

impl GivenSecret {
    /// The secret, if one was given.
    pub(crate) fn secret(&self) -> Result<Option<CursorSecret>, StartError> {
        match self {
            GivenSecret::Nothing => Ok(None),
            GivenSecret::Secret(secret) => Ok(Some(secret.clone())),
            GivenSecret::Text(text) => CursorSecret::new(text).map(Some),
            GivenSecret::NoText => Err(StartError::Setting {
                key: "cursor-secret",
                value: "not a text, not shown".to_owned(),
                accepted: "a text of at least 16 bytes",
            }),
        }
    }
}

impl fmt::Debug for GivenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, GivenSecret::Nothing) { "None" } else { "Some(not shown)" })
    }
}

impl<'de> Deserialize<'de> for GivenSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = GivenSecret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text of at least 16 bytes for cursor-secret")
    }

    fn visit_str<E>(self, text: &str) -> Result<GivenSecret, E> {
        Ok(GivenSecret::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<GivenSecret, E> {
        Ok(GivenSecret::NoText)
    }

    fn visit_i64<E>(self, _: i64) -> Result<GivenSecret, E> {
        Ok(GivenSecret::NoText)
    }

    fn visit_u64<E>(self, _: u64) -> Result<GivenSecret, E> {
        Ok(GivenSecret::NoText)
    }

    fn visit_f64<E>(self, _: f64) -> Result<GivenSecret, E> {
        Ok(GivenSecret::NoText)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<GivenSecret, E> {
        Ok(GivenSecret::NoText)
    }

    fn visit_unit<E>(self) -> Result<GivenSecret, E> {
        Ok(GivenSecret::NoText)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<GivenSecret, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(GivenSecret::NoText)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<GivenSecret, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(GivenSecret::NoText)
    }
}
