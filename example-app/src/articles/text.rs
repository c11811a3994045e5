//! The Markdown of an article's body, section by section, from phrases and snippets. The values
//! that choose come from a stream; nothing else does, so that the text is a function of it.

use std::fmt::Write;

use super::phrases::{ADVERBS, CLAUSES, HEADINGS, OBJECTS, RAW_HTML, SOURCES, SUBJECTS, VERBS};
use super::snippets::SNIPPETS;
use super::stream::Stream;

/// Bytes after which no further section begins, at least and at most. With the closing lines,
/// and with sections of at most 1.7 kB, the body stays within 2 to 8 KiB.
const SHORTEST: u64 = 2_048;
const LONGEST: u64 = 6_000;

/// Which block follows the prose of a section.
const BLOCKS: [fn(&mut String, &mut Stream); 8] = [code, list, code, table, quote, code, steps, code];

/// The body of an article about `topic`.
pub(super) fn body(topic: &str, mut stream: Stream) -> String {
    let stream = &mut stream;
    let target = (SHORTEST + stream.below(LONGEST - SHORTEST)) as usize;
    let has_raw_html = stream.below(5) == 0;
    let first_block = stream.below(BLOCKS.len() as u64) as usize;

    let mut body = String::with_capacity(target + 2_048);
    _ = write!(body, "This note is about **{topic}**. ");
    paragraph(&mut body, stream);
    code(&mut body, stream);
    let mut section = 0;
    while body.len() < target {
        let heading = stream.pick(&HEADINGS);
        _ = write!(body, "## {}. {heading}\n\n", section + 1);
        paragraph(&mut body, stream);
        if section == 0 && has_raw_html {
            _ = write!(body, "{}\n\n", stream.pick(&RAW_HTML));
        }
        BLOCKS[(first_block + section) % BLOCKS.len()](&mut body, stream);
        if stream.below(2) == 0 {
            paragraph(&mut body, stream);
        }
        section += 1;
    }
    let source = stream.pick(&SOURCES);
    _ = write!(body, "---\n\n*More on {topic}: <https://{source}/>.*\n");
    body
}

fn sentence(body: &mut String, stream: &mut Stream) {
    let (subject, verb) = (stream.pick(&SUBJECTS), stream.pick(&VERBS));
    let object = stream.pick(&OBJECTS);
    _ = write!(body, "{subject} {verb} ");
    match stream.below(8) {
        0 => _ = write!(body, "**{object}**"),
        1 => _ = write!(body, "*{object}*"),
        2 => _ = write!(body, "[{object}](https://{})", stream.pick(&SOURCES)),
        _ => body.push_str(object),
    }
    match stream.below(4) {
        0 => {}
        1 => _ = write!(body, " {}", stream.pick(&ADVERBS)),
        _ => _ = write!(body, ", {}", stream.pick(&CLAUSES)),
    }
    body.push('.');
}

fn paragraph(body: &mut String, stream: &mut Stream) {
    for index in 0..2 + stream.below(3) {
        if index > 0 {
            body.push(if index == 2 { '\n' } else { ' ' });
        }
        sentence(body, stream);
    }
    body.push_str("\n\n");
}

fn code(body: &mut String, stream: &mut Stream) {
    let (language, code) = stream.pick(&SNIPPETS);
    // A name and a number of its own make each use a different text.
    let name = stream.pick(&["orders", "invoices", "events", "sensors", "tickets", "parcels"]);
    let number = (10 + stream.below(990)).to_string();
    let code = code.replace("NAME", name).replace("NUMBER", &number);
    _ = write!(body, "```{language}\n{}\n```\n\n", code.trim());
}

fn list(body: &mut String, stream: &mut Stream) {
    for _ in 0..3 + stream.below(3) {
        _ = writeln!(body, "- **{}**: {}", stream.pick(&OBJECTS), stream.pick(&CLAUSES));
        if stream.below(3) == 0 {
            _ = writeln!(body, "  - {} {}", stream.pick(&OBJECTS), stream.pick(&ADVERBS));
        }
    }
    body.push('\n');
}

fn steps(body: &mut String, stream: &mut Stream) {
    for step in 1..=3 + stream.below(3) {
        _ = write!(body, "{step}. ");
        sentence(body, stream);
        body.push('\n');
    }
    body.push('\n');
}

fn table(body: &mut String, stream: &mut Stream) {
    body.push_str("| what | rows | mean ms | p99 ms |\n|---|--:|--:|--:|\n");
    for _ in 0..3 + stream.below(4) {
        let (rows, mean) = (10 + stream.below(90_000), 1 + stream.below(900));
        let slowest = mean * (2 + stream.below(9));
        let (mean, slowest) = (hundredths(mean), hundredths(slowest));
        _ = writeln!(body, "| {} | {rows} | {mean} | {slowest} |", stream.pick(&OBJECTS));
    }
    body.push('\n');
}

fn hundredths(value: u64) -> String {
    format!("{}.{:02}", value / 100, value % 100)
}

fn quote(body: &mut String, stream: &mut Stream) {
    body.push_str("> ");
    sentence(body, stream);
    body.push_str("\n> ");
    sentence(body, stream);
    _ = write!(body, "\n>\n> *{}*\n\n", stream.pick(&SOURCES));
}
