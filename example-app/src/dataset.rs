//! The rule of the common data set: every value of a person is a pure function of the row id, so
//! that any program can make the same rows and any two answers can be compared byte for byte.
//! How rows are stored is in [`schema`](crate::schema), how they are shown in
//! [`users`](crate::users); the articles' own rule is in [`articles`](crate::articles).

use crate::calendar::{Date, Timestamp};
use crate::users::UserRow;

const FIRST_NAMES: [&str; 32] = [
    "Ada", "Alan", "Anna", "Ben", "Carla", "Dan", "Elsa", "Erik", "Fay", "Finn", "Gina", "Hugo", "Ida",
    "Ivan", "Jane", "Joel", "Kara", "Karl", "Lena", "Liam", "Mary", "Max", "Nina", "Noah", "Olga", "Omar",
    "Pia", "Paul", "Rosa", "Sam", "Tina", "Zoe",
];
const LAST_NAMES: [&str; 32] = [
    "Abbott", "Baker", "Carter", "Dixon", "Ellis", "Fisher", "Grant", "Harris", "Irving", "Jones", "Keller",
    "Lambert", "Mason", "Nolan", "Osborn", "Parker", "Quinn", "Reyes", "Stone", "Turner", "Upton", "Vance",
    "Walker", "Xiong", "Young", "Zeller", "Barnes", "Cole", "Dunn", "Frost", "Hayes", "Lowe",
];
const CITIES: [&str; 32] = [
    "Amsterdam",
    "Athens",
    "Berlin",
    "Bogota",
    "Boston",
    "Cairo",
    "Chicago",
    "Dakar",
    "Delhi",
    "Dublin",
    "Geneva",
    "Hanoi",
    "Harare",
    "Havana",
    "Helsinki",
    "Jakarta",
    "Kigali",
    "Lagos",
    "Lima",
    "Lisbon",
    "London",
    "Lusaka",
    "Madrid",
    "Manila",
    "Nairobi",
    "Oslo",
    "Paris",
    "Prague",
    "Quito",
    "Riga",
    "Rome",
    "Tokyo",
];
const DOMAINS: [&str; 4] = ["example.com", "example.net", "example.org", "mail.example"];
const WORDS: [&str; 64] = [
    "apple", "basin", "cable", "delta", "eagle", "fabric", "garden", "harbor", "island", "jacket", "kernel",
    "ladder", "magnet", "needle", "orange", "packet", "quartz", "ribbon", "saddle", "tablet", "umbra",
    "valley", "window", "xenon", "yellow", "zephyr", "anchor", "bridge", "copper", "dragon", "engine",
    "falcon", "glider", "hammer", "insect", "jungle", "kettle", "lumber", "mirror", "nickel", "oyster",
    "pepper", "quiver", "rocket", "silver", "tunnel", "urchin", "violet", "walnut", "xylem", "yonder",
    "zodiac", "autumn", "button", "candle", "domain", "ember", "forest", "goblet", "hollow", "ivory",
    "jigsaw", "knight", "lantern",
];

/// 2010-01-01T00:00:00Z: nobody joined earlier, and nothing was published earlier.
const EPOCH: i64 = 1_262_304_000;
/// Seconds after [`EPOCH`] within which people join: 14 years less one day.
const JOINING_SECONDS: u64 = 441_763_200;
/// Days after 1950-01-01 within which people are born: up to the end of 2005.
const BIRTH_DAYS: u64 = 20_454;

/// A row of `people_user`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Primary key, from 1.
    pub id: i32,
    /// `first.last` and the id, in lower case; unique.
    pub username: String,
    /// Given name.
    pub first_name: &'static str,
    /// Family name.
    pub last_name: &'static str,
    /// The user name at one of four domains.
    pub email: String,
    /// True for nine in ten.
    pub is_active: bool,
    /// True for one in fifty.
    pub is_staff: bool,
    /// From 2010-01-01 to 2023-12-31.
    pub date_joined: Timestamp,
}

/// A row of `people_profile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Primary key, equal to `user_id`.
    pub id: i32,
    /// The user this profile belongs to.
    pub user_id: i32,
    /// A city.
    pub location: &'static str,
    /// From 1950-01-01 to 2005-12-31.
    pub birth_date: Date,
    /// From 0 to 99,999.
    pub karma: i32,
    /// A page at the domain of the user's address.
    pub website: String,
    /// 12 to 40 words.
    pub bio: String,
}

/// splitmix64: one step from state `x`.
#[must_use]
pub const fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The value of one field of row `id`; [`r_at`] with `k` 0.
#[must_use]
pub const fn r(id: i32, field: u64) -> u64 {
    r_at(id, field, 0)
}

/// The `k`-th value of one field of row `id`. People use the fields 1 to 11, articles those from
/// 32; `field` and `k` are below 64, so that no two values share a state.
#[must_use]
pub const fn r_at(id: i32, field: u64, k: u64) -> u64 {
    mix((id as i64 as u64).wrapping_mul(4096).wrapping_add(field * 64 + k))
}

/// The entry of `list` that `value` chooses.
pub(crate) fn pick<T: Copy>(list: &[T], value: u64) -> T {
    list[(value % list.len() as u64) as usize]
}

/// The instant within the data set's fourteen years that `value` chooses.
pub(crate) fn instant(value: u64) -> Timestamp {
    let seconds = (value % JOINING_SECONDS).cast_signed();
    Timestamp::from_unix_timestamp(EPOCH + seconds).expect("the instant is in range")
}

/// The user with this id.
#[must_use]
pub fn user(id: i32) -> User {
    let (first_name, last_name) = (pick(&FIRST_NAMES, r(id, 1)), pick(&LAST_NAMES, r(id, 2)));
    let mut username = format!("{first_name}.{last_name}{id}");
    username.make_ascii_lowercase();
    User {
        id,
        email: format!("{username}@{}", domain(id)),
        username,
        first_name,
        last_name,
        is_active: !r(id, 4).is_multiple_of(10),
        is_staff: r(id, 5).is_multiple_of(50),
        date_joined: instant(r(id, 6)),
    }
}

/// The profile of the user with this id.
#[must_use]
pub fn profile(id: i32) -> Profile {
    profile_of(&user(id))
}

/// The profile of `user`, for those who have made the user already.
#[must_use]
pub fn profile_of(user: &User) -> Profile {
    let id = user.id;
    Profile {
        id,
        user_id: id,
        location: pick(&CITIES, r(id, 7)),
        birth_date: born(r(id, 8)),
        karma: (r(id, 9) % 100_000) as i32,
        website: format!("https://{}/~{}", domain(id), user.username),
        bio: bio(id),
    }
}

/// The joined row of the user with this id, as the list reads it.
#[must_use]
pub fn user_row(id: i32) -> UserRow {
    let user = user(id);
    let profile = profile_of(&user);
    UserRow {
        id,
        username: user.username,
        first_name: user.first_name.to_owned(),
        last_name: user.last_name.to_owned(),
        email: user.email,
        is_active: user.is_active,
        is_staff: user.is_staff,
        date_joined: user.date_joined,
        location: profile.location.to_owned(),
        birth_date: profile.birth_date,
        karma: profile.karma,
        website: profile.website,
        bio: profile.bio,
    }
}

fn domain(id: i32) -> &'static str {
    pick(&DOMAINS, r(id, 3))
}

fn born(value: u64) -> Date {
    let first = Date::from_calendar_date(1950, 1, 1).expect("the day exists");
    first.plus_days((value % BIRTH_DAYS) as i32)
}

fn bio(id: i32) -> String {
    let words = 12 + r(id, 10) % 29;
    // The longest word has seven letters, and each is followed by a space or the full stop.
    let mut bio = String::with_capacity(8 * words as usize);
    for k in 0..words {
        if k > 0 {
            bio.push(' ');
        }
        bio.push_str(pick(&WORDS, r_at(id, 11, k)));
    }
    bio[..1].make_ascii_uppercase();
    bio.push('.');
    bio
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_of_the_hash() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(r(1, 1), 5_675_740_037_372_647_631);
    }

    #[test]
    fn the_first_person() {
        let user = user(1);
        assert_eq!(user.username, "joel.baker1");
        assert_eq!(user.email, "joel.baker1@example.org");
        assert_eq!((user.is_active, user.is_staff), (true, false));
        assert_eq!(user.date_joined.to_string(), "2017-01-09T02:49:30Z");
        let profile = profile(1);
        assert_eq!((profile.location, profile.karma), ("Kigali", 81_355));
        assert_eq!(profile.birth_date.to_string(), "1950-09-18");
        assert_eq!(profile.website, "https://example.org/~joel.baker1");
        assert!(profile.bio.starts_with("Pepper silver quiver "), "{}", profile.bio);
    }

    #[test]
    fn counts_over_the_usual_10_000_rows() {
        let users = || (1..=10_000).map(user);
        assert_eq!(users().filter(|user| user.is_active).count(), 9_004);
        assert_eq!(users().filter(|user| user.is_staff).count(), 192);
        let lengths = || (1..=10_000).map(|id| bio(id).len());
        assert_eq!((lengths().min(), lengths().max()), (Some(77), Some(281)));
    }

    #[test]
    fn the_rule_goes_on_to_the_last_id_of_the_column() {
        let user = user(i32::MAX);
        assert!(user.username.ends_with("2147483647"), "{}", user.username);
        assert!(user.date_joined.to_string().as_str() < "2024");
    }
}
