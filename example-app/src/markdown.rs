//! Markdown to HTML that is safe to embed: parsed by pulldown-cmark, code highlighted by
//! `highlight`, everything sanitised by `sanitise` at the end, since Markdown may contain raw
//! HTML. On the way it takes what a list shows of a text: an excerpt and the number of words.
//! What an article is does not belong here.

mod highlight;
mod sanitise;

use pulldown_cmark::{CodeBlockKind, CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// The greatest length of an excerpt, in characters, before the ellipsis.
pub const EXCERPT_CHARS: usize = 200;

/// What rendering a Markdown text gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Sanitised HTML. Highlighted code has spans with classes that start with `hl-`.
    pub html: String,
    /// The start of the first paragraph as plain text (not HTML): at most [`EXCERPT_CHARS`]
    /// characters, cut between words, with an ellipsis where something is left out.
    pub excerpt: String,
    /// Words outside of code blocks.
    pub words: usize,
}

/// Renders a Markdown text: CommonMark with tables, strikethrough and task lists.
///
/// It takes some milliseconds of computing for a text of some kilobytes with code, most of them
/// in the grammars' patterns, and holds no lock: calls on several cores do not slow each other
/// down. The first call of a process also loads the syntaxes; [`warm_up`] does that ahead of
/// time.
#[must_use]
pub fn render(markdown: &str) -> Rendered {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut events = Parser::new_ext(markdown, options);
    let mut text = Text::default();
    // HTML of prose is little longer than its Markdown, of highlighted code several times.
    let mut unsafe_html = String::with_capacity(3 * markdown.len());
    let highlighted = std::iter::from_fn(|| {
        let event = events.next()?;
        if let Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) = &event
            && let Some(language) = highlight::Language::named(info)
        {
            return Some(code_block(language, &mut events));
        }
        Some(event)
    });
    html::push_html(&mut unsafe_html, highlighted.inspect(|event| text.take(event)));
    Rendered {
        html: sanitise::sanitise(&unsafe_html),
        excerpt: excerpt(&text.first_paragraph),
        words: text.words,
    }
}

/// Loads the syntaxes and compiles the patterns of the languages that are highlighted, so that
/// the first request need not: about 200 ms, once per process.
pub fn warm_up() {
    highlight::warm_up();
    let _ = render("warm");
}

/// Takes the events of a code block up to its end, and gives its highlighted HTML.
fn code_block<'a>(language: highlight::Language, events: &mut impl Iterator<Item = Event<'a>>) -> Event<'a> {
    let mut code = String::new();
    for event in events {
        match event {
            Event::Text(text) => code.push_str(&text),
            _ => break,
        }
    }
    Event::Html(CowStr::from(language.block(&code)))
}

/// The plain text seen so far.
#[derive(Default)]
struct Text {
    first_paragraph: String,
    progress: FirstParagraph,
    words: usize,
    /// Depth of block quotes, lists and the like, in which no first paragraph is looked for.
    depth: usize,
    in_code: bool,
    /// Within an inline `<script>` or `<style>`, whose content the sanitiser drops.
    hidden: bool,
}

#[derive(Default, PartialEq, Eq)]
enum FirstParagraph {
    #[default]
    Ahead,
    Open,
    Closed,
}

impl Text {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Start(Tag::Paragraph) if self.depth == 0 && self.progress == FirstParagraph::Ahead => {
                self.progress = FirstParagraph::Open;
            }
            Event::End(TagEnd::Paragraph) if self.progress == FirstParagraph::Open => {
                self.progress = FirstParagraph::Closed;
            }
            Event::Start(Tag::CodeBlock(_)) => self.in_code = true,
            Event::End(TagEnd::CodeBlock) => self.in_code = false,
            Event::Start(Tag::BlockQuote(_) | Tag::List(_)) => self.depth += 1,
            Event::End(TagEnd::BlockQuote(_) | TagEnd::List(_)) => self.depth -= 1,
            Event::Text(text) | Event::Code(text) => self.take_text(text),
            Event::SoftBreak | Event::HardBreak => self.take_text(" "),
            Event::InlineHtml(tag) => self.take_tag(tag),
            _ => {}
        }
    }

    fn take_text(&mut self, text: &str) {
        if self.in_code || self.hidden {
            return;
        }
        self.words += text.split_whitespace().count();
        if self.progress == FirstParagraph::Open {
            self.first_paragraph.push_str(text);
        }
    }

    fn take_tag(&mut self, tag: &str) {
        for name in ["script", "style"] {
            let starts = |from: &str| {
                tag.strip_prefix(from)
                    .and_then(|rest| rest.get(..name.len()))
                    .is_some_and(|found| found.eq_ignore_ascii_case(name))
            };
            if starts("<") {
                self.hidden = true;
            } else if starts("</") {
                self.hidden = false;
            }
        }
    }
}

fn excerpt(text: &str) -> String {
    let text = text.trim();
    let Some((end, _)) = text.char_indices().nth(EXCERPT_CHARS) else {
        return text.to_owned();
    };
    let cut = &text[..end];
    // A word that ends exactly at the limit is kept.
    let whole_word = text[end..].starts_with(char::is_whitespace);
    let kept = match cut.rfind(char::is_whitespace) {
        Some(space) if !whole_word => &cut[..space],
        _ => cut,
    };
    format!("{}…", kept.trim_end_matches(|c: char| c.is_whitespace() || c == ',' || c == ';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_handlers_are_removed() {
        let rendered = render(
            "Hello <script>alert(1)</script>world, <b onclick=\"alert(2)\">bold</b> \
             [link](javascript:alert(3))\n\n<script>\nalert(4)\n</script>\n\n\
             <img src=x onerror=alert(5)>\n\n<iframe src=\"https://example.com\"></iframe>\n",
        );
        for bad in ["script", "alert", "onclick", "onerror", "javascript:", "iframe"] {
            assert!(!rendered.html.contains(bad), "{bad} in {}", rendered.html);
        }
        assert!(rendered.html.contains("<b>bold</b>"), "{}", rendered.html);
        assert_eq!(rendered.excerpt, "Hello world, bold link");
    }

    #[test]
    fn code_is_highlighted() {
        let Rendered { html, .. } =
            render("```rust\n// a <b> comment\nfn main() { let x = \"text\"; }\n```\n");
        for part in [
            "<pre><code class=\"language-rust\">",
            "<span class=\"hl-comment\">// a &lt;b&gt; comment\n</span>",
            "<span class=\"hl-function\">main</span>",
            "<span class=\"hl-string\">\"text\"</span>",
        ] {
            assert!(html.contains(part), "{part} not in {html}");
        }
    }

    #[test]
    fn an_unknown_language_is_plain_escaped_text() {
        let Rendered { html, .. } = render("```klingon\nif a < b && \"c\" { qapla' }\n```\n");
        assert!(html.contains("if a &lt; b &amp;&amp; \"c\" { qapla' }"), "{html}");
        assert!(!html.contains("<span"), "{html}");
    }

    #[test]
    fn code_cannot_break_out_of_its_block() {
        for language in ["rust", "html", "klingon"] {
            let Rendered { html, .. } =
                render(&format!("```{language}\n</code></pre><script>alert(1)</script>\n```\n"));
            assert!(!html.contains("<script"), "{html}");
            assert_eq!(html.matches("</pre>").count(), 1, "{html}");
        }
    }

    #[test]
    fn tables_survive_with_their_alignment() {
        let Rendered { html, words, .. } =
            render("| name | rows |\n|---|--:|\n| people | 10 |\n\n~~old~~ `new`\n");
        for part in ["<table>", "<th>name</th>", "<td>people</td>", "text-align", "<del>old</del>"] {
            assert!(html.contains(part), "{part} not in {html}");
        }
        assert_eq!(words, 6);
    }

    #[test]
    fn classes_of_the_page_cannot_be_borrowed() {
        let Rendered { html, .. } =
            render("<span class=\"hl-string admin-toolbar\" style=\"position:fixed\">x</span>\n");
        assert!(html.contains("<span class=\"hl-string\">x</span>"), "{html}");
    }

    #[test]
    fn the_excerpt_is_the_first_paragraph_cut_between_words() {
        let quoted =
            "# Title\n\n> quoted\n\n- item\n\n```rust\nfn f() {}\n```\n\nFirst *one*,\nhere.\n\nNext";
        assert_eq!(render(quoted).excerpt, "First one, here.");
        let long = "wörd ".repeat(100);
        let Rendered { excerpt, words, .. } = render(&long);
        assert_eq!(words, 100);
        assert!(excerpt.chars().count() <= EXCERPT_CHARS + 1, "{excerpt}");
        assert!(excerpt.ends_with("wörd…"), "{excerpt}");
        assert_eq!(render("").excerpt, "");
    }
}
