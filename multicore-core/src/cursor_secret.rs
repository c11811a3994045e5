//! The secret that makes a cursor of this application's servers known from any other text. What a
//! cursor holds is in `list::cursor`.

use std::fmt;
use std::sync::Arc;

use crate::error::StartError;

/// Fewer bytes than this can be guessed.
const MIN_BYTES: usize = 16;
/// As long as what HMAC-SHA256 gives; more would add nothing.
const RANDOM_BYTES: usize = 32;

/// What signs the cursors of a pool's lists, so that a cursor that was changed or made up is refused.
/// Cheap to clone; never shown.
///
/// Servers with the same secret understand each other's cursors, also after a restart. Changing it makes
/// all cursors that are out void. Use it for nothing else.
#[derive(Clone)]
pub struct CursorSecret(Arc<[u8]>);

impl CursorSecret {
    /// This secret, at least 16 bytes. To choose one: 32 random bytes, as `openssl rand -hex 32` writes
    /// them; words are guessed more easily than their length suggests.
    ///
    /// # Errors
    /// For fewer bytes, with the key `cursor-secret`; the secret is not repeated.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, StartError> {
        let secret = secret.as_ref();
        if secret.len() < MIN_BYTES {
            let value = format!("{} bytes, not shown", secret.len());
            return Err(StartError::Setting { key: "cursor-secret", value, accepted: "at least 16 bytes" });
        }
        Ok(CursorSecret(secret.into()))
    }

    /// A secret that nobody else has.
    ///
    /// # Panics
    /// If the system has no random numbers to give, as `HashMap::new` does.
    pub fn random() -> Self {
        let mut secret = [0; RANDOM_BYTES];
        if let Err(error) = getrandom::fill(&mut secret) {
            panic!("the system has no random numbers for a cursor secret: {error}");
        }
        CursorSecret(secret.as_slice().into())
    }

    /// The secret itself, for signing.
    #[cfg_attr(
        not(any(feature = "sqlite-driver", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only lists need it")
    )]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for CursorSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorSecret(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_secret_is_refused_without_being_repeated() {
        for short in ["", "hunter2", "fifteen bytes.."] {
            let error = CursorSecret::new(short).unwrap_err();
            let says =
                format!("cursor-secret is `{} bytes, not shown`; accepted: at least 16 bytes", short.len());
            assert_eq!(error.to_string(), says);
            assert!(short.is_empty() || !format!("{error:?}").contains(short), "{error:?}");
        }
        assert!(CursorSecret::new([0; 16]).is_ok());
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = CursorSecret::new("correct horse battery staple").unwrap();
        assert_eq!(format!("{secret:?}"), "CursorSecret(not shown)");
    }

    #[test]
    fn random_secrets_differ() {
        assert_ne!(CursorSecret::random().0, CursorSecret::random().0);
    }
}
