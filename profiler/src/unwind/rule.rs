//! How to find a caller, in 32 bits, and the rows that say it for ranges of instructions.
//!
//! ```text
//!   31              16 15         4 3   0
//!   ┌─────────────────┬────────────┬─────┐
//!   │ frame, in words │ saved, in  │kind │
//!   │                 │ words      │     │
//!   └─────────────────┴────────────┴─────┘
//! ```
//! The *frame* is the distance from a register up to the address just above the return address (the CFA of the format);
//! *saved* is the distance from there down to where the caller's frame pointer is, 0 if it is in its register still.

/// How to find the caller of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// By the frame pointer: the code keeps it, or nothing is known of it.
    FramePointer,
    /// There is none: here a thread begins.
    Root,
    /// The return address is below the stack pointer plus `frame` words.
    FromStackPointer {
        /// In words.
        frame: u16,
        /// In words.
        saved: u16,
    },
    /// The same from the frame pointer, which is one, but not of the usual shape.
    FromFramePointer {
        /// In words.
        frame: u16,
        /// In words.
        saved: u16,
    },
    /// In an entry of a linkage table: one word is pushed in its last five bytes.
    LinkageTable,
}

/// One more than the largest distance of a saved frame pointer that fits.
const SAVED_LIMIT: u16 = 1 << 12;

impl Rule {
    /// A rule if the distances fit.
    pub(super) fn from_register(stack_pointer: bool, frame: u16, saved: u16) -> Option<Self> {
        if saved >= SAVED_LIMIT || frame == 0 {
            return None;
        }
        Some(if stack_pointer {
            Self::FromStackPointer { frame, saved }
        } else {
            Self::FromFramePointer { frame, saved }
        })
    }

    pub(super) fn pack(self) -> u32 {
        let distances = |frame: u16, saved: u16| u32::from(frame) << 16 | u32::from(saved & (SAVED_LIMIT - 1)) << 4;
        match self {
            Self::FramePointer => 0,
            Self::Root => 1,
            Self::FromStackPointer { frame, saved } => 2 | distances(frame, saved),
            Self::FromFramePointer { frame, saved } => 3 | distances(frame, saved),
            Self::LinkageTable => 4,
        }
    }

    pub(super) fn unpack(packed: u32) -> Self {
        let (frame, saved) = ((packed >> 16) as u16, (packed >> 4) as u16 & (SAVED_LIMIT - 1));
        match packed & 0xf {
            1 => Self::Root,
            2 => Self::FromStackPointer { frame, saved },
            3 => Self::FromFramePointer { frame, saved },
            4 => Self::LinkageTable,
            _ => Self::FramePointer,
        }
    }
}

/// A rule that holds from an address, relative to its module, up to that of the next row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) start: u32,
    packed: u32,
}

impl Row {
    pub(super) fn new(start: u32, rule: Rule) -> Self {
        Self { start, packed: rule.pack() }
    }

    pub(super) fn rule(self) -> Rule {
        Rule::unpack(self.packed)
    }
}

/// Bytes of code for which there is one entry of the index: a few rows on average, in a dense library.
const STRETCH: u32 = 512;

/// The rows of a module, by address, and an index into them, so that the search in a large library is short.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    rows: Box<[Row]>,
    /// For each stretch from the first row on: how many rows begin before it.
    index: Box<[u32]>,
}

impl Table {
    /// Of rows that are sorted.
    pub(super) fn new(rows: Vec<Row>) -> Self {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Self::default() };
        let starts = (0..=(last.start - first.start) / STRETCH).map(|stretch| first.start + stretch * STRETCH);
        let index = starts.map(|start| rows.partition_point(|row| row.start < start) as u32).collect();
        Self { index, rows: rows.into() }
    }

    /// The rule for an address. Called in the signal handler: it does not panic.
    pub(super) fn rule(&self, address: u32) -> Rule {
        self.row(address).map_or(Rule::FramePointer, |row| row.rule())
    }

    fn row(&self, address: u32) -> Option<&Row> {
        let stretch = (address.checked_sub(self.rows.first()?.start)? / STRETCH) as usize;
        let entry = |at: usize| self.index.get(at).map_or(self.rows.len(), |before| *before as usize);
        let (low, high) = (entry(stretch), entry(stretch + 1));
        let after = low + self.rows.get(low..high)?.partition_point(|row| row.start <= address);
        self.rows.get(after.checked_sub(1)?)
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.rows) + size_of_val(&*self.index)
    }

    #[cfg(test)]
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_survive_packing() {
        let mut rules = vec![Rule::FramePointer, Rule::Root, Rule::LinkageTable];
        for frame in [1, 2, 17, u16::MAX] {
            for saved in [0, 1, 2, SAVED_LIMIT - 1] {
                rules.extend([true, false].map(|sp| Rule::from_register(sp, frame, saved).unwrap()));
            }
        }
        for rule in rules {
            assert_eq!(Rule::unpack(rule.pack()), rule);
        }
        assert_eq!(Rule::from_register(true, 1, SAVED_LIMIT), None);
        assert_eq!(Rule::from_register(true, 0, 0), None);
    }

    #[test]
    fn a_row_holds_up_to_the_next() {
        let rows = vec![Row::new(10, Rule::Root), Row::new(20, Rule::LinkageTable)];
        let table = Table::new(rows);
        for (address, rule) in [
            (0, Rule::FramePointer),
            (9, Rule::FramePointer),
            (10, Rule::Root),
            (19, Rule::Root),
            (20, Rule::LinkageTable),
            (u32::MAX, Rule::LinkageTable),
        ] {
            assert_eq!(table.rule(address), rule, "{address}");
        }
        assert_eq!(Table::new(Vec::new()).rule(5), Rule::FramePointer);
    }

    proptest! {
        /// The index finds what a search over all rows finds.
        #[test]
        fn the_index_changes_nothing(
            starts in prop::collection::btree_set(0_u32..20_000, 0..200),
            addresses in prop::collection::vec(0_u32..21_000, 100),
        ) {
            let rule = |start: u32| Rule::from_register(true, 1 + (start % 5000) as u16, 0).unwrap();
            let table = Table::new(starts.iter().map(|start| Row::new(*start, rule(*start))).collect());
            for address in addresses.into_iter().chain(starts.iter().copied()) {
                let expected = starts.range(..=address).next_back().map_or(Rule::FramePointer, |start| rule(*start));
                prop_assert_eq!(table.rule(address), expected);
            }
        }
    }
}
