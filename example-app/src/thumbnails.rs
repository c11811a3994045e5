//! Thumbnails: of pictures that strangers send, and of articles. Both are drawn by a library that some pictures
//! crash, so they are tasks for worker processes; what is here runs there. HTTP does not belong here.
//!
//! Pictures are SVG, and [resvg] draws them. It is careful code without a line of C, and still:
//!
//! | picture | what it does to the process that draws it |
//! |---|---|
//! | ten thousand patterns, each of which fills the next | the recursion overflows the stack, which ends the process |
//! | a thousand groups, each half transparent | each is drawn on a canvas of its own: a quarter of a gigabyte |
//! | clouds of a million octaves, in 200 bytes | hours of computing |

mod card;
mod letters;

use axum::body::Bytes;
use multicore_axum::process::{Packed, Tasks};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, ImageHrefResolver, Options, Tree};
use serde::{Deserialize, Serialize};

/// The task that draws a picture: takes an SVG, gives a PNG.
pub const PICTURE: &str = "thumbnail";
/// The task that draws an article: takes a [`Text`], gives a PNG.
pub const ARTICLE: &str = "article-thumbnail";

/// The longer side of a picture's thumbnail, in pixels.
pub const SIDE: u32 = 256;
/// Width and height of an article's, in pixels.
pub const CARD: (u32, u32) = (480, 300);

/// What the worker processes can do. `main` calls `init` on it before anything else.
///
/// Both are functions of their argument and could be repeated; but a picture that killed one worker would kill
/// the next one too.
pub fn tasks() -> Tasks {
    Tasks::new()
        .add(PICTURE, |picture: Bytes| draw(&picture, SIDE))
        .add_idempotent(ARTICLE, |Packed(text): Packed<Text>| {
            draw(card::svg(&text).as_bytes(), CARD.0.max(CARD.1))
        })
}

/// What is drawn of an article.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Text {
    /// Its title.
    pub title: String,
    /// Its body, in Markdown.
    pub body: String,
}

/// Why there is no thumbnail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// It is no SVG.
    #[error("not a picture")]
    Svg(#[from] usvg::Error),
    /// There is no canvas of that size, or its PNG cannot be written.
    #[error("no canvas of {0} by {1} pixels")]
    Canvas(u32, u32),
}

/// The PNG of an SVG, with `side` pixels at its longer side and at least one at the other.
///
/// # Errors
/// That it is no SVG.
pub fn draw(svg: &[u8], side: u32) -> Result<Vec<u8>, PictureError> {
    let tree = Tree::from_data(svg, &options())?;
    let (width, height) = (tree.size().width(), tree.size().height());
    let scale = side as f32 / width.max(height);
    // Sizes are positive; what is too long for a number ends at its greatest.
    let pixels = |length: f32| ((length * scale).round() as u32).clamp(1, side);
    let (columns, rows) = (pixels(width), pixels(height));
    let mut canvas = Pixmap::new(columns, rows).ok_or(PictureError::Canvas(columns, rows))?;
    let fit = Transform::from_scale(columns as f32 / width, rows as f32 / height);
    resvg::render(&tree, fit, &mut canvas.as_mut());
    canvas.encode_png().map_err(|_| PictureError::Canvas(columns, rows))
}

/// Pictures may refer to others, by default also to files of this machine; here to none.
fn options() -> Options<'static> {
    Options {
        image_href_resolver: ImageHrefResolver {
            resolve_data: Box::new(|_, _, _| None),
            resolve_string: Box::new(|_, _| None),
        },
        ..Options::default()
    }
}

#[cfg(test)]
mod tests {
    use resvg::tiny_skia::PremultipliedColorU8;

    use super::*;
    use crate::articles::article;

    fn drawn(svg: &str) -> Pixmap {
        Pixmap::decode_png(&draw(svg.as_bytes(), SIDE).unwrap()).unwrap()
    }

    fn pixel(picture: &Pixmap, x: u32, y: u32) -> PremultipliedColorU8 {
        picture.pixel(x, y).unwrap()
    }

    #[test]
    fn a_picture_fills_its_thumbnail() {
        for (size, expected) in [
            ("width='100' height='100'", (256, 256)),
            ("viewBox='0 0 8 4'", (256, 128)),
            ("width='3' height='9000'", (1, 256)),
        ] {
            let picture = drawn(&format!(
                "<svg xmlns='http://www.w3.org/2000/svg' {size}><path fill='red' d='M0 0h9999v9999H0z'/></svg>"
            ));
            assert_eq!((picture.width(), picture.height()), expected);
            let red = PremultipliedColorU8::from_rgba(255, 0, 0, 255).unwrap();
            assert_eq!(pixel(&picture, expected.0 - 1, expected.1 - 1), red, "{size}");
        }
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        for bytes in [&b""[..], b"<svg", b"\x89PNG\r\n", b"<html/>", b"\xff\xfe"] {
            let error = draw(bytes, SIDE).unwrap_err();
            assert!(matches!(error, PictureError::Svg(_)), "{error}");
        }
    }

    #[test]
    fn a_picture_sees_no_files_of_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret.svg");
        let red = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><path fill='red' d='M0 0h9v9H0z'/></svg>";
        std::fs::write(&secret, red).unwrap();
        let picture = drawn(&format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><image width='9' height='9' href='{}'/></svg>",
            secret.display()
        ));
        assert_eq!(pixel(&picture, 100, 100), PremultipliedColorU8::TRANSPARENT);
    }

    #[test]
    fn an_article_becomes_a_card_with_text_on_it() {
        for id in 1..=20 {
            let row = article(id);
            let svg = card::svg(&Text { title: row.title, body: row.body });
            let picture = Pixmap::decode_png(&draw(svg.as_bytes(), CARD.0).unwrap()).unwrap();
            assert_eq!((picture.width(), picture.height()), CARD);
            let paper = pixel(&picture, 0, 0);
            let ink = picture.pixels().iter().filter(|pixel| **pixel != paper).count();
            assert!((2_000..100_000).contains(&ink), "article {id} has {ink} pixels of ink");
        }
    }
}
