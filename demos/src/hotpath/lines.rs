//! Lists of lines, and two ways of finding those that occur twice.

/// The function that is hot.
pub(super) const HOT: &str = "greenprof_demos::hotpath::lines::compare_all";

/// A list whose every tenth line has occurred before.
pub(super) fn list(length: usize) -> Vec<String> {
    let number = |at: usize| if at % 10 == 9 { at - 9 } else { at };
    (0..length).map(|at| format!("article {:08}", number(at).wrapping_mul(2_654_435_761) % 100_000_000)).collect()
}

/// Compares each line with all before it: of twice as many lines it takes four times as long.
#[inline(never)]
pub(super) fn compare_all(lines: &[String]) -> u64 {
    let twice = |at: &usize| lines[..*at].iter().any(|before| *before == lines[*at]);
    (0..lines.len()).filter(twice).count() as u64
}

/// Sorts, so that equal lines stand beside each other.
#[inline(never)]
pub(super) fn sort_first(mut lines: Vec<String>) -> u64 {
    lines.sort_unstable();
    lines.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_find_the_same() {
        for length in [0, 1, 9, 10, 100, 1500] {
            assert_eq!(compare_all(&list(length)), length as u64 / 10);
            assert_eq!(sort_first(list(length)), length as u64 / 10);
        }
    }
}
