//! Query parameters with which anybody can try what lending cores does for a list like theirs. They
//! belong to this example; an application of one's own needs none of them.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use multicore_axum::{Execution, Problem, Strategy};

/// The most microseconds a row can be made to cost.
const MAX_RENDER_US: u64 = 100_000;
/// Enough of a value to recognise it in a message.
const SHOWN_CHARS: usize = 64;

/// How a list is made, for trying out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// `mode=auto|parallel|sequential`: who decides whether other cores help. Default: auto, the
    /// library.
    pub execution: Execution,
    /// `strategy=auto|single|ranges`: who decides how a page is read; ranges only where they give the
    /// same rows. Default: auto, the library.
    pub strategy: Strategy,
    /// `render_us=N`: microseconds of computing that each row costs besides, up to 100,000.
    /// Default: 0.
    pub render_us: u64,
}

impl Trial {
    /// Reads the parameters out of a query string. Others are left to others.
    ///
    /// # Errors
    /// A 400 that names the parameter, its value and what is accepted.
    pub fn from_query(query: &str) -> Result<Self, Problem> {
        let mut trial = Self::default();
        let mut seen = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let name = match &*name {
                "mode" => {
                    trial.execution = match &*value {
                        "auto" => Execution::Auto,
                        "parallel" => Execution::Parallel,
                        "sequential" => Execution::Sequential,
                        _ => return Err(refused("mode", &value, "auto, parallel or sequential")),
                    };
                    "mode"
                }
                "strategy" => {
                    trial.strategy = match &*value {
                        "auto" => Strategy::Auto,
                        "single" => Strategy::Single,
                        "ranges" => Strategy::Ranges,
                        _ => return Err(refused("strategy", &value, "auto, single or ranges")),
                    };
                    "strategy"
                }
                "render_us" => {
                    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
                    trial.render_us = match value.parse() {
                        Ok(us @ 0..=MAX_RENDER_US) if digits => us,
                        _ => return Err(refused("render_us", &value, "a whole number from 0 to 100000")),
                    };
                    "render_us"
                }
                _ => continue,
            };
            if seen.contains(&name) {
                return Err(refused(name, &value, "one value; it is given twice"));
            }
            seen.push(name);
        }
        Ok(trial)
    }
}

/// A 400 that names the parameter, its value and what is accepted.
pub(super) fn refused(parameter: &str, value: &str, accepted: &str) -> Problem {
    let value: String = value.chars().take(SHOWN_CHARS).collect();
    let detail = format!("{parameter} is `{value}`; accepted: {accepted}");
    Problem::new(StatusCode::BAD_REQUEST, "invalid-parameter", detail)
}

impl<S: Sync> FromRequestParts<S> for Trial {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Self::from_query(parts.uri.query().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_defaults_and_leave_others_alone() {
        assert_eq!(Trial::from_query("").ok(), Some(Trial::default()));
        let query = "limit=5&mode=parallel&strategy=ranges&render_us=100000&q=a&q=b";
        let trial = Trial { execution: Execution::Parallel, strategy: Strategy::Ranges, render_us: 100_000 };
        assert_eq!(Trial::from_query(query).ok(), Some(trial));
    }
}
