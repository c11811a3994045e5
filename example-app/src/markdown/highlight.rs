//! Source code to HTML spans with classes, by syntect's grammars.
//!
//! Each piece of code gets at most one class, from the short list of [`CLASSES`], rather than
//! one for each part of each scope that a grammar assigns. That keeps the HTML, and so the
//! sanitiser's work, several times smaller, lets the sanitiser allow exactly these classes, and
//! spares the renderers the global lock under which syntect looks up the names of scopes.
//! Colours belong to the page's style sheet.

use std::sync::LazyLock;

use syntect::parsing::{ParseState, Scope, ScopeStack, SyntaxReference, SyntaxSet};
use syntect::util::LinesWithEndings;

/// The names that a fence may use, in lower case. The sanitiser allows `language-` with each.
pub(super) const LANGUAGES: [&str; 17] = [
    "rust",
    "rs",
    "python",
    "py",
    "sql",
    "json",
    "javascript",
    "js",
    "html",
    "css",
    "bash",
    "sh",
    "yaml",
    "c",
    "go",
    "java",
    "ruby",
];

/// The classes of the spans.
pub(super) const CLASSES: [&str; 10] = [
    "hl-comment",
    "hl-string",
    "hl-number",
    "hl-constant",
    "hl-keyword",
    "hl-type",
    "hl-function",
    "hl-variable",
    "hl-tag",
    "hl-attribute",
];

/// Scopes by prefix and the class they get; the first that fits wins.
const RULES: [(&str, &str); 15] = [
    ("comment", "hl-comment"),
    ("string", "hl-string"),
    ("constant.numeric", "hl-number"),
    ("constant", "hl-constant"),
    ("keyword", "hl-keyword"),
    ("storage", "hl-keyword"),
    ("entity.name.function", "hl-function"),
    ("support.function", "hl-function"),
    ("variable.function", "hl-function"),
    ("entity.name.tag", "hl-tag"),
    ("entity.other.attribute-name", "hl-attribute"),
    ("entity.name", "hl-type"),
    ("support", "hl-type"),
    ("variable.parameter", "hl-variable"),
    ("variable.language", "hl-variable"),
];

static SYNTAXES: LazyLock<Syntaxes> = LazyLock::new(|| {
    let set = SyntaxSet::load_defaults_newlines();
    let scope = |name| Scope::new(name).expect("the scope's name has few parts");
    Syntaxes { set, rules: RULES.map(|(name, class)| (scope(name), class)) }
});

struct Syntaxes {
    set: SyntaxSet,
    rules: [(Scope, &'static str); RULES.len()],
}

impl Syntaxes {
    /// The class of the innermost scope that has one, so that the quotes of a string are string.
    fn class(&self, scopes: &ScopeStack) -> Option<&'static str> {
        scopes.as_slice().iter().rev().find_map(|&scope| {
            let rule = self.rules.iter().find(|(prefix, _)| prefix.is_prefix_of(scope));
            rule.map(|&(_, class)| class)
        })
    }
}

/// A language that is highlighted.
#[derive(Clone, Copy)]
pub(super) struct Language {
    name: &'static str,
    syntax: &'static SyntaxReference,
}

impl Language {
    /// The language that the info string of a fence names (`rust`, `Rust,ignore`), if it is one
    /// of [`LANGUAGES`].
    pub(super) fn named(info: &str) -> Option<Self> {
        let token = info.split([' ', ',', '{']).next().unwrap_or_default();
        let name = LANGUAGES.into_iter().find(|name| name.eq_ignore_ascii_case(token))?;
        let syntax = SYNTAXES.set.find_syntax_by_token(name)?;
        Some(Self { name, syntax })
    }

    /// The code as a `<pre>` block, escaped; plain where the grammar fails.
    pub(super) fn block(self, code: &str) -> String {
        let open = format!("<pre><code class=\"language-{}\">", self.name);
        // Spans and entities double the length of usual code.
        let mut html = String::with_capacity(open.len() + 3 * code.len());
        html.push_str(&open);
        if self.push_spans(&mut html, code).is_err() {
            html.truncate(open.len());
            push_escaped(&mut html, code);
        }
        html.push_str("</code></pre>\n");
        html
    }

    fn push_spans(self, html: &mut String, code: &str) -> Result<(), syntect::Error> {
        let syntaxes = &*SYNTAXES;
        let mut state = ParseState::new(self.syntax);
        let mut scopes = ScopeStack::new();
        let mut span = Span { html, class: None };
        for line in LinesWithEndings::from(code) {
            let mut from = 0;
            for (at, change) in state.parse_line(line, &syntaxes.set)? {
                if at > from {
                    span.push(&line[from..at], syntaxes.class(&scopes));
                    from = at;
                }
                scopes.apply(&change)?;
            }
            span.push(&line[from..], syntaxes.class(&scopes));
        }
        span.close();
        Ok(())
    }
}

/// The end of the HTML so far, in a span or not; neighbours of one class share a span.
struct Span<'a> {
    html: &'a mut String,
    class: Option<&'static str>,
}

impl Span<'_> {
    fn push(&mut self, code: &str, class: Option<&'static str>) {
        if code.is_empty() {
            return;
        }
        // White space shows no colour, so that it need not end a span or start one.
        let blank = code.bytes().all(|byte| byte.is_ascii_whitespace());
        if class != self.class && !blank {
            self.close();
            if let Some(class) = class {
                self.html.push_str("<span class=\"");
                self.html.push_str(class);
                self.html.push_str("\">");
            }
            self.class = class;
        }
        push_escaped(self.html, code);
    }

    fn close(&mut self) {
        if self.class.take().is_some() {
            self.html.push_str("</span>");
        }
    }
}

fn push_escaped(html: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>']) {
        html.push_str(&rest[..at]);
        html.push_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            _ => "&gt;",
        });
        rest = &rest[at + 1..];
    }
    html.push_str(rest);
}

/// Loads the syntaxes and has the grammar of each language compile the patterns it starts with.
pub(super) fn warm_up() {
    for language in LANGUAGES.into_iter().filter_map(Language::named) {
        let _ = language.block("x = \"1\" // <a>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_a_grammar() {
        for name in LANGUAGES {
            assert!(Language::named(name).is_some(), "{name}");
        }
        assert_eq!(Language::named("Rust,ignore").map(|language| language.name), Some("rust"));
        assert!(Language::named("").is_none());
        assert!(Language::named("klingon").is_none());
    }

    #[test]
    fn every_rule_gives_a_listed_class() {
        for (scope, class) in RULES {
            assert!(CLASSES.contains(&class), "{scope} {class}");
        }
    }

    #[test]
    fn without_its_spans_the_block_is_the_code() {
        let code = "def f(a, b=\"x < y\"):\n    # & so on\n    return {'k': 1.5, a: None}\n\n\n";
        let html = Language::named("python").unwrap().block(code);
        let mut text = String::new();
        for piece in html.split('<') {
            text.push_str(piece.split_once('>').map_or(piece, |(_, after)| after));
        }
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        assert_eq!(text, format!("{code}\n"));
        assert_eq!(html.matches("<span").count(), html.matches("</span").count());
    }
}
