//! What a pool knows of its queries (`shape`), by their text, and of tables.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::hold::Hold;
use super::shape::Shape;
use super::steady::Steady;
use crate::db::Catalogue;

/// Chains of shapes: more than most programs have queries.
const CHAINS: usize = 128;
/// The shapes that are kept for the pool's life, and as many others. More than a program has queries; text
/// with values in it makes a new one each time, and must not fill the memory.
const MOST_SHAPES: usize = 1_024;

/// The shapes of one pool. The first ones are only ever added, so finding one takes no lock and writes nothing
/// that other cores read. Those that come once there are [`MOST_SHAPES`] are found under a lock, and dropped
/// when they are too many.
pub(crate) struct Shapes {
    chains: [Link; CHAINS],
    /// How many are in the chains: two at once may be one more.
    kept: AtomicUsize,
    others: RwLock<HashMap<String, Arc<Shape>>>,
    pub(super) catalogue: RwLock<Catalogue>,
    pub(super) steady: Steady,
    pub(super) hold: Hold,
}

/// The next of a chain, if there is one yet.
type Link = OnceLock<Box<Known>>;

struct Known {
    text: String,
    shape: Shape,
    next: Link,
}

/// A shape that was found.
pub(super) enum Found<'a> {
    Kept(&'a Shape),
    Other(Arc<Shape>),
}

impl Deref for Found<'_> {
    type Target = Shape;

    fn deref(&self) -> &Shape {
        match self {
            Found::Kept(shape) => shape,
            Found::Other(shape) => shape,
        }
    }
}

impl Default for Shapes {
    fn default() -> Self {
        Shapes {
            chains: [const { Link::new() }; CHAINS],
            kept: AtomicUsize::new(0),
            others: RwLock::default(),
            catalogue: RwLock::default(),
            steady: Steady::default(),
            hold: Hold::default(),
        }
    }
}

impl Shapes {
    pub(super) fn get(&self, text: &str) -> Option<Found<'_>> {
        let mut link = self.chain(text);
        while let Some(known) = link.get() {
            if known.text == text {
                return Some(Found::Kept(&known.shape));
            }
            link = &known.next;
        }
        if !self.is_full() {
            return None;
        }
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        others.get(text).cloned().map(Found::Other)
    }

    /// Adds what was found out of a query, unless another request was sooner: its shape has learnt more.
    pub(super) fn insert(&self, text: String, shape: Shape) -> Found<'_> {
        if self.is_full() {
            let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
            if others.len() >= MOST_SHAPES {
                others.clear();
            }
            return Found::Other(Arc::clone(others.entry(text).or_insert_with(|| Arc::new(shape))));
        }
        let mut link = self.chain(&text);
        let mut new = Some(Box::new(Known { text: text.clone(), shape, next: Link::new() }));
        loop {
            match link.get() {
                Some(known) if known.text == text => return Found::Kept(&known.shape),
                Some(known) => link = &known.next,
                None => {
                    let Some(known) = new.take() else { continue };
                    match link.set(known) {
                        Ok(()) => _ = self.kept.fetch_add(1, Ordering::Relaxed),
                        Err(sooner) => new = Some(sooner),
                    }
                }
            }
        }
    }

    fn is_full(&self) -> bool {
        self.kept.load(Ordering::Relaxed) >= MOST_SHAPES
    }

    fn chain(&self, text: &str) -> &Link {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        &self.chains[(hasher.finish() % CHAINS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::analysis::Facts;

    fn shape(text: &str) -> Shape {
        let facts = Facts {
            nullable: Vec::new(),
            unique: Some(true),
            splits: Ok(()),
            prompt: true,
            seeks: true,
            plain: true,
        };
        Shape::new(text, facts, true, true)
    }

    fn insert<'a>(shapes: &'a Shapes, text: &str) -> Found<'a> {
        shapes.insert(text.to_owned(), shape(text))
    }

    #[test]
    fn a_shape_is_found_by_its_text_and_stays_what_it_was_first() {
        let shapes = Shapes::default();
        assert!(shapes.get("1").is_none());
        // Several a chain.
        let texts: Vec<String> = (0..4 * CHAINS).map(|text| text.to_string()).collect();
        let first: Vec<*const Shape> = texts.iter().map(|text| &raw const *insert(&shapes, text)).collect();
        for (text, first) in texts.iter().zip(first) {
            assert!(
                matches!(shapes.get(text), Some(Found::Kept(shape)) if std::ptr::eq(shape, first)),
                "{text}"
            );
            assert!(std::ptr::eq(&*insert(&shapes, text), first), "{text}");
        }
        assert_eq!(shapes.kept.into_inner(), texts.len());
    }

    #[test]
    fn what_comes_beyond_them_is_known_for_a_while_and_pushes_none_of_them_out() {
        let shapes = Shapes::default();
        for text in 0..3 * MOST_SHAPES {
            let text = text.to_string();
            insert(&shapes, &text);
            assert!(shapes.get(&text).is_some(), "{text}");
        }
        let kept = |text: usize| matches!(shapes.get(&text.to_string()), Some(Found::Kept(_)));
        assert!((0..MOST_SHAPES).all(kept));
        assert!(!kept(MOST_SHAPES));
        assert!(shapes.others.read().unwrap().len() <= MOST_SHAPES);
    }
}
