//! Quoting as Go's `%q` does it: the text forms are read by programs that unquote with Go's rules.

use std::fmt::Write;

/// `text` in double quotes, with Go's escapes.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            // Writing to a String cannot fail.
            c if (c as u32) < 0x20 || c == '\u{7f}' => drop(write!(out, "\\x{:02x}", c as u32)),
            c if !is_printable(c) && (c as u32) < 0x10000 => drop(write!(out, "\\u{:04x}", c as u32)),
            c if !is_printable(c) => drop(write!(out, "\\U{:08x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether a character shows as itself. Blanks other than the space and invisible formatting are escaped, so that a label
/// cannot hide or reverse what follows it on a terminal.
fn is_printable(c: char) -> bool {
    let invisible = matches!(c as u32,
        0x80..=0xa0 | 0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202f | 0x205f..=0x206f
        | 0x3000 | 0xd800..=0xf8ff | 0xfeff | 0xfff0..=0xfffb | 0xe0000..=0x10ffff);
    !(invisible || c != ' ' && c.is_whitespace())
}

/// `text` as it stands in a stack dump's header: quoted only if it holds anything but letters, digits, `.`, `/` and `_`.
pub(super) fn quote_if_needed(text: &str) -> String {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'_'));
    if plain { text.to_owned() } else { quote(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_follows_go() {
        for (text, quoted) in [
            ("", r#""""#),
            ("plain", r#""plain""#),
            ("say \"hi\"\\", r#""say \"hi\"\\""#),
            ("a\tb\nc\rd", r#""a\tb\nc\rd""#),
            ("\u{0}\u{7}\u{1b}\u{7f}", r#""\x00\a\x1b\x7f""#),
            ("grün 木", r#""grün 木""#),
            ("\u{a0}\u{202e}\u{10ffff}", r#""\u00a0\u202e\U0010ffff""#),
        ] {
            assert_eq!(quote(text), quoted, "{text:?}");
        }
    }

    #[test]
    fn a_header_quotes_only_what_it_must() {
        for (text, shown) in [("a/b.c_9", "a/b.c_9"), ("x-y", "\"x-y\""), ("a b", "\"a b\""), ("", ""), ("ü", "\"ü\"")]
        {
            assert_eq!(quote_if_needed(text), shown);
        }
    }
}
