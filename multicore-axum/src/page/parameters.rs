//! Reading page parameters out of a query string. Which there are, and what they mean together, is each
//! kind of page's own.

use http::request::Parts;

use super::PageRequest;
use crate::config::PageLimits;
use crate::extract::installed_limits;
use crate::list_problem::ListError;

/// Enough of a value to recognise it in a message; the rest of a very long one helps nobody.
const SHOWN_CHARS: usize = 64;

/// A request's query parameters: those of the page by name, each at most once, and the others in order.
pub(super) struct Parameters {
    named: Vec<(&'static str, String)>,
    pub(super) others: Vec<(String, String)>,
}

impl Parameters {
    /// Those with these names, and the others.
    ///
    /// # Errors
    /// One that is given twice, and one of another kind of page.
    pub(super) fn parse(query: &str, names: &[&'static str]) -> Result<Self, ListError> {
        let mut parameters = Parameters { named: Vec::new(), others: Vec::new() };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(&name) = names.iter().find(|known| **known == name) else {
                not_elsewhere(&name, &value, names)?;
                parameters.others.push((name.into_owned(), value.into_owned()));
                continue;
            };
            if parameters.get(name).is_some() {
                return Err(refused(name, &value, "one value; it is given twice"));
            }
            parameters.named.push((name, value.into_owned()));
        }
        Ok(parameters)
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that is a whole number, such as databases count with: signed, of 64 bits.
    pub(super) fn number(
        &self,
        name: &'static str,
        accepted: impl FnOnce() -> String,
    ) -> Result<Option<u64>, ListError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        // `from_str` takes a plus sign, which in a query string is a space.
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { value.parse::<i64>().ok().map(i64::unsigned_abs) } else { None };
        number.map(Some).ok_or_else(|| refused(name, value, accepted()))
    }
}

/// Refuses a parameter of another kind of page than one that has `names`, such as a client keeps from when the list had
/// those: passed over, it would be shown the first page again and again. A program may have parameters of these names
/// too, so only with a value that such a page has.
pub(super) fn not_elsewhere(name: &str, value: &str, names: &[&str]) -> Result<(), ListError> {
    elsewhere(name, value)
        .map_or(Ok(()), |name| Err(refused(name, value, format!("this list has `{}`", names.join("`, `")))))
}

/// The parameter's name if it is one of some kind of page, with a value that such a page has.
fn elsewhere(name: &str, value: &str) -> Option<&'static str> {
    let counts = || !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(name) = ["limit", "offset", "page", "page_size"].into_iter().find(|known| *known == name) {
        return counts().then_some(name);
    }
    let name = ["after", "before"].into_iter().find(|known| *known == name)?;
    multicore_core::is_cursor(value).then_some(name)
}

/// What is accepted for the number of rows; without limits yet, the list itself will say the most.
pub(super) fn accepted_rows(limits: Option<PageLimits>) -> String {
    match limits {
        Some(limits) => format!("a whole number from 1 to {}", limits.max_limit),
        None => "a whole number from 1".to_owned(),
    }
}

/// How many rows a page has, if that is within the limits.
pub(super) fn rows(
    parameter: &'static str,
    given: Option<u64>,
    limits: PageLimits,
) -> Result<u64, ListError> {
    let rows = given.unwrap_or(limits.default_limit);
    if rows == 0 || rows > limits.max_limit {
        return Err(refused(parameter, &rows.to_string(), accepted_rows(Some(limits))));
    }
    Ok(rows)
}

/// The error for a parameter that is not accepted.
pub(super) fn refused(parameter: &'static str, value: &str, accepted: impl Into<String>) -> ListError {
    let value = value.chars().take(SHOWN_CHARS).collect();
    multicore_core::ListError::Page { parameter, value, accepted: accepted.into() }.into()
}

/// The page a request asks for, checked as far as its limits are known: without a layer they are not
/// before the list itself.
pub(super) fn extract<P: PageRequest>(
    parts: &Parts,
    parse: impl FnOnce(&str, Option<PageLimits>) -> Result<P, ListError>,
) -> Result<P, ListError> {
    let limits = installed_limits();
    let page = parse(parts.uri.query().unwrap_or_default(), limits)?;
    if let Some(limits) = limits {
        page.resolve(limits)?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_keep_their_order_and_may_be_given_twice() {
        let parameters = Parameters::parse("q=b&limit=5&q=a%26&=x&flag", &["limit", "offset"]).unwrap();
        assert_eq!((parameters.get("limit"), parameters.get("offset")), (Some("5"), None));
        let others = [("q", "b"), ("q", "a&"), ("", "x"), ("flag", "")];
        assert_eq!(parameters.others, others.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_value_is_shown_up_to_64_characters() {
        let query = format!("limit={}", "ä".repeat(100));
        let parameters = Parameters::parse(&query, &["limit"]).unwrap();
        let error = parameters.number("limit", || "less".to_owned()).unwrap_err();
        assert_eq!(error.to_string(), format!("limit is `{}`; accepted: less", "ä".repeat(64)));
    }
}
