//! An article as a picture: its title, and as much of its text as there is room for.

use std::fmt::Write;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::letters::{self, outline};
use super::{CARD, Text};

const MARGIN: usize = 20;
/// Lines of the title at most.
const TITLE_LINES: usize = 2;
/// How much larger the title's letters are than the text's.
const TITLE_SCALE: usize = 2;
/// From one line of the text to the next.
const LINE: usize = letters::SIDE + 4;

const PAPER: &str = "#fdfcf8";
const TITLE: &str = "#17324d";
const TEXT: &str = "#44403a";
const CODE: &str = "#2f6f4f";
const CODE_PAPER: &str = "#eef3ee";
const RULE: &str = "#d9882f";

/// The article's card as an SVG.
pub(super) fn svg(text: &Text) -> String {
    let (width, height) = (CARD.0 as usize, CARD.1 as usize);
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" shape-rendering="crispEdges"><rect width="{width}" height="{height}" fill="{PAPER}"/>"#
    );
    let room = width - 2 * MARGIN;
    let mut y = MARGIN;
    let title = wrapped(&text.title, room / (TITLE_SCALE * letters::SIDE));
    for line in title.iter().take(TITLE_LINES) {
        write_line(&mut svg, line, y, TITLE_SCALE, TITLE);
        y += TITLE_SCALE * LINE;
    }
    _ = write!(svg, r#"<rect x="{MARGIN}" y="{y}" width="{room}" height="2" fill="{RULE}"/>"#);
    y += LINE;
    let last = height - MARGIN - letters::SIDE;
    for block in blocks(&text.body, (last - y) / LINE) {
        let colour = match block.kind {
            Kind::Heading => TITLE,
            Kind::Text => TEXT,
            Kind::Code => CODE,
        };
        for line in block.lines(room / letters::SIDE) {
            if y > last {
                break;
            }
            if block.kind == Kind::Code {
                let top = y - 2;
                _ = write!(
                    svg,
                    r#"<rect x="{MARGIN}" y="{top}" width="{room}" height="{LINE}" fill="{CODE_PAPER}"/>"#
                );
            }
            write_line(&mut svg, &line, y, 1, colour);
            y += LINE;
        }
        y += LINE / 2;
    }
    svg.push_str("</svg>");
    svg
}

fn write_line(svg: &mut String, line: &str, y: usize, scale: usize, colour: &str) {
    let outline = outline(line);
    _ = write!(
        svg,
        r#"<path transform="translate({MARGIN} {y}) scale({scale})" fill="{colour}" d="{outline}"/>"#
    );
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Heading,
    Text,
    Code,
}

/// A piece of the body that begins on a line of its own.
#[derive(Debug)]
struct Block {
    kind: Kind,
    text: String,
}

impl Block {
    fn lines(&self, columns: usize) -> Vec<String> {
        match self.kind {
            // What does not fit is cut, as code is not prose.
            Kind::Code => self.text.lines().map(|line| line.chars().take(columns).collect()).collect(),
            Kind::Heading | Kind::Text => wrapped(&self.text, columns),
        }
    }
}

/// The first blocks of a Markdown text, as plain text; raw HTML is left out.
fn blocks(markdown: &str, most: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open = Block { kind: Kind::Text, text: String::new() };
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => open.kind = Kind::Heading,
            Event::Start(Tag::CodeBlock(_)) => open.kind = Kind::Code,
            Event::Start(Tag::Item) => open.text.push_str("- "),
            Event::Text(text) | Event::Code(text) => open.text.push_str(&text),
            Event::SoftBreak | Event::HardBreak | Event::End(TagEnd::TableCell) => open.text.push(' '),
            Event::End(
                TagEnd::Heading(_)
                | TagEnd::CodeBlock
                | TagEnd::Paragraph
                | TagEnd::Item
                | TagEnd::TableHead
                | TagEnd::TableRow,
            ) if !open.text.is_empty() => {
                blocks.push(std::mem::replace(&mut open, Block { kind: Kind::Text, text: String::new() }));
                if blocks.len() == most {
                    break;
                }
            }
            _ => {}
        }
    }
    blocks
}

/// The text in lines of at most so many characters, cut between words where that is possible.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut length) = (String::new(), 0);
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for part in letters.chunks(columns.max(1)) {
            if length > 0 && length + 1 + part.len() > columns {
                lines.push(std::mem::take(&mut line));
                length = 0;
            }
            if length > 0 {
                line.push(' ');
                length += 1;
            }
            line.extend(part);
            length += part.len();
        }
    }
    if length > 0 {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_or_within_one_that_is_too_long() {
        assert_eq!(wrapped("the quick brown fox", 10), ["the quick", "brown fox"]);
        assert_eq!(wrapped("größenwahnsinnig", 8), ["größenwa", "hnsinnig"]);
        assert_eq!(wrapped("  ", 8), [""; 0]);
        assert_eq!(wrapped("ab", 0), ["a", "b"]);
    }

    #[test]
    fn markdown_becomes_blocks_of_plain_text() {
        let markdown = "# Head\n\nOne **two**\nthree <b>x</b>\n\n- item\n\n```rust\nfn a() {}\n    b\n```\n\n|a|b|\n|-|-|\n|c|d|\n";
        let blocks = blocks(markdown, 20);
        let seen: Vec<_> = blocks.iter().map(|block| (block.kind, &*block.text)).collect();
        assert_eq!(
            seen,
            [
                (Kind::Heading, "Head"),
                (Kind::Text, "One two three x"),
                (Kind::Text, "- item"),
                (Kind::Code, "fn a() {}\n    b\n"),
                (Kind::Text, "a b "),
                (Kind::Text, "c d "),
            ]
        );
        assert_eq!(super::blocks(markdown, 2).len(), 2);
    }

    #[test]
    fn a_title_of_any_length_leaves_room_for_the_text_and_any_text_is_safe_in_an_svg() {
        let title = "<\"&'> \u{1f600} ".repeat(300);
        let text = Text { body: title.clone(), title };
        let svg = svg(&text);
        assert_eq!(svg.matches("scale(2)").count(), TITLE_LINES);
        assert!(svg.matches("scale(1)").count() > 10);
        assert!(!svg.contains("&") && !svg.contains('\''));
    }
}
