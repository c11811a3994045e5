//! A person on one line: the fields of a [`UserView`] without the nesting, for formats that have columns.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::{FullName, UserView};

/// A [`UserView`] as a record of plain fields: its own keys in their order, then those of its profile
/// with `profile_` before them.
///
/// `id`, `username`, `first_name`, `last_name`, `email`, `is_active`, `is_staff`, `date_joined`,
/// `full_name`, `avatar_url`, `days_member`, `profile_location`, `profile_birth_date`, `profile_karma`,
/// `profile_website`, `profile_bio`, `profile_age`, `profile_bio_words`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatUserView(pub UserView);

impl Serialize for FlatUserView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(UserView { row, avatar_url, days_member, age, bio_words }) = self;
        let mut user = serializer.serialize_struct("FlatUserView", 18)?;
        user.serialize_field("id", &row.id)?;
        user.serialize_field("username", &row.username)?;
        user.serialize_field("first_name", &row.first_name)?;
        user.serialize_field("last_name", &row.last_name)?;
        user.serialize_field("email", &row.email)?;
        user.serialize_field("is_active", &row.is_active)?;
        user.serialize_field("is_staff", &row.is_staff)?;
        user.serialize_field("date_joined", &row.date_joined)?;
        user.serialize_field("full_name", &FullName(row))?;
        user.serialize_field("avatar_url", avatar_url)?;
        user.serialize_field("days_member", days_member)?;
        user.serialize_field("profile_location", &row.location)?;
        user.serialize_field("profile_birth_date", &row.birth_date)?;
        user.serialize_field("profile_karma", &row.karma)?;
        user.serialize_field("profile_website", &row.website)?;
        user.serialize_field("profile_bio", &row.bio)?;
        user.serialize_field("profile_age", age)?;
        user.serialize_field("profile_bio_words", bio_words)?;
        user.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;
    use crate::dataset;

    #[test]
    fn the_fields_are_those_of_the_nested_view() {
        let view = UserView::from(dataset::user_row(7));
        let nested = serde_json::to_value(&view).unwrap();
        let mut expected = Map::new();
        for (key, value) in nested.as_object().unwrap() {
            match value {
                Value::Object(profile) => {
                    expected
                        .extend(profile.iter().map(|(key, value)| (format!("profile_{key}"), value.clone())));
                }
                value => drop(expected.insert(key.clone(), value.clone())),
            }
        }
        assert_eq!(serde_json::to_value(FlatUserView(view)).unwrap(), Value::Object(expected));
    }
}
