//! All people as one download, streamed: as long as the table is, and never in memory as a whole.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::Result;
use multicore_axum::{
    Format, ListQuery, ListRow, Multicore, Problem, SqlDatabase, Strategy, StreamedListing, asc,
};

use super::trial::{Trial, refused};
use crate::render_cost::render_us;
use crate::users::{FlatUserView, USER_COLUMNS, USER_TABLES, UserRow, UserView};

/// `GET /users/export?format=json|ndjson|csv`, and the [trial](Trial) parameters.
///
/// JSON is the array of all pages of [`/users/`](super::users::users) put together, NDJSON its elements a
/// line each, CSV a [`FlatUserView`] a line.
///
/// # Errors
/// What fails before the first bytes. What fails later breaks the download off.
pub async fn export<DB>(mc: Multicore<DB>, format: ExportFormat, trial: Trial) -> Result<StreamedListing>
where
    DB: SqlDatabase,
    UserRow: ListRow<DB>,
{
    if trial.strategy == Strategy::Ranges {
        return Err(refused("strategy", "ranges", "auto or single: an export is one statement").into());
    }
    let query = ListQuery::<UserRow>::select(USER_COLUMNS)
        .from(USER_TABLES)
        .order_by([asc("u.id")])
        .execution(trial.execution);
    let view = move |row: UserRow| {
        render_us(trial.render_us);
        UserView::from(row)
    };
    let ExportFormat(format) = format;
    Ok(match format {
        Format::Csv => mc.parallel_stream(query, move |row| FlatUserView(view(row)), format).await?,
        _ => mc.parallel_stream(query, view, format).await?,
    })
}

/// `format=json|ndjson|csv`. Default: json.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportFormat(pub Format);

impl ExportFormat {
    /// Reads the parameter out of a query string. Others are left to others.
    ///
    /// # Errors
    /// A 400 that names the parameter, its value and what is accepted.
    pub fn from_query(query: &str) -> Result<Self, Problem> {
        let mut format = None;
        for (_, value) in form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "format") {
            if format.is_some() {
                return Err(refused("format", &value, "one value; it is given twice"));
            }
            format = Some(match &*value {
                "json" => Format::JsonArray,
                "ndjson" => Format::Ndjson,
                "csv" => Format::Csv,
                _ => return Err(refused("format", &value, "json, ndjson or csv")),
            });
        }
        Ok(Self(format.unwrap_or(Format::JsonArray)))
    }
}

impl<S: Sync> FromRequestParts<S> for ExportFormat {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Self::from_query(parts.uri.query().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_known_by_its_name() {
        for (query, format) in [
            ("", Format::JsonArray),
            ("format=json", Format::JsonArray),
            ("mode=auto&format=ndjson", Format::Ndjson),
            ("format=csv&x=format", Format::Csv),
        ] {
            assert_eq!(ExportFormat::from_query(query).ok(), Some(ExportFormat(format)), "{query}");
        }
    }
}
