//! The name of a task that is to be spawned.

use std::fmt;

use super::control::NAME_BYTES;

/// A text of bounded length that has no memory of its own: a pointer to freed memory, which the spawner's frame would keep, is a
/// live reference to a leak scan when the memory is used again.
#[derive(Clone, Copy, Default)]
pub(super) struct Name {
    bytes: [[u8; 8]; NAME_BYTES / 8],
    length: u8,
}

impl Name {
    /// As much of the text as there is room for.
    #[inline]
    pub(super) fn cut(text: &str) -> Self {
        let text = &text.as_bytes()[..text.floor_char_boundary(NAME_BYTES)];
        let mut name = Self { length: text.len() as u8, ..Self::default() };
        name.bytes.as_flattened_mut()[..text.len()].copy_from_slice(text);
        name
    }

    #[inline]
    pub(super) fn as_str(&self) -> &str {
        if self.length == 0 {
            return "";
        }
        str::from_utf8(&self.bytes.as_flattened()[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_cut_at_a_character() {
        for (text, kept) in [("", ""), ("price-feed", "price-feed"), (&"ä".repeat(40), &"ä".repeat(24))] {
            assert_eq!(Name::cut(text).as_str(), kept);
        }
        let odd = format!("a{}", "ä".repeat(40));
        assert_eq!(Name::cut(&odd).as_str(), format!("a{}", "ä".repeat(23)));
        assert_eq!(format!("{:?}", Name::cut("a")), "\"a\"");
    }
}
