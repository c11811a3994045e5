//! Text as the outlines of an 8 by 8 font, since a font that scales would weigh more than the rest of the program's
//! drawing. Characters that the font does not have are drawn as a question mark.

use std::fmt::Write;

use font8x8::{BASIC_FONTS, GREEK_FONTS, LATIN_FONTS, MISC_FONTS, UnicodeFonts};

/// The side of a character.
pub(super) const SIDE: usize = 8;

/// The outline of one line, for the `d` of a path: its upper left corner is at 0, 0.
pub(super) fn outline(text: &str) -> String {
    let mut outline = String::new();
    for (column, character) in text.chars().enumerate() {
        for (y, bits) in glyph(character).into_iter().enumerate() {
            let mut x = 0;
            while x < SIDE {
                // The lowest bit is the leftmost pixel.
                let run = (bits >> x).trailing_ones() as usize;
                if run > 0 {
                    _ = write!(outline, "M{} {y}h{run}v1h-{run}z", column * SIDE + x);
                }
                x += run + 1;
            }
        }
    }
    outline
}

fn glyph(character: char) -> [u8; SIDE] {
    BASIC_FONTS
        .get(character)
        .or_else(|| LATIN_FONTS.get(character))
        .or_else(|| GREEK_FONTS.get(character))
        .or_else(|| MISC_FONTS.get(character))
        .or_else(|| BASIC_FONTS.get('?'))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_made_of_runs_of_pixels() {
        assert_eq!(outline("-"), "M0 3h6v1h-6z");
        assert_eq!(outline(" -"), "M8 3h6v1h-6z");
        assert_eq!(outline("\u{1f600}"), outline("?"));
        assert_ne!(outline("ü"), outline("?"));
    }
}
