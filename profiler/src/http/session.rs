//! The cookie that a browser gets for the token.
//!
//! It is not the token: cookies of a host go to all its ports, so other servers on the same machine see it. It is a random
//! number that only this server knows, for as long as it runs. Scripts cannot read it, and requests that come from other sites do
//! not bring it; what changes something needs more than it.

use std::{fmt, fs, io::Read};

use hyper::header::{self, HeaderMap, HeaderValue};

use super::token::equal;

/// Bytes of the random number.
const LENGTH: usize = 32;

/// The session that all browsers share which have shown the token.
pub(super) struct Session {
    /// Of the cookie; with the port, so that two servers of one machine do not overwrite each other's.
    name: String,
    value: String,
}

impl Session {
    /// A new one for the server at `port`; nothing if the system gives no random numbers, and then there are no cookies.
    pub fn new(port: u16) -> Option<Self> {
        let mut random = [0; LENGTH];
        fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)).ok()?;
        let value = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { name: format!("greenprof-{port}"), value })
    }

    /// What is set.
    pub fn cookie(&self) -> HeaderValue {
        let text = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.name, self.value);
        let mut value = HeaderValue::try_from(text).expect("letters, digits and punctuation");
        value.set_sensitive(true);
        value
    }

    /// Whether a request brings it.
    pub fn is_carried_by(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies.flat_map(|cookies| cookies.split(';')).any(|pair| {
            let (name, value) = pair.trim().split_once('=').unwrap_or_default();
            name == self.name && equal(value.as_bytes(), self.value.as_bytes())
        })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_cookie_counts() {
        let (session, other) = (Session::new(6060).expect("random"), Session::new(6060).expect("random"));
        let with = |text: &str| HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(text).expect("text"))]);
        let set = session.cookie();
        let (pair, attributes) = set.to_str().expect("text").split_once("; ").expect("attributes");
        assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Strict");
        assert!(session.is_carried_by(&with(pair)));
        assert!(session.is_carried_by(&with(&format!("a=b; {pair}; c"))));
        assert!(!other.is_carried_by(&with(pair)));
        for bad in ["", "greenprof-6060=", "greenprof-6060", &pair[..pair.len() - 1], &format!("x{pair}")] {
            assert!(!session.is_carried_by(&with(bad)), "{bad}");
        }
        assert!(!format!("{session:?}").contains(&session.value));
    }
}
