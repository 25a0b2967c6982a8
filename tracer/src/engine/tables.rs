//! What events refer to by number: stacks, and texts. The tables live as long as the process, and are bounded.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    panic::Location,
    sync::Arc,
};

use crate::go::wire;

/// A number in one of the tables; 0 is none.
pub(crate) type Global = u32;

/// Distinct stacks that are kept, of events and of origins; events with others have none, and are counted.
const MAX_STACKS: usize = 1 << 16;

/// Distinct names that are kept: reasons, labels, names of regions and user tasks.
const MAX_NAMES: usize = 1 << 16;

/// For keys that are numbers without a pattern to fear: ids of tasks, which count up, and hashes.
#[derive(Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// A map whose keys are numbers.
pub(crate) type NumberMap<V> = HashMap<u64, V, BuildHasherDefault<NumberHasher>>;

/// A stack, as it was recorded.
#[derive(Debug)]
pub(crate) enum Stack {
    /// Return addresses, innermost first; with `exact_leaf`, the first is where the thread was interrupted.
    Addresses { addresses: Box<[usize]>, exact_leaf: bool },
    /// Not a stack: what a task is called, as a single frame.
    Origin(Origin),
}

/// Where a task comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// Its own name.
    pub(crate) name: Option<Box<str>>,
    /// The type of its closure.
    pub(crate) closure: Box<str>,
    /// Where it was spawned.
    pub(crate) site: Option<&'static Location<'static>>,
}

/// The stacks by number.
///
/// `Default` is none at all, to leave behind where one is taken from.
#[derive(Default)]
pub(crate) struct Stacks {
    all: Vec<Arc<Stack>>,
    by_hash: NumberMap<Global>,
    by_origin: HashMap<Origin, Global>,
    /// How often a stack was not kept.
    pub(crate) lost: u64,
}

impl Stacks {
    pub(crate) fn new() -> Self {
        let none = Arc::new(Stack::Addresses { addresses: Box::default(), exact_leaf: false });
        Self { all: vec![none], by_hash: NumberMap::default(), by_origin: HashMap::new(), lost: 0 }
    }

    pub(crate) fn get(&self, stack: Global) -> Arc<Stack> {
        self.all[stack as usize].clone()
    }

    /// The number of the stack with a hash. `addresses` are asked for if it is a new one.
    pub(crate) fn addresses(
        &mut self,
        hash: u64,
        exact_leaf: bool,
        addresses: impl FnOnce() -> Box<[usize]>,
    ) -> Global {
        let key = hash ^ u64::from(exact_leaf);
        match self.by_hash.get(&key) {
            Some(known) => *known,
            None => {
                let number = self.add(|| Stack::Addresses { addresses: addresses(), exact_leaf });
                if number != 0 {
                    self.by_hash.insert(key, number);
                }
                number
            }
        }
    }

    pub(crate) fn origin(&mut self, origin: Origin) -> Global {
        if let Some(known) = self.by_origin.get(&origin) {
            return *known;
        }
        let number = self.add(|| Stack::Origin(origin.clone()));
        if number != 0 {
            self.by_origin.insert(origin, number);
        }
        number
    }

    fn add(&mut self, stack: impl FnOnce() -> Stack) -> Global {
        if self.all.len() >= MAX_STACKS {
            self.lost += 1;
            return 0;
        }
        self.all.push(Arc::new(stack()));
        (self.all.len() - 1) as Global
    }
}

/// The names by number.
///
/// `Default` as for [`Stacks`].
#[derive(Default)]
pub(crate) struct Names {
    all: Vec<Arc<str>>,
    index: HashMap<Arc<str>, Global>,
}

impl Names {
    pub(crate) fn new() -> Self {
        let mut names = Self { all: vec!["".into()], index: HashMap::new() };
        names.number(Self::OVERFLOW);
        names
    }

    /// What stands for names that are not kept.
    const OVERFLOW: &str = "(too many different names)";

    pub(crate) fn get(&self, name: Global) -> Arc<str> {
        self.all[name as usize].clone()
    }

    pub(crate) fn number(&mut self, name: &str) -> Global {
        let name = wire::cut(name);
        if name.is_empty() {
            return 0;
        }
        if let Some(known) = self.index.get(name) {
            return *known;
        }
        if self.all.len() > MAX_NAMES {
            return 1;
        }
        let (name, number): (Arc<str>, _) = (name.into(), self.all.len() as Global);
        self.all.push(name.clone());
        self.index.insert(name, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_bounded_and_say_so() {
        let mut names = Names::new();
        for i in 0..MAX_NAMES + 10 {
            names.number(&i.to_string());
        }
        let [more, known] = ["one more", "17"].map(|name| names.number(name));
        assert_eq!(&*names.get(more), Names::OVERFLOW);
        assert_eq!(&*names.get(known), "17");

        let mut stacks = Stacks::new();
        for hash in 1..=(MAX_STACKS as u64) * 2 {
            stacks.addresses(hash << 1, false, || [hash as usize].into());
        }
        assert_eq!(stacks.all.len(), MAX_STACKS);
        assert_eq!(stacks.lost, MAX_STACKS as u64 + 1);
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let mut names = Names::new();
        let number = names.number(&"ä".repeat(1000));
        assert_eq!(names.get(number).len(), wire::MAX_STRING);
    }
}
