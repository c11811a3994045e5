//! One person of the list: the joined row as the databases give it, and its JSON form. This is
//! the hot path of the `/users/` list, so that a row costs no allocation beyond its own texts.
//! Which rows exist is in [`dataset`](crate::dataset); paging and HTTP do not belong here.

use md5::{Digest, Md5};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::calendar::{Date, Timestamp};

mod flat;

pub use flat::FlatUserView;

/// The columns of a [`UserRow`], in its order, to follow `SELECT`.
pub const USER_COLUMNS: &str = "u.id, u.username, u.first_name, u.last_name, u.email, \
     u.is_active, u.is_staff, u.date_joined, \
     p.location, p.birth_date, p.karma, p.website, p.bio";

/// The tables of a [`UserRow`], to follow `FROM`.
pub const USER_TABLES: &str = "people_user u JOIN people_profile p ON p.user_id = u.id";

/// A user with the profile, decoded from a row of SQLite, PostgreSQL or MySQL.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct UserRow {
    /// Primary key.
    pub id: i32,
    /// Unique name.
    pub username: String,
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// Mail address.
    pub email: String,
    /// Whether the account may be used.
    pub is_active: bool,
    /// Whether the person is on the staff.
    pub is_staff: bool,
    /// When the account was made.
    pub date_joined: Timestamp,
    /// City.
    pub location: String,
    /// Day of birth.
    pub birth_date: Date,
    /// Points.
    pub karma: i32,
    /// URL of a page.
    pub website: String,
    /// Free text.
    pub bio: String,
}

/// The JSON form of a [`UserRow`]: its columns, and the fields computed from them.
///
/// Computing happens when the view is made, writing when it is serialised; the keys come in the
/// order of the common data set. `days_member` and `age` are as of 2024-06-01, so that answers
/// never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserView {
    row: UserRow,
    avatar_url: AvatarUrl,
    days_member: i64,
    age: i32,
    bio_words: usize,
}

impl UserView {
    /// The row this view was made from.
    #[must_use]
    pub const fn row(&self) -> &UserRow {
        &self.row
    }
}

impl From<UserRow> for UserView {
    fn from(row: UserRow) -> Self {
        let today = today();
        Self {
            avatar_url: AvatarUrl::of(&row.email),
            days_member: row.date_joined.days_until(today),
            age: row.birth_date.age_on(today),
            bio_words: words(&row.bio),
            row,
        }
    }
}

impl Serialize for UserView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = &self.row;
        let mut user = serializer.serialize_struct("UserView", 12)?;
        user.serialize_field("id", &row.id)?;
        user.serialize_field("username", &row.username)?;
        user.serialize_field("first_name", &row.first_name)?;
        user.serialize_field("last_name", &row.last_name)?;
        user.serialize_field("email", &row.email)?;
        user.serialize_field("is_active", &row.is_active)?;
        user.serialize_field("is_staff", &row.is_staff)?;
        user.serialize_field("date_joined", &row.date_joined)?;
        user.serialize_field("full_name", &FullName(row))?;
        user.serialize_field("avatar_url", &self.avatar_url)?;
        user.serialize_field("days_member", &self.days_member)?;
        user.serialize_field("profile", &ProfileView(self))?;
        user.end()
    }
}

/// The nested `profile` object of a [`UserView`].
struct ProfileView<'a>(&'a UserView);

impl Serialize for ProfileView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(UserView { row, age, bio_words, .. }) = self;
        let mut profile = serializer.serialize_struct("ProfileView", 7)?;
        profile.serialize_field("location", &row.location)?;
        profile.serialize_field("birth_date", &row.birth_date)?;
        profile.serialize_field("karma", &row.karma)?;
        profile.serialize_field("website", &row.website)?;
        profile.serialize_field("bio", &row.bio)?;
        profile.serialize_field("age", age)?;
        profile.serialize_field("bio_words", bio_words)?;
        profile.end()
    }
}

/// Both names, written straight into the serialiser.
struct FullName<'a>(&'a UserRow);

impl Serialize for FullName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(UserRow { first_name, last_name, .. }) = self;
        serializer.collect_str(&format_args!("{first_name} {last_name}"))
    }
}

/// The Gravatar address of a mail address; its length never varies, so that it needs no heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AvatarUrl([u8; AvatarUrl::TEMPLATE.len()]);

impl AvatarUrl {
    const TEMPLATE: &[u8; 69] = b"https://www.gravatar.com/avatar/00000000000000000000000000000000?s=80";
    const DIGEST_AT: usize = 32;

    /// The MD5 of the trimmed address in lower case, in the place of the template's zeros.
    fn of(email: &str) -> Self {
        const HEX: [u8; 16] = *b"0123456789abcdef";
        let email = email.trim();
        let plain = email.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
        let digest = if plain { Md5::digest(email) } else { Md5::digest(email.to_lowercase()) };
        let mut url = *Self::TEMPLATE;
        for (pair, byte) in url[Self::DIGEST_AT..].chunks_exact_mut(2).zip(digest) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        Self(url)
    }
}

impl Serialize for AvatarUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.0).expect("the address is ASCII"))
    }
}

/// The fixed day of the computed fields, 2024-06-01.
fn today() -> Date {
    const TODAY: time::Date = time::macros::date!(2024 - 06 - 01);
    Date::try_from(TODAY).expect("the year is in range")
}

/// The number of words, which white space parts.
fn words(text: &str) -> usize {
    if !text.is_ascii() {
        return text.split_whitespace().count();
    }
    // White space in ASCII is the space and the five bytes from tab to carriage return.
    let space = |byte: u8| (byte == b' ') | (byte.wrapping_sub(b'\t') < 5);
    let bytes = text.as_bytes();
    let Some((&first, rest)) = bytes.split_first() else {
        return 0;
    };
    // A word starts wherever a byte of a word follows a space. Without branches, and with sums
    // of bytes, which 255 pairs cannot overflow, the compiler vectorises it.
    let starts = bytes.chunks(255).zip(rest.chunks(255)).map(|(before, after)| {
        let pairs = before.iter().zip(after);
        pairs.map(|(&a, &b)| u8::from(space(a) & !space(b))).sum::<u8>()
    });
    usize::from(!space(first)) + starts.map(usize::from).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset;
    use sha2::Sha256;

    fn answer(rows: i32) -> Vec<u8> {
        let views: Vec<_> = (1..=rows).map(|id| UserView::from(dataset::user_row(id))).collect();
        serde_json::to_vec(&views).unwrap()
    }

    fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn answers_are_those_of_the_data_set_byte_for_byte() {
        for (rows, bytes, digest) in [
            (100, 64_471, "31d9baa504ef6e053d6a78e4e105c01faf38cee57ff8f115793dbfdfe40c5834"),
            (1_000, 642_624, "709f37f45af67f1053def612924542fe4b33a73a641db74f285cebff0d94b13d"),
        ] {
            let answer = answer(rows);
            assert_eq!(answer.len(), bytes, "{rows} rows");
            assert_eq!(sha256(&answer), digest, "{rows} rows");
        }
    }

    #[test]
    fn the_first_person_in_full() {
        let answer = String::from_utf8(answer(1)).unwrap();
        let expected = concat!(
            r#"[{"id":1,"username":"joel.baker1","first_name":"Joel","last_name":"Baker","#,
            r#""email":"joel.baker1@example.org","is_active":true,"is_staff":false,"#,
            r#""date_joined":"2017-01-09T02:49:30Z","full_name":"Joel Baker","#,
            r#""avatar_url":"https://www.gravatar.com/avatar/798ef8a93e8777a163ab4bc6fdfe1629?s=80","#,
            r#""days_member":2699,"profile":{"location":"Kigali","birth_date":"1950-09-18","#,
            r#""karma":81355,"website":"https://example.org/~joel.baker1","#,
            r#""bio":"Pepper silver quiver ember knight glider ladder oyster walnut glider autumn "#,
            r#"button silver eagle lumber.","age":73,"bio_words":15}}]"#,
        );
        assert_eq!(answer, expected);
    }

    #[test]
    fn avatars_ignore_case_and_outer_space() {
        let plain = AvatarUrl::of("ada@example.com");
        assert_eq!(AvatarUrl::of(" Ada@EXAMPLE.com\n"), plain);
        assert_eq!(AvatarUrl::of("ÄDA@example.com"), AvatarUrl::of("äda@example.com"));
        assert_ne!(AvatarUrl::of("äda@example.com"), plain);
    }

    #[test]
    fn names_are_escaped_in_json() {
        let mut row = dataset::user_row(1);
        row.first_name = "Zoë \"Z\"".to_owned();
        row.last_name = "O\\N\n".to_owned();
        let json = serde_json::to_value(UserView::from(row)).unwrap();
        assert_eq!(json["full_name"], "Zoë \"Z\" O\\N\n");
    }

    #[test]
    fn words_are_counted_alike_in_ascii_and_beyond() {
        for (text, count) in
            [("", 0), ("  ", 0), ("one", 1), (" one\t two\x0bthree\r\n", 3), ("été à\u{a0}la mer", 4)]
        {
            assert_eq!(words(text), count, "{text:?}");
        }
        for length in 0..600 {
            let text = "ab c  d\n".repeat(length / 8 + 1);
            let text = &text[..length];
            assert_eq!(words(text), text.split_whitespace().count(), "{text:?}");
        }
    }
}
