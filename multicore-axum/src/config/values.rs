//! How values are spelt in a file or in the environment, which has texts only. Errors name the key, the value and
//! what is accepted.

use std::fmt;
use std::time::Duration;

use serde::Deserializer;
use serde::de::{self, Visitor};

/// A whole number in place of what `serde` would call a `usize`: errors name the key and the value.
pub(super) struct Whole(pub(super) &'static str);

impl Visitor<'_> for Whole {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number for {}", self.0)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| self.refuse(number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<u64, E> {
        Err(self.refuse(number))
    }

    // The environment has texts only.
    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        text.trim().parse().map_err(|_| self.refuse(text))
    }
}

impl Whole {
    pub(super) fn refuse<E: de::Error>(&self, value: impl fmt::Display) -> E {
        E::custom(format_args!("{} is `{value}`; accepted: a whole number from 1", self.0))
    }
}

pub(super) fn workers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let number = deserializer.deserialize_any(Whole("workers"))?;
    usize::try_from(number).map(Some).map_err(|_| Whole("workers").refuse(number))
}

pub(super) fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let number = deserializer.deserialize_any(Whole("servers"))?;
    usize::try_from(number).map(Some).map_err(|_| Whole("servers").refuse(number))
}

pub(super) fn default_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_any(Whole("default-limit")).map(Some)
}

pub(super) fn max_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Whole("max-limit"))
}

/// What a text says as a duration.
pub(super) fn span<E: de::Error>(key: &str, text: &str, accepted: &str) -> Result<Duration, E> {
    humantime::parse_duration(text)
        .map_err(|_| E::custom(format_args!("{key} is `{text}`; accepted: {accepted}")))
}

/// A duration as a text; errors name the key and what is accepted.
pub(super) struct Span(pub(super) &'static str);

impl Visitor<'_> for Span {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a duration with units for {}, such as \"30s\" or \"1m 30s\"", self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        span(self.0, text, "a duration with units, such as 30s or 1m 30s")
    }

    // A bare number leaves open of what.
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Duration, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Duration, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Duration, E> {
        self.visit_str(&number.to_string())
    }
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    deserializer.deserialize_any(Span("timeout")).map(Some)
}

/// A switch, also as a text, since the environment has nothing else.
pub(super) struct Switch(pub(super) &'static str);

impl Visitor<'_> for Switch {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "true or false for {}", self.0)
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<bool, E> {
        Ok(on)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<bool, E> {
        let (key, accepted) = (self.0, "true or false");
        text.parse().map_err(|_| E::custom(format_args!("{key} is `{text}`; accepted: {accepted}")))
    }
}

pub(super) fn server_timing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    deserializer.deserialize_any(Switch("server-timing"))
}

pub(super) fn transaction_pooling<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    deserializer.deserialize_any(Switch("transaction-pooling"))
}

/// A number of bytes, also with a unit.
#[cfg(feature = "process")]
pub(super) struct Size(pub(super) &'static str);

#[cfg(feature = "process")]
impl Visitor<'_> for Size {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a size for {}, such as \"256MiB\"", self.0)
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<u64, E> {
        u64::try_from(bytes).map_err(|_| self.refuse(bytes))
    }

    fn visit_f64<E: de::Error>(self, bytes: f64) -> Result<u64, E> {
        Err(self.refuse(bytes))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        text.trim().parse::<bytesize::ByteSize>().map(|size| size.as_u64()).map_err(|_| self.refuse(text))
    }
}

#[cfg(feature = "process")]
impl Size {
    fn refuse<E: de::Error>(&self, value: impl fmt::Display) -> E {
        let accepted = "a number of bytes, or a size such as 256MiB or 1GB";
        E::custom(format_args!("{} is `{value}`; accepted: {accepted}", self.0))
    }
}
