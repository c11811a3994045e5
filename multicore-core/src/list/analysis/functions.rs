//! What is known of functions by their names. A name that is not here is unknown, and nothing is
//! assumed of it.

use crate::db::Dialect;

/// What a function is to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One value a row, the same on every connection.
    Immutable,
    /// One value a row, which may depend on the time, the time zone, chance or the connection.
    Unstable,
    /// One value of many rows, whichever order they come in.
    Aggregate,
    /// One value of many rows, which may depend on the order they come in.
    OrderedAggregate,
    /// May be anything, also a function that makes many rows of one.
    Unknown,
}

/// The kind of the function of this name, in lower case, called with so many arguments.
pub(super) fn kind(name: &str, arguments: usize, dialect: Dialect) -> Kind {
    if matches!(name, "min" | "max") && dialect == Dialect::Sqlite && arguments > 1 {
        // Of its arguments, not of rows.
        return Kind::Immutable;
    }
    if IMMUTABLE.contains(&name) {
        Kind::Immutable
    } else if UNSTABLE.contains(&name) {
        Kind::Unstable
    } else if AGGREGATE.contains(&name) {
        Kind::Aggregate
    } else if ORDERED_AGGREGATE.contains(&name) || name.starts_with("stddev") || name.starts_with("var") {
        Kind::OrderedAggregate
    } else {
        Kind::Unknown
    }
}

#[rustfmt::skip]
const IMMUTABLE: &[&str] = &[
    // Choosing.
    "coalesce", "nullif", "ifnull", "isnull", "iif", "if", "greatest", "least", "field", "elt",
    "likely", "unlikely", "likelihood",
    // Text.
    "lower", "upper", "lcase", "ucase", "initcap", "length", "char_length", "character_length",
    "octet_length", "bit_length", "substr", "substring", "mid", "left", "right", "trim", "ltrim", "rtrim",
    "btrim", "lpad", "rpad", "repeat", "replace", "reverse", "translate", "concat", "concat_ws", "instr",
    "strpos", "position", "locate", "split_part", "substring_index", "starts_with", "ascii", "chr",
    "unicode", "hex", "unhex", "quote", "typeof", "md5", "sha1", "sha2", "sha256", "crc32",
    // Numbers.
    "abs", "sign", "round", "floor", "ceil", "ceiling", "trunc", "truncate", "mod", "div", "pow", "power",
    "sqrt", "exp", "ln", "log", "log10", "log2",
    // JSON and arrays, reading only.
    "json_extract", "json_value", "json_unquote", "json_length", "json_array_length", "json_type",
    "json_valid", "jsonb_array_length", "jsonb_typeof", "json_typeof", "json_extract_path_text",
    "jsonb_extract_path_text", "cardinality", "array_length", "array_position",
];

#[rustfmt::skip]
const UNSTABLE: &[&str] = &[
    // The time, and what depends on the time zone.
    "now", "current_timestamp", "current_date", "current_time", "localtime", "localtimestamp",
    "clock_timestamp", "statement_timestamp", "transaction_timestamp", "sysdate", "curdate", "curtime",
    "utc_timestamp", "utc_date", "utc_time", "unix_timestamp", "from_unixtime", "extract", "date_part",
    "date_trunc", "age", "to_char", "to_date", "to_timestamp", "make_date", "date", "time", "datetime",
    "julianday", "unixepoch", "strftime", "timediff", "date_format", "datediff", "timestampdiff",
    "date_add", "date_sub", "year", "month", "day", "dayofweek", "hour", "minute", "second",
    // Chance and state.
    "random", "rand", "randomblob", "gen_random_uuid", "uuid", "uuid_generate_v4", "uuidv4", "uuidv7",
    "nextval", "currval", "lastval", "setval", "last_insert_id", "last_insert_rowid", "changes",
    "total_changes", "row_count", "found_rows", "pg_backend_pid", "connection_id", "txid_current",
    "current_setting", "set_config", "current_user", "session_user", "user", "current_schema",
    "current_database", "database", "pg_sleep", "sleep",
    // What they make depends on settings, such as how a date is written.
    "format", "printf", "json_build_object", "jsonb_build_object", "json_build_array",
    "jsonb_build_array", "json_object", "json_array", "to_json", "to_jsonb", "row_to_json",
    "array_to_string", "array_to_json",
];

const AGGREGATE: &[&str] =
    &["count", "min", "max", "every", "bool_and", "bool_or", "bit_and", "bit_or", "bit_xor"];

/// Sums are here for the sake of floating point.
#[rustfmt::skip]
const ORDERED_AGGREGATE: &[&str] = &[
    "sum", "avg", "total", "std", "array_agg", "string_agg", "group_concat", "xmlagg", "json_agg",
    "jsonb_agg", "json_object_agg", "jsonb_object_agg", "json_arrayagg", "json_objectagg",
    "json_group_array", "json_group_object", "any_value", "corr", "covar_pop", "covar_samp", "mode",
    "percentile_cont", "percentile_disc", "median",
];

#[cfg(test)]
mod tests {
    use super::*;
    use Dialect::{MySql, Postgres, Sqlite};

    #[test]
    fn functions_are_known_by_their_names() {
        for (name, arguments, dialect, expected) in [
            ("coalesce", 2, Postgres, Kind::Immutable),
            ("now", 0, Postgres, Kind::Unstable),
            ("date_trunc", 2, Postgres, Kind::Unstable),
            ("count", 1, MySql, Kind::Aggregate),
            ("max", 1, Sqlite, Kind::Aggregate),
            ("max", 2, Sqlite, Kind::Immutable),
            ("max", 2, Postgres, Kind::Aggregate),
            ("sum", 1, Sqlite, Kind::OrderedAggregate),
            ("stddev_pop", 1, Postgres, Kind::OrderedAggregate),
            ("unnest", 1, Postgres, Kind::Unknown),
        ] {
            assert_eq!(kind(name, arguments, dialect), expected, "{name}/{arguments} in {dialect:?}");
        }
    }
}
