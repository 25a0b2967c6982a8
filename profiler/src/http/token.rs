//! The secret that a request proves itself with, and where it comes from.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use thiserror::Error;

/// Longest token; what a file has beyond it is not read.
const MAX_LENGTH: usize = 4096;

/// A secret for the port. It does not appear in `Debug` output, and no message of this crate contains it.
///
/// ```
/// use greenprof_profiler::http::Token;
///
/// let token = Token::new("s3cret")?;
/// assert_eq!(format!("{token:?}"), "Token(..)", "it is not shown");
/// assert!(Token::new("two words").is_err());
/// # Ok::<(), greenprof_profiler::http::TokenError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why something is no token. The secret itself is never told.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// No header can carry it.
    #[error("a token must be visible ASCII characters, at least one, at most {MAX_LENGTH}, without blanks")]
    Malformed,
    /// There is no such variable.
    #[error("the environment variable {0:?} is not set, so there is no token")]
    NotSet(String),
    /// The file could not be read.
    #[error("the token could not be read from {path}: {source}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Token {
    /// Takes a token from the program itself.
    ///
    /// # Errors
    /// [`TokenError::Malformed`].
    pub fn new(secret: impl Into<String>) -> Result<Self, TokenError> {
        let secret = secret.into();
        let good =
            !secret.is_empty() && secret.len() <= MAX_LENGTH && secret.bytes().all(|byte| byte.is_ascii_graphic());
        if good { Ok(Self(secret)) } else { Err(TokenError::Malformed) }
    }

    /// Reads it from an environment variable.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn from_env(variable: &str) -> Result<Self, TokenError> {
        let secret = std::env::var_os(variable).ok_or_else(|| TokenError::NotSet(variable.to_owned()))?;
        Self::new(secret.into_string().map_err(|_| TokenError::Malformed)?)
    }

    /// Reads it from a file, such as a mounted Kubernetes secret; blanks and line ends around it do not count.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenError> {
        let path = path.as_ref();
        let mut text = String::new();
        // One byte more than the longest with a line end, so that a longer one is noticed.
        let read = fs::File::open(path).and_then(|file| file.take(MAX_LENGTH as u64 + 3).read_to_string(&mut text));
        read.map_err(|source| TokenError::Unreadable { path: path.to_owned(), source })?;
        Self::new(text.trim())
    }

    /// Whether this is what was sent. Does not stop at the first difference, so that the time tells nothing about where it
    /// is. The length of what was sent is known to the sender, and that of the token is not what keeps it secret.
    pub(super) fn is(&self, sent: &[u8]) -> bool {
        equal(sent, self.0.as_bytes())
    }
}

/// Compares in a time that depends on the length of what was sent only.
pub(super) fn equal(sent: &[u8], secret: &[u8]) -> bool {
    let mut difference = sent.len() ^ secret.len();
    for (index, &byte) in sent.iter().enumerate() {
        let expected = secret.get(index % secret.len().max(1)).copied().unwrap_or(0);
        difference |= usize::from(std::hint::black_box(byte ^ expected));
    }
    std::hint::black_box(difference) == 0
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_from_a_file_or_the_environment_and_is_not_shown() {
        let file = std::env::temp_dir().join(format!("greenprof-token-{}", std::process::id()));
        fs::write(&file, "s3cret\n").expect("a temporary file");
        let token = Token::from_file(&file).expect("a token");
        assert!(token.is(b"s3cret") && !token.is(b"s3cre") && !token.is(b"s3crets3cret") && !token.is(b""));
        assert_eq!(format!("{token:?}"), "Token(..)");
        fs::write(&file, "x".repeat(MAX_LENGTH + 1)).expect("a temporary file");
        assert!(matches!(Token::from_file(&file), Err(TokenError::Malformed)));
        fs::remove_file(&file).expect("our file");
        let error = Token::from_file(&file).expect_err("no file").to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
        let error = Token::from_env("GREENPROF_NO_SUCH_VARIABLE").expect_err("not set").to_string();
        assert!(error.contains("GREENPROF_NO_SUCH_VARIABLE"), "{error}");
        // Cargo sets it for every test.
        assert!(Token::from_env("CARGO_PKG_VERSION").is_ok());
        for bad in ["", "a b", "a\n", "\u{e4}"] {
            assert!(matches!(Token::new(bad), Err(TokenError::Malformed)), "{bad:?}");
        }
    }
}
