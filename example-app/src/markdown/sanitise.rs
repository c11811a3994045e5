//! The sanitiser: which tags, attributes and classes may reach a page. It works on an allow
//! list, so that what nobody thought of is removed.

use std::sync::LazyLock;

use ammonia::Builder;

use super::highlight::{CLASSES, LANGUAGES};

static SANITISER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    // Lives as long as the sanitiser, which borrows its names.
    static CODE_CLASSES: LazyLock<Vec<String>> =
        LazyLock::new(|| LANGUAGES.iter().map(|name| format!("language-{name}")).collect());
    let mut builder = Builder::default();
    builder
        .add_allowed_classes("span", CLASSES)
        .add_allowed_classes("code", CODE_CLASSES.iter().map(String::as_str))
        // The alignment of table columns is the one style that Markdown writes.
        .add_tag_attributes("th", ["style"])
        .add_tag_attributes("td", ["style"])
        .filter_style_properties(["text-align"].into())
        // Task lists.
        .add_tags(["input"])
        .add_tag_attributes("input", ["checked", "disabled"])
        .set_tag_attribute_value("input", "disabled", "")
        .add_tag_attribute_values("input", "type", ["checkbox"]);
    builder
});

/// The HTML with everything removed that is not allowed. Scripts and styles go with their
/// content, other tags that are not allowed leave theirs.
pub(super) fn sanitise(html: &str) -> String {
    SANITISER.clean(html).to_string()
}
