//! Links to the pages around one, relative to the request's own URL: a pure function of the request and
//! what is known of the rows around.

use form_urlencoded::Serializer;
use multicore_core::{Around, Paging, Start};

use super::LinkStyle;

/// Links to the pages around one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    pub(crate) next: Option<String>,
    pub(crate) previous: Option<String>,
}

impl Links {
    /// The value of a `Link` header (RFC 8288); none where there is no link.
    pub(crate) fn header(&self) -> Option<String> {
        let named = [(&self.next, "next"), (&self.previous, "prev")];
        let named =
            named.iter().filter_map(|(url, name)| Some(format!("<{}>; rel=\"{name}\"", url.as_ref()?)));
        let named: Vec<_> = named.collect();
        (!named.is_empty()).then(|| named.join(", "))
    }
}

/// The links around a page. They keep the request's other parameters, and always say how many rows.
pub(crate) fn links(
    paging: &Paging,
    style: LinkStyle,
    others: &[(String, String)],
    around: &Around,
) -> Links {
    let to = |parameters: &[(&str, &str)]| {
        let mut query = Serializer::for_suffix(String::from("?"), 1);
        query.extend_pairs(others).extend_pairs(parameters);
        query.finish()
    };
    let limit = paging.limit.to_string();
    match (style, &paging.start) {
        (LinkStyle::LimitOffset, Start::Offset(offset)) => {
            let to = |offset: u64| match offset {
                0 => to(&[("limit", &limit)]),
                offset => to(&[("limit", &limit), ("offset", &offset.to_string())]),
            };
            let (next, previous) = offsets(*offset, paging.limit, around);
            Links { next: next.map(to), previous: previous.map(to) }
        }
        (LinkStyle::PageNumber, Start::Offset(offset)) if paging.limit > 0 => {
            let to = |offset: u64| {
                let page = offset / paging.limit + 1;
                to(&[("page", &page.to_string()), ("page_size", &limit)])
            };
            let (next, previous) = offsets(*offset, paging.limit, around);
            Links { next: next.map(to), previous: previous.map(to) }
        }
        (LinkStyle::Cursor, _) => {
            let to = |name, cursor: &String| to(&[("limit", &limit), (name, cursor)]);
            Links {
                next: around.next_cursor.as_ref().map(|cursor| to("after", cursor)),
                previous: around.previous_cursor.as_ref().map(|cursor| to("before", cursor)),
            }
        }
        _ => Links::default(),
    }
}

/// Where the pages around one by offset start, as far as there are any.
fn offsets(offset: u64, limit: u64, around: &Around) -> (Option<u64>, Option<u64>) {
    let has_next = |start: &u64| around.has_next.or(around.count.map(|count| *start < count));
    // Databases count with signed numbers: beyond them, our own link would be refused.
    let next = offset.checked_add(limit).filter(|next| i64::try_from(*next).is_ok());
    let next = next.filter(|next| has_next(next) == Some(true));
    let previous = (offset > 0 && around.has_previous != Some(false)).then(|| offset.saturating_sub(limit));
    (next, previous)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Next and previous link of a page of ten with another parameter.
    fn around(style: LinkStyle, start: Start, around: &Around) -> (Option<String>, Option<String>) {
        let paging = Paging { limit: 10, start, look_ahead: true };
        let Links { next, previous } = links(&paging, style, &[("q".to_owned(), "a&b c".to_owned())], around);
        let own = |link: String| match link.strip_prefix("?q=a%26b+c&") {
            Some(own) => own.to_owned(),
            None => panic!("the other parameter is lost: {link}"),
        };
        (next.map(own), previous.map(own))
    }

    fn neighbours(has_next: Option<bool>, has_previous: Option<bool>, count: Option<u64>) -> Around {
        Around { has_next, has_previous, count, ..Around::default() }
    }

    #[test]
    fn links_by_offset() {
        const MAX: u64 = i64::MAX as u64;
        for (offset, has_next, has_previous, count, next, previous) in [
            // What was seen says it.
            (0, Some(true), Some(false), None, Some("limit=10&offset=10"), None),
            (20, Some(true), Some(true), None, Some("limit=10&offset=30"), Some("limit=10&offset=10")),
            (20, Some(false), Some(true), None, None, Some("limit=10&offset=10")),
            // Back to the first row, which has no offset; never before it.
            (10, Some(false), None, None, None, Some("limit=10")),
            (5, Some(true), None, None, Some("limit=10&offset=15"), Some("limit=10")),
            // Not looked at: the count says it, or nobody.
            (0, None, None, Some(25), Some("limit=10&offset=10"), None),
            (15, None, None, Some(25), None, Some("limit=10&offset=5")),
            (20, None, None, Some(25), None, Some("limit=10&offset=10")),
            (0, None, None, Some(10), None, None),
            (0, None, None, Some(0), None, None),
            (0, None, None, None, None, None),
            (30, None, None, None, None, Some("limit=10&offset=20")),
            // What was seen counts before the count, which was taken at another moment.
            (0, Some(true), None, Some(10), Some("limit=10&offset=10"), None),
            (0, Some(false), None, Some(25), None, None),
            // Nothing that would be refused.
            (
                MAX - 10,
                Some(true),
                None,
                None,
                Some("limit=10&offset=9223372036854775807"),
                Some("limit=10&offset=9223372036854775787"),
            ),
            (MAX - 9, Some(true), None, None, None, Some("limit=10&offset=9223372036854775788")),
        ] {
            let known = neighbours(has_next, has_previous, count);
            let expected = (next.map(str::to_owned), previous.map(str::to_owned));
            let found = around(LinkStyle::LimitOffset, Start::Offset(offset), &known);
            assert_eq!(found, expected, "{offset} {known:?}");
        }
    }

    #[test]
    fn links_by_page_number() {
        for (offset, has_next, count, next, previous) in [
            (0, Some(true), None, Some("page=2&page_size=10"), None),
            (10, Some(true), None, Some("page=3&page_size=10"), Some("page=1&page_size=10")),
            (20, Some(false), Some(100), None, Some("page=2&page_size=10")),
            (20, None, Some(31), Some("page=4&page_size=10"), Some("page=2&page_size=10")),
            (20, None, Some(30), None, Some("page=2&page_size=10")),
            (0, None, None, None, None),
        ] {
            let known = neighbours(has_next, None, count);
            let expected = (next.map(str::to_owned), previous.map(str::to_owned));
            let found = around(LinkStyle::PageNumber, Start::Offset(offset), &known);
            assert_eq!(found, expected, "{offset} {known:?}");
        }
    }

    #[test]
    fn links_by_cursor() {
        for (next_cursor, previous_cursor, next, previous) in [
            (Some("N-_"), Some("P"), Some("limit=10&after=N-_"), Some("limit=10&before=P")),
            (Some("N"), None, Some("limit=10&after=N"), None),
            (None, Some("P"), None, Some("limit=10&before=P")),
            (None, None, None, None),
        ] {
            let known = Around {
                has_next: Some(true),
                count: Some(1_000),
                next_cursor: next_cursor.map(str::to_owned),
                previous_cursor: previous_cursor.map(str::to_owned),
                ..Around::default()
            };
            let expected = (next.map(str::to_owned), previous.map(str::to_owned));
            for start in [Start::First, Start::After("A".to_owned()), Start::Before("B".to_owned())] {
                assert_eq!(around(LinkStyle::Cursor, start, &known), expected, "{known:?}");
            }
        }
    }

    #[test]
    fn a_page_whose_parameters_are_not_known_has_no_links() {
        let known =
            Around { next_cursor: Some("N".to_owned()), ..neighbours(Some(true), Some(true), Some(100)) };
        for start in [Start::Offset(20), Start::First] {
            assert_eq!(around(LinkStyle::None, start, &known), (None, None));
        }
        assert_eq!(around(LinkStyle::LimitOffset, Start::First, &known), (None, None));
        let none = Paging { limit: 0, start: Start::Offset(5), look_ahead: true };
        assert_eq!(links(&none, LinkStyle::PageNumber, &[], &known), Links::default());
    }

    #[test]
    fn a_header_has_the_links_there_are() {
        let links = |next: Option<&str>, previous: Option<&str>| {
            Links { next: next.map(str::to_owned), previous: previous.map(str::to_owned) }.header()
        };
        assert_eq!(links(None, None), None);
        assert_eq!(links(Some("?a=1"), None).unwrap(), "<?a=1>; rel=\"next\"");
        assert_eq!(links(None, Some("?a=0")).unwrap(), "<?a=0>; rel=\"prev\"");
        assert_eq!(links(Some("?a=1"), Some("?a=0")).unwrap(), "<?a=1>; rel=\"next\", <?a=0>; rel=\"prev\"");
    }

    #[test]
    fn no_parameter_of_a_request_breaks_out_of_the_header() {
        let others = [("a>; rel=x\r\n".to_owned(), "\"<\u{e9}".to_owned())];
        let paging = Paging { limit: 1, start: Start::Offset(1), look_ahead: true };
        let link = links(&paging, LinkStyle::LimitOffset, &others, &Around::default()).previous.unwrap();
        assert_eq!(link, "?a%3E%3B+rel%3Dx%0D%0A=%22%3C%C3%A9&limit=1");
    }
}
