//! The query of a request, read as Go's form parser reads it: percent escapes, `+` as a blank, the first value of a name.

/// A parsed query.
///
/// ```
/// use greenprof_profiler::http::Query;
///
/// let query = Query::parse("seconds=5&label=tenant%3Dacme&debug=1");
/// assert_eq!(query.get("label"), Some("tenant=acme"));
/// assert_eq!((query.debug(), query.get("gc")), (1, None));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Parses the part of a URI behind `?`. Pairs with broken escapes or with a semicolon are dropped.
    pub fn parse(raw: &str) -> Self {
        let pairs = raw
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.contains(';'))
            .filter_map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((decode(name, true)?, decode(value, true)?))
            })
            .collect();
        Self { pairs }
    }

    /// The first value of that name; `None` if it is absent or empty, which Go does not tell apart either.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The `debug` level: 0 if absent, no integer, or negative.
    pub fn debug(&self) -> i64 {
        self.get("debug").and_then(|value| value.parse::<i64>().ok()).unwrap_or(0).max(0)
    }
}

/// Undoes percent escapes (and `+` for a blank, in queries). `None` if an escape is broken or the result is no UTF-8.
pub(super) fn decode(text: &str, plus_is_blank: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'%' => {
                let (&[high, low], tail) = rest.split_first_chunk()?;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                bytes.push((digit(high)? * 16 + digit(low)?) as u8);
                rest = tail;
            }
            b'+' if plus_is_blank => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Escapes what cannot stand in a link, of a path or of a part of it.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The path without empty parts, `.` and `..`, as Go's router cleans it; it keeps a slash at the end. `None` if it is clean.
pub(super) fn clean(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    (clean != path).then_some(clean)
}

/// Reads an address as Go's integer parser does with base 0: `0x`, `0o`, `0b`, a leading zero for octal, underscores
/// between digits of a prefixed number.
pub(super) fn parse_address(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    if digits.starts_with('+')
        || (radix == 10 && digits.contains('_'))
        || digits.ends_with('_')
        || digits.contains("__")
    {
        return None;
    }
    u64::from_str_radix(&digits.replace('_', ""), radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_a_form() {
        let query = Query::parse("seconds=5&debug=1&seconds=9&empty=&flag&%6eame=a%20b+c&bad=%zz&a;b=1&cut=%2");
        assert_eq!(query.get("seconds"), Some("5"));
        assert_eq!(query.get("empty"), None);
        assert_eq!(query.get("flag"), None);
        assert_eq!(query.get("name"), Some("a b c"));
        assert_eq!(query.get("bad"), None);
        assert_eq!(query.get("cut"), None);
        assert_eq!(query.get("a;b"), None);
        assert_eq!(Query::parse("").get(""), None);
    }

    #[test]
    fn only_a_positive_debug_level_counts() {
        for (raw, level) in [
            ("debug=2", 2),
            ("debug=0", 0),
            ("debug=-1", 0),
            ("debug=x", 0),
            ("debug=1.5", 0),
            ("debug=+1", 0),
            ("", 0),
        ] {
            assert_eq!(Query::parse(raw).debug(), level, "{raw:?}");
        }
        assert_eq!(Query::parse("debug=%2B1").debug(), 1);
        assert_eq!(Query::parse("debug=99999999999999999999").debug(), 0);
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, cleaned) in [
            ("/", None),
            ("/debug/pprof/", None),
            ("/debug/pprof/heap", None),
            ("/debug//pprof/heap", Some("/debug/pprof/heap")),
            ("//", Some("/")),
            ("/debug/pprof/../pprof/", Some("/debug/pprof/")),
            ("/debug/./pprof", Some("/debug/pprof")),
            ("/../../etc", Some("/etc")),
            ("/debug/..", Some("/")),
            ("/a/...", None),
        ] {
            assert_eq!(clean(path).as_deref(), cleaned, "{path}");
        }
    }

    #[test]
    fn addresses_come_in_any_base() {
        for (text, address) in [
            ("0x10", Some(16)),
            ("0X1F", Some(31)),
            ("16", Some(16)),
            ("010", Some(8)),
            ("0o10", Some(8)),
            ("0b11", Some(3)),
            ("0x1_0", Some(16)),
            ("0", Some(0)),
            ("1_0", None),
            ("-1", None),
            ("+1", None),
            ("0x", None),
            ("0x1_", None),
            ("", None),
            ("main", None),
            ("0x10000000000000000", None),
        ] {
            assert_eq!(parse_address(text), address, "{text:?}");
        }
    }
}
