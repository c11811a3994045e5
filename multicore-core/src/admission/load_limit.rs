//! `max-load-average` as it is written in a configuration: what is accepted and what it means.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// Above this a number is per cent of one core, not load per core.
const PER_CENT_ABOVE: f64 = 10.0;

/// The 1-minute load average per core above which no help is given (`max-load-average`).
///
/// A number up to 10 is load per core: `0.85` on four cores means a load average of 3.4. A number
/// above 10, or a text with `%`, is per cent of one core: `85` and `"85%"` both mean `0.85`. Zero,
/// negative numbers, NaN, infinity and words are errors.
///
/// ```
/// use multicore_core::LoadLimit;
/// assert_eq!("85%".parse::<LoadLimit>()?.per_core(), 0.85);
/// assert_eq!(LoadLimit::from_number(85.0)?.per_core(), 0.85);
/// assert_eq!(LoadLimit::from_number(1.5)?.per_core(), 1.5);
/// assert!("busy".parse::<LoadLimit>().is_err());
/// # Ok::<(), multicore_core::InvalidLoadLimit>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct LoadLimit(f64);

impl LoadLimit {
    /// Reads a bare number: load per core up to 10, per cent of one core above.
    ///
    /// # Errors
    /// When the number is not finite or not above zero.
    pub fn from_number(number: f64) -> Result<Self, InvalidLoadLimit> {
        if !number.is_finite() || number <= 0.0 {
            return Err(InvalidLoadLimit { value: number.to_string() });
        }
        Ok(LoadLimit(if number > PER_CENT_ABOVE { number / 100.0 } else { number }))
    }

    /// The load average per core.
    pub fn per_core(self) -> f64 {
        self.0
    }

    /// The load average above which a machine of `cores` gives no help.
    pub fn on(self, cores: usize) -> f64 {
        self.0 * cores as f64
    }
}

impl std::str::FromStr for LoadLimit {
    type Err = InvalidLoadLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidLoadLimit { value: text.to_owned() };
        let trimmed = text.trim();
        match trimmed.strip_suffix('%') {
            Some(per_cent) => {
                let number: f64 = per_cent.trim_end().parse().map_err(|_| invalid())?;
                let per_core = number / 100.0;
                if !per_core.is_finite() || per_core <= 0.0 {
                    return Err(invalid());
                }
                Ok(LoadLimit(per_core))
            }
            None => {
                let number: f64 = trimmed.parse().map_err(|_| invalid())?;
                LoadLimit::from_number(number).map_err(|_| invalid())
            }
        }
    }
}

impl fmt::Display for LoadLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per core", self.0)
    }
}

/// A `max-load-average` that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "max-load-average is `{value}`; accepted are a load per core above 0 and up to 10 (0.85), or per \
     cent of one core as a number above 10 or a text with % (85, \"85%\")"
)]
pub struct InvalidLoadLimit {
    value: String,
}

impl<'de> Deserialize<'de> for LoadLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;

        impl Visitor<'_> for NumberOrText {
            type Value = LoadLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a load per core (0.85) or per cent of one core (85 or \"85%\")")
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<LoadLimit, E> {
                LoadLimit::from_number(number).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<LoadLimit, E> {
                self.visit_f64(number as f64)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<LoadLimit, E> {
                self.visit_f64(number as f64)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LoadLimit, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(NumberOrText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_mean_what_the_documents_say() {
        for (text, per_core) in [
            ("0.85", 0.85),
            ("85", 0.85),
            ("85%", 0.85),
            (" 85 % ", 0.85),
            ("5%", 0.05),
            ("250%", 2.5),
            ("10", 10.0),
            ("10.5", 0.105),
            ("1e1", 10.0),
            ("0.001", 0.001),
        ] {
            assert_eq!(text.parse::<LoadLimit>().map(LoadLimit::per_core), Ok(per_core), "{text}");
        }
        for json in ["0.85", "85", "\"85%\"", "\"0.85\""] {
            let limit: LoadLimit = serde_json::from_str(json).unwrap();
            assert_eq!(limit.per_core(), 0.85, "{json}");
        }
        assert_eq!("0.85".parse::<LoadLimit>().unwrap().on(4), 3.4);
    }

    #[test]
    fn what_means_nothing_is_an_error_that_names_the_key_the_value_and_what_is_accepted() {
        for text in ["0", "-1", "NaN", "inf", "-inf", "", "%", "0%", "-5%", "high", "85 percent", "nan%"] {
            let error = text.parse::<LoadLimit>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("max-load-average is `{text}`")), "{error}");
            assert!(error.contains("accepted are"), "{error}");
        }
        for json in ["0", "-0.5", "true", "null", "[]", "\"often\""] {
            assert!(serde_json::from_str::<LoadLimit>(json).is_err(), "{json}");
        }
    }
}
