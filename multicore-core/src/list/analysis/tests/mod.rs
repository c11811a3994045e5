//! Lists as they are written, over a catalogue of a few tables, and what must be known of them: of their
//! order in `order`, of reading them in ranges in `ranges`; and whether a database agrees, in `agreement`.

#[cfg(feature = "sqlite-driver")]
mod agreement;
mod order;
mod ranges;

use std::collections::HashMap;

use super::parse::Parsed;
use super::{Facts, Text, parse};
use crate::db::Dialect::{self, MySql, Postgres, Sqlite};
use crate::db::{Column, Equality, Table, TableName};

const ALL: [Dialect; 3] = [Sqlite, Postgres, MySql];

/// `column! type` is NOT NULL; the types are `i`nteger, `t`ext and `n`ocase text.
fn table(columns: &str, unique: &[&[&str]]) -> Table {
    let columns = columns.split_whitespace().map(|column| {
        let (name, kind) = column.split_once(':').unwrap_or((column, "i"));
        let equality = match kind {
            "i" => Equality::Integer,
            "t" => Equality::Text("binary".into()),
            "n" => Equality::Text("nocase".into()),
            other => Equality::Other(other.into()),
        };
        let (name, nullable) = name.strip_suffix('!').map_or((name, true), |name| (name, false));
        Column { name: name.into(), nullable, equality }
    });
    let unique = unique.iter().map(|key| key.iter().map(|&column| column.into()).collect());
    Table { columns: columns.collect(), unique: unique.collect(), beyond_snapshot: false }
}

/// `view` is not there, as a view would not be.
fn catalogue() -> HashMap<TableName, Table> {
    let mut catalogue = HashMap::new();
    for (schema, name, table) in [
        (None, "u", table("id! name!:t email:t code!:n org_id", &[&["id"], &["email"], &["code"]])),
        (None, "p", table("user_id! bio:t rank", &[&["user_id"]])),
        (None, "posts", table("id! user_id! title!:t slug!:t", &[&["id"], &["user_id", "slug"]])),
        (None, "org", table("id! label!:t plan_id", &[&["id"]])),
        (None, "plan", table("id! title!:t", &[&["id"]])),
        (None, "tag", table("label!:t code!:t", &[&["label"], &["code"]])),
        (None, "log", table("at!:timestamp text:t", &[])),
        (Some("app"), "u", table("id! name!:t", &[&["id"]])),
    ] {
        let schema = schema.map(str::to_owned);
        catalogue.insert(TableName { schema, name: name.into() }, table);
    }
    catalogue
}

fn parsed(dialect: Dialect, columns: &str, tables: &str, filters: &str, keys: &str) -> Option<Parsed> {
    let keys: Vec<&str> = keys.split("; ").collect();
    let filters = (!filters.is_empty()).then_some(filters);
    parse(dialect, &Text { columns, tables, filters, keys: &keys })
}

fn facts(dialect: Dialect, columns: &str, tables: &str, filters: &str, keys: &str) -> Facts {
    let parsed = parsed(dialect, columns, tables, filters, keys);
    let parsed = parsed.unwrap_or_else(|| panic!("{dialect:?}: {columns} | {tables} | {filters} | {keys}"));
    parsed.facts(&catalogue())
}
