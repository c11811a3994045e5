//! The two calendar types of the rows: [`Timestamp`] (UTC) and [`Date`].
//!
//! They wrap the `time` crate's types to be quick where a list is hot: on SQLite, where both are
//! text, they are read by position instead of by trying one format after another, and they are
//! written to JSON through a buffer on the stack. On PostgreSQL and MySQL the wire format is
//! binary, and the wrapped type's own decoder is used. Time zones other than UTC and formats
//! other than ISO 8601 do not belong here.

use std::fmt;
use std::str::FromStr;

use multicore_axum::sqlite::Direct;
use serde::{Serialize, Serializer};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::{Database, Decode, Encode, MySql, Postgres, Sqlite, Type};
use time::{Month, OffsetDateTime, Time, UtcDateTime};

const SECONDS_PER_DAY: i64 = 86_400;

/// A point in time, in UTC, in the years 0 to 9999.
///
/// Displays and serialises as `2017-01-09T02:49:30Z`; a fraction of a second is kept but not
/// shown. Parses `YYYY-MM-DD HH:MM:SS`, with `T` for the space, a fraction, and `Z` or `+00:00`
/// all optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(UtcDateTime);

/// A day of the Gregorian calendar, in the years 0 to 9999.
///
/// Displays, parses and serialises as `1950-09-18`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(time::Date);

/// A text or value that is not a [`Timestamp`] or [`Date`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CalendarError {
    /// The text has another form, or names a day or time that does not exist.
    #[error("not {expected}: {text:?}")]
    Malformed {
        /// The form that is accepted.
        expected: &'static str,
        /// What was found.
        text: String,
    },
    /// The year is outside 0 to 9999, so that it has no four-digit form.
    #[error("year {0} is outside 0 to 9999")]
    Year(i32),
}

impl Timestamp {
    /// The instant `seconds` after 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// When the year is outside 0 to 9999.
    pub fn from_unix_timestamp(seconds: i64) -> Result<Self, CalendarError> {
        let instant = UtcDateTime::from_unix_timestamp(seconds).map_err(|_| CalendarError::Malformed {
            expected: "a Unix timestamp",
            text: seconds.to_string(),
        })?;
        Self::try_from(instant)
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    #[must_use]
    pub const fn unix_timestamp(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// Whole days from this instant to the start of `day`, rounded down (negative when this
    /// instant is later).
    #[must_use]
    pub const fn days_until(self, day: Date) -> i64 {
        let midnight = (day.0.to_julian_day() as i64 - UNIX_EPOCH_JULIAN_DAY) * SECONDS_PER_DAY;
        // A started second is not a whole one.
        let started = (self.0.nanosecond() > 0) as i64;
        (midnight - self.0.unix_timestamp() - started).div_euclid(SECONDS_PER_DAY)
    }

    /// The 20 ASCII characters of `YYYY-MM-DDTHH:MM:SSZ`.
    fn ascii(self) -> [u8; 20] {
        let (hour, minute, second) = self.0.as_hms();
        let mut ascii = *b"0000-00-00T00:00:00Z";
        ascii[..10].copy_from_slice(&date_ascii(self.0.date()));
        put_two(&mut ascii[11..13], hour);
        put_two(&mut ascii[14..16], minute);
        put_two(&mut ascii[17..19], second);
        ascii
    }
}

impl Date {
    /// The day `year`-`month`-`day`.
    ///
    /// # Errors
    /// When there is no such day, or the year is outside 0 to 9999.
    pub fn from_calendar_date(year: i32, month: u8, day: u8) -> Result<Self, CalendarError> {
        let date = calendar_date(year, month, day).ok_or_else(|| CalendarError::Malformed {
            expected: "a day of the calendar",
            text: format!("{year}-{month}-{day}"),
        })?;
        Self::try_from(date)
    }

    /// The day `days` after this one.
    ///
    /// # Panics
    /// When the year leaves 0 to 9999.
    #[must_use]
    pub fn plus_days(self, days: i32) -> Self {
        let date = time::Date::from_julian_day(self.0.to_julian_day() + days);
        date.ok().and_then(|date| Self::try_from(date).ok()).expect("the day is in range")
    }

    /// Midnight at the start of this day, in UTC.
    #[must_use]
    pub const fn midnight(self) -> Timestamp {
        Timestamp(UtcDateTime::new(self.0, Time::MIDNIGHT))
    }

    /// Full years from this day to `today`, as a person's age: one more from each birthday on. A
    /// person born on 29 February has the birthday of a common year on 1 March.
    #[must_use]
    pub fn age_on(self, today: Self) -> i32 {
        let (year, month, day) = self.0.to_calendar_date();
        let (this_year, this_month, this_day) = today.0.to_calendar_date();
        let birthday_ahead = (this_month as u8, this_day) < (month as u8, day);
        this_year - year - i32::from(birthday_ahead)
    }
}

const UNIX_EPOCH_JULIAN_DAY: i64 = UtcDateTime::UNIX_EPOCH.to_julian_day() as i64;

fn calendar_date(year: i32, month: u8, day: u8) -> Option<time::Date> {
    time::Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()
}

/// The 10 ASCII characters of `YYYY-MM-DD`; the constructors have checked the year.
fn date_ascii(date: time::Date) -> [u8; 10] {
    let (year, month, day) = date.to_calendar_date();
    let mut ascii = *b"0000-00-00";
    put_two(&mut ascii[..2], (year / 100) as u8);
    put_two(&mut ascii[2..4], (year % 100) as u8);
    put_two(&mut ascii[5..7], month as u8);
    put_two(&mut ascii[8..], day);
    ascii
}

fn put_two(to: &mut [u8], value: u8) {
    to[0] = b'0' + value / 10;
    to[1] = b'0' + value % 10;
}

/// The value of a text of digits only.
fn digits(text: &[u8]) -> Option<u32> {
    text.iter()
        .try_fold(0_u32, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
}

fn two(text: &[u8]) -> Option<u8> {
    digits(text).map(|value| value as u8)
}

fn parse_date(text: &[u8]) -> Option<time::Date> {
    let [_, _, _, _, b'-', _, _, b'-', _, _] = text else {
        return None;
    };
    calendar_date(digits(&text[..4])?.cast_signed(), two(&text[5..7])?, two(&text[8..])?)
}

fn parse_timestamp(text: &[u8]) -> Option<UtcDateTime> {
    let (seconds, rest) = text.split_at_checked(19)?;
    let [b' ' | b'T', _, _, b':', _, _, b':', _, _] = seconds[10..] else {
        return None;
    };
    let date = parse_date(&seconds[..10])?;
    let (hour, minute) = (two(&seconds[11..13])?, two(&seconds[14..16])?);
    let nanosecond = if rest.is_empty() { 0 } else { parse_fraction(rest)? };
    let time = Time::from_hms_nano(hour, minute, two(&seconds[17..])?, nanosecond).ok()?;
    Some(UtcDateTime::new(date, time))
}

/// Nanoseconds of an optional fraction, which an optional name of UTC may follow.
fn parse_fraction(text: &[u8]) -> Option<u32> {
    let text = text.strip_suffix(b"Z").or(text.strip_suffix(b"+00:00")).unwrap_or(text);
    let Some(fraction) = text.strip_prefix(b".") else {
        return text.is_empty().then_some(0);
    };
    let places = u32::try_from(fraction.len()).ok().filter(|places| (1..=9).contains(places))?;
    Some(digits(fraction)? * 10_u32.pow(9 - places))
}

impl TryFrom<UtcDateTime> for Timestamp {
    type Error = CalendarError;

    fn try_from(instant: UtcDateTime) -> Result<Self, CalendarError> {
        Date::try_from(instant.date()).map(|_| Self(instant))
    }
}

impl TryFrom<OffsetDateTime> for Timestamp {
    type Error = CalendarError;

    fn try_from(instant: OffsetDateTime) -> Result<Self, CalendarError> {
        Self::try_from(instant.to_utc())
    }
}

impl From<Timestamp> for OffsetDateTime {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0.into()
    }
}

impl TryFrom<time::Date> for Date {
    type Error = CalendarError;

    fn try_from(date: time::Date) -> Result<Self, CalendarError> {
        match date.year() {
            0..=9999 => Ok(Self(date)),
            year => Err(CalendarError::Year(year)),
        }
    }
}

impl From<Date> for time::Date {
    fn from(date: Date) -> Self {
        date.0
    }
}

impl FromStr for Timestamp {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, CalendarError> {
        parse_timestamp(text.as_bytes()).map(Self).ok_or_else(|| CalendarError::Malformed {
            expected: "a UTC timestamp, YYYY-MM-DD HH:MM:SS",
            text: text.to_owned(),
        })
    }
}

impl FromStr for Date {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, CalendarError> {
        parse_date(text.as_bytes())
            .map(Self)
            .ok_or_else(|| CalendarError::Malformed { expected: "a date, YYYY-MM-DD", text: text.to_owned() })
    }
}

fn ascii_str(ascii: &[u8]) -> &str {
    std::str::from_utf8(ascii).expect("the text is ASCII")
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(ascii_str(&self.ascii()))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(ascii_str(&date_ascii(self.0)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(ascii_str(&self.ascii()))
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(ascii_str(&date_ascii(self.0)))
    }
}

// On SQLite both are text, in the form Django writes.

impl Encode<'_, Sqlite> for Timestamp {
    fn encode_by_ref(
        &self,
        buffer: &mut <Sqlite as Database>::ArgumentBuffer,
    ) -> Result<IsNull, BoxDynError> {
        let mut ascii = self.ascii();
        ascii[10] = b' ';
        <&str as Encode<Sqlite>>::encode(ascii_str(&ascii[..19]), buffer)
    }
}

impl Encode<'_, Sqlite> for Date {
    fn encode_by_ref(
        &self,
        buffer: &mut <Sqlite as Database>::ArgumentBuffer,
    ) -> Result<IsNull, BoxDynError> {
        <&str as Encode<Sqlite>>::encode(ascii_str(&date_ascii(self.0)), buffer)
    }
}

/// On a database of SQLite's rows: the driver's, and those that are read where they are used.
macro_rules! text_on {
    ($database:ty: $($ours:ty),*) => {$(
        impl Type<$database> for $ours {
            fn type_info() -> <$database as Database>::TypeInfo {
                <str as Type<$database>>::type_info()
            }
        }

        impl<'r> Decode<'r, $database> for $ours {
            fn decode(value: <$database as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
                Ok(<&str as Decode<$database>>::decode(value)?.parse()?)
            }
        }
    )*};
}

macro_rules! wraps_on {
    ($database:ty: $($ours:ty = $theirs:ty),*) => {$(
        impl Type<$database> for $ours {
            fn type_info() -> <$database as Database>::TypeInfo {
                <$theirs as Type<$database>>::type_info()
            }

            fn compatible(ty: &<$database as Database>::TypeInfo) -> bool {
                <$theirs as Type<$database>>::compatible(ty)
            }
        }

        impl<'r> Decode<'r, $database> for $ours {
            fn decode(value: <$database as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
                Ok(Self::try_from(<$theirs as Decode<$database>>::decode(value)?)?)
            }
        }

        impl Encode<'_, $database> for $ours {
            fn encode_by_ref(
                &self,
                buffer: &mut <$database as Database>::ArgumentBuffer,
            ) -> Result<IsNull, BoxDynError> {
                <$theirs as Encode<$database>>::encode((*self).into(), buffer)
            }
        }
    )*};
}

text_on!(Sqlite: Timestamp, Date);
text_on!(Direct: Timestamp, Date);
wraps_on!(Postgres: Timestamp = OffsetDateTime, Date = time::Date);
wraps_on!(MySql: Timestamp = OffsetDateTime, Date = time::Date);

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn texts_of_the_accepted_forms_name_the_same_instant() {
        let plain: Timestamp = "2017-01-09 02:49:30".parse().unwrap();
        for text in [
            "2017-01-09T02:49:30Z",
            "2017-01-09 02:49:30.000",
            "2017-01-09 02:49:30+00:00",
            "2017-01-09T02:49:30.000000000Z",
        ] {
            assert_eq!(text.parse(), Ok(plain), "{text}");
        }
        assert_eq!(plain.unix_timestamp(), 1_483_930_170);
        assert_eq!(plain.to_string(), "2017-01-09T02:49:30Z");
        assert_eq!(serde_json::to_string(&plain).unwrap(), "\"2017-01-09T02:49:30Z\"");
    }

    #[test]
    fn malformed_texts_are_errors() {
        for text in [
            "",
            "2017-01-09",
            "2017-01-09 02:49",
            "2017-01-09 02:49:60",
            "2017-02-29 00:00:00",
            "2017-01-09 02:49:30.",
            "2017-01-09 02:49:30+01:00",
            "2017-01-09 02:49:30.1234567890",
            "2017-01-09x02:49:30",
            "2017-01-0é 02:49:30",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
        for text in ["", "2017-13-01", "2017-00-01", "1900-02-29", "17-01-01", "2017/01/01"] {
            assert!(text.parse::<Date>().is_err(), "{text}");
        }
        let error = "soon".parse::<Date>().unwrap_err();
        assert_eq!(error.to_string(), "not a date, YYYY-MM-DD: \"soon\"");
        assert_eq!(Timestamp::from_unix_timestamp(-99_999_999_999), Err(CalendarError::Year(-1199)));
    }

    #[test]
    fn leap_years_follow_the_gregorian_rule() {
        assert_eq!(date("2000-02-29").to_string(), "2000-02-29");
        assert_eq!(date("2024-02-28").plus_days(2).to_string(), "2024-03-01");
        assert_eq!(date("2023-02-28").plus_days(1).to_string(), "2023-03-01");
    }

    #[test]
    fn age_grows_on_the_birthday() {
        assert_eq!(date("1990-05-31").age_on(date("2024-06-01")), 34);
        assert_eq!(date("1990-06-01").age_on(date("2024-06-01")), 34);
        assert_eq!(date("1990-06-02").age_on(date("2024-06-01")), 33);
        assert_eq!(date("2004-02-29").age_on(date("2023-02-28")), 18);
        assert_eq!(date("2004-02-29").age_on(date("2023-03-01")), 19);
        assert_eq!(date("2004-02-29").age_on(date("2024-02-29")), 20);
    }

    #[test]
    fn days_until_counts_whole_days_rounded_down() {
        let today = date("2024-06-01");
        for (text, days) in [
            ("2024-06-01 00:00:00", 0),
            ("2024-05-31 00:00:01", 0),
            ("2024-05-31 00:00:00", 1),
            ("2024-05-31 00:00:00.5", 0),
            ("2024-06-01 00:00:01", -1),
            ("2024-02-29 00:00:00", 93),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().days_until(today), days, "{text}");
        }
        assert_eq!(today.midnight().days_until(today), 0);
    }
}
