//! Who may ask: the token, and the `Host` header.
//!
//! Profiles show what a program does inside, so the port is for its owner only. Two things protect it:
//!
//! * **Token.** If one is set, every request must carry it, as `Authorization: Bearer TOKEN` or as the password of Basic
//!   authentication, which is all that `go tool pprof` can send. The user name does not matter. A browser that has sent it
//!   gets a cookie for the next time; see `session`.
//! * **Host.** Without a token the port relies on being reachable from this machine only. A web page can get around
//!   that: it lets its own name resolve to 127.0.0.1, and the browser then takes this port for the page's origin. Such
//!   a request names the page's host, so only loopback names, loopback addresses and the bound address are
//!   accepted. Somebody who knows the token is no such page, so a right token makes the name irrelevant.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{StatusCode, Uri, Version};

use super::reply::{self, Reply};
use super::session::Session;
use super::token::Token;

/// The header that a request for a change carries if there is no token; its value does not matter.
pub(super) const CHANGE: HeaderName = HeaderName::from_static("x-greenprof");

/// Who may ask.
#[derive(Debug)]
enum Rule {
    /// Who has the token.
    Token { token: Token, session: Option<Session> },
    /// Who means a loopback name, or this address.
    Address(IpAddr),
    /// Everyone.
    Nobody,
}

/// The rules of one server.
#[derive(Debug)]
pub(super) struct Guard(Rule);

/// What a request that may pass may do, and what its answer brings along.
#[derive(Debug)]
pub(super) struct Pass {
    /// Whether it may change something.
    pub may_change: bool,
    /// For a browser that has shown the token: what it shows the next time.
    pub cookie: Option<HeaderValue>,
}

impl Guard {
    /// Rules for a port at `bound` without a token.
    pub fn for_address(bound: IpAddr) -> Self {
        Self(Rule::Address(bound))
    }

    /// Rules for who has the token. With a session, browsers get a cookie in exchange for it.
    pub fn with_token(token: Token, session: Option<Session>) -> Self {
        Self(Rule::Token { token, session })
    }

    /// No rules.
    pub fn none() -> Self {
        Self(Rule::Nobody)
    }

    /// What the request may do.
    ///
    /// # Errors
    /// The answer that refuses it.
    pub fn check(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<Pass, Reply> {
        // A web page of another origin can make a browser send a POST, but not with a header of its own, for which the
        // browser would first ask this port. A token, which the page does not have, proves as much; a cookie does not.
        let mut pass = Pass { may_change: headers.contains_key(CHANGE), cookie: None };
        match &self.0 {
            Rule::Nobody => {}
            Rule::Token { token, session } => {
                if carries(headers, token) {
                    pass.may_change = true;
                    pass.cookie = session.as_ref().filter(|_| wants_page(headers)).map(|session| session.cookie());
                } else if !session.as_ref().is_some_and(|session| session.is_carried_by(headers)) {
                    return Err(reply::unauthorized());
                }
            }
            Rule::Address(bound) => check_host(*bound, version, uri, headers)?,
        }
        Ok(pass)
    }
}

/// Whether a browser asks for something to show.
fn wants_page(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains("text/html"))
}

/// Whether the request means this port.
fn check_host(bound: IpAddr, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), Reply> {
    let mut hosts: Vec<&[u8]> = headers.get_all(header::HOST).iter().map(|value| value.as_bytes()).collect();
    if hosts.is_empty() && version >= Version::HTTP_11 {
        return Err(reply::error(StatusCode::BAD_REQUEST, "missing required Host header"));
    }
    hosts.extend(uri.authority().map(|authority| authority.as_str().as_bytes()));
    if hosts.iter().all(|host| std::str::from_utf8(host).is_ok_and(|host| accepts_host(bound, host))) {
        return Ok(());
    }
    Err(reply::error(
        StatusCode::FORBIDDEN,
        "this port answers only requests for localhost, a loopback address or the address it is bound to",
    ))
}

/// Whether a `Host` value (`NAME`, `NAME:PORT`, `[V6]:PORT`) means this port.
fn accepts_host(bound: IpAddr, host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    if let Ok(ip) = name.parse::<IpAddr>() {
        let ip = ip.to_canonical();
        // Bound to all addresses, any of them may be the one that was used; a literal address cannot be rebound.
        return ip.is_loopback() || ip == bound.to_canonical() || bound.is_unspecified();
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether the request carries the token. With several `Authorization` headers, each is tried.
fn carries(headers: &HeaderMap, token: &Token) -> bool {
    headers.get_all(header::AUTHORIZATION).iter().any(|value| {
        let Some((scheme, credentials)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
            return false;
        };
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return token.is(credentials.as_bytes());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        let Some(pair) = base64(credentials) else { return false };
        let Some(colon) = pair.iter().position(|&byte| byte == b':') else { return false };
        token.is(&pair[colon + 1..])
    })
}

/// Decodes standard base64, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for &byte in group {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let bytes = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bits <<= 6 * (4 - group.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..=bytes]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(guard: &Guard, header_pairs: &[(header::HeaderName, &str)], uri: &str) -> Option<u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in header_pairs {
            headers.append(name, HeaderValue::from_str(value).expect("a header value"));
        }
        let uri: Uri = uri.parse().expect("a URI");
        guard.check(Version::HTTP_11, &uri, &headers).err().map(|reply| reply.status().as_u16())
    }

    #[test]
    fn only_names_that_cannot_be_rebound_pass() {
        let guard = Guard::for_address("127.0.0.1".parse().expect("ip"));
        for (host, expected) in [
            ("localhost", None),
            ("LOCALHOST:6060", None),
            ("localhost.:6060", None),
            ("app.localhost", None),
            ("127.0.0.1:6060", None),
            ("127.9.9.9", None),
            ("[::1]:6060", None),
            ("[::ffff:127.0.0.1]", None),
            ("evil.example", Some(403)),
            ("evil.example:6060", Some(403)),
            ("localhost.evil.example", Some(403)),
            ("notlocalhost", Some(403)),
            ("10.0.0.1", Some(403)),
            ("[2001:db8::1]:80", Some(403)),
            ("", Some(403)),
        ] {
            assert_eq!(status(&guard, &[(header::HOST, host)], "/"), expected, "{host:?}");
        }
        assert_eq!(status(&guard, &[], "/"), Some(400));
        assert!(guard.check(Version::HTTP_10, &Uri::from_static("/"), &HeaderMap::new()).is_ok());
        assert_eq!(status(&guard, &[(header::HOST, "localhost"), (header::HOST, "evil.example")], "/"), Some(403));
        assert_eq!(status(&guard, &[(header::HOST, "localhost")], "http://evil.example/"), Some(403));
    }

    #[test]
    fn the_bound_address_is_a_good_host() {
        let guard = Guard::for_address("10.1.2.3".parse().expect("ip"));
        assert_eq!(status(&guard, &[(header::HOST, "10.1.2.3:6060")], "/"), None);
        assert_eq!(status(&guard, &[(header::HOST, "10.1.2.4:6060")], "/"), Some(403));
        let guard = Guard::for_address("::".parse().expect("ip"));
        assert_eq!(status(&guard, &[(header::HOST, "10.1.2.4:6060")], "/"), None);
        assert_eq!(status(&guard, &[(header::HOST, "evil.example")], "/"), Some(403));
    }

    #[test]
    fn the_token_comes_as_bearer_or_as_password() {
        let guard = Guard::with_token(Token::new("s3cret").expect("a token"), None);
        // "user:s3cret", ":s3cret", "s3cret", "user:s3cre", "a:b:s3cret"
        for (value, expected) in [
            ("Bearer s3cret", None),
            ("bearer  s3cret ", None),
            ("Basic dXNlcjpzM2NyZXQ=", None),
            ("basic OnMzY3JldA==", None),
            ("Basic OnMzY3JldA", None),
            ("Basic czNjcmV0", Some(401)),
            ("Basic dXNlcjpzM2NyZQ==", Some(401)),
            ("Basic YTpiOnMzY3JldA==", Some(401)),
            ("Basic !!!!", Some(401)),
            ("Bearer s3cre", Some(401)),
            ("Bearer s3crets3cret", Some(401)),
            ("Bearer ", Some(401)),
            ("Digest s3cret", Some(401)),
            ("s3cret", Some(401)),
        ] {
            let pairs = [(header::HOST, "box.example"), (header::AUTHORIZATION, value)];
            assert_eq!(status(&guard, &pairs, "/"), expected, "{value:?}");
        }
        assert_eq!(status(&guard, &[(header::HOST, "localhost")], "/"), Some(401));
    }

    #[test]
    fn base64_decodes_all_lengths() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg", "foob")] {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(base64("A"), None);
        assert_eq!(base64("Zm9v YmFy"), None);
    }
}
