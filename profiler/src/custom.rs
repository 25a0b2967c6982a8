//! Profiles of a program's own: things that it has open, by the stack that opened them.
//!
//! ```
//! use greenprof_profiler::custom::{Entry, Profile};
//!
//! struct Connection {
//!     _open: Entry,
//! }
//!
//! let connections = Profile::new("connections")?;
//! let one = Connection { _open: connections.add() };
//! assert_eq!(connections.count(), 1);
//! drop(one);
//! assert_eq!(connections.count(), 0);
//! # Ok::<(), greenprof_profiler::custom::NameError>(())
//! ```
//!
//! A [`registry`](crate::registry) offers all that exist, as `/debug/pprof/NAME`. Where Go finds an entry by a value that must be
//! removed by hand, an entry here is a value that ends with what it is kept in.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{Arc, Weak},
};

use greenprof_runtime::{heap, labels::LabelSet, world::caller};
use parking_lot::Mutex;
use thiserror::Error;

use crate::{
    http::NamedProfile,
    profile::{self, LabelValue, ProfileError, ValueType, encode},
    symbolize,
    text::count::{CountRecord, write_count_profile},
};

/// Frames kept of each stack.
const MAX_FRAMES: usize = 64;

/// Names that profiles of this crate have, or that Go's do.
const TAKEN: [&str; 12] = [
    "allocs",
    "block",
    "cmdline",
    "goroutine",
    "goroutineleak",
    "heap",
    "mutex",
    "profile",
    "symbol",
    "threadcreate",
    "trace",
    "wall",
];

/// All profiles whose handle, or one of whose entries, exists. The lock guards the list only.
static PROFILES: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

/// Why a name cannot be had.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// Empty, with a slash, or the name of a profile that is built in.
    #[error(
        "{0:?} cannot be the name of a profile of your own: choose one that is not empty, has no slash, and is not built in"
    )]
    BadName(String),
    /// There is one of that name.
    #[error("there is a profile named {0:?} already: keep what `Profile::new` gave, and clone it")]
    Duplicate(String),
}

/// A profile of the program's own. Clones are the same profile; it exists until the last of them, and the last entry, is gone.
///
/// ```
/// use greenprof_profiler::custom::{NameError, Profile};
///
/// let sessions = Profile::new("sessions")?;
/// let open: Vec<_> = (0..3).map(|_| sessions.add()).collect();
/// assert_eq!((sessions.name(), sessions.count()), ("sessions", 3));
/// assert!(matches!(Profile::new("sessions"), Err(NameError::Duplicate(_))));
/// assert!(greenprof_profiler::registry().get("sessions").is_some(), "at /debug/pprof/sessions");
/// drop(open);
/// # Ok::<(), NameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Profile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    /// Guards the entries; held for a few stores, or while they are copied.
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    open: HashMap<u64, (Arc<[usize]>, LabelSet)>,
}

/// Something that is open. Dropping it takes it out of the profile.
///
/// ```
/// use greenprof_profiler::custom::{Entry, NameError, Profile};
///
/// /// Is in the profile for as long as it exists, wherever it goes.
/// struct Lease {
///     address: u32,
///     _entry: Entry,
/// }
///
/// let leases = Profile::new("leases")?;
/// let lease = Lease { address: 7, _entry: leases.add() };
/// assert_eq!((lease.address, leases.count()), (7, 1));
/// drop(lease);
/// assert_eq!(leases.count(), 0);
/// # Ok::<(), NameError>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it takes it out of the profile"]
pub struct Entry {
    profile: Arc<Inner>,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        heap::untracked(|| self.profile.entries.lock().open.remove(&self.number));
    }
}

impl Profile {
    /// A new profile.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() || name.contains('/') || TAKEN.contains(&name) {
            return Err(NameError::BadName(name.to_owned()));
        }
        heap::untracked(|| {
            let mut profiles = PROFILES.lock();
            profiles.retain(|profile| profile.strong_count() > 0);
            if profiles.iter().filter_map(Weak::upgrade).any(|known| known.name == name) {
                return Err(NameError::Duplicate(name.to_owned()));
            }
            let inner = Arc::new(Inner { name: name.to_owned(), entries: Mutex::default() });
            profiles.push(Arc::downgrade(&inner));
            Ok(Self(inner))
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many entries it has.
    pub fn count(&self) -> usize {
        self.0.entries.lock().open.len()
    }

    /// Adds an entry with the caller's stack, up to 64 frames, and its labels. Costs some 100 ns and a lock of this profile.
    #[inline(never)]
    pub fn add(&self) -> Entry {
        let mut stack = [0; MAX_FRAMES];
        let mut length = 0;
        let caller = caller::walk(|address| match stack.get_mut(length) {
            Some(place) => {
                *place = address;
                length += 1;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        });
        let number = heap::untracked(|| {
            let stack: Arc<[usize]> = stack[..length].into();
            let mut entries = self.0.entries.lock();
            let number = entries.next;
            entries.next += 1;
            entries.open.insert(number, (stack, caller.labels));
            number
        });
        Entry { profile: self.0.clone(), number }
    }

    fn entries(&self) -> Vec<(Arc<[usize]>, LabelSet)> {
        self.0.entries.lock().open.values().cloned().collect()
    }
}

/// All profiles that exist, for a registry.
pub(crate) fn all() -> Vec<Arc<dyn NamedProfile>> {
    let profiles = PROFILES.lock();
    profiles.iter().filter_map(Weak::upgrade).map(|inner| Arc::new(Profile(inner)) as Arc<dyn NamedProfile>).collect()
}

impl NamedProfile for Profile {
    fn name(&self) -> &str {
        self.name()
    }

    /// None, as in Go: the program chose the name.
    fn description(&self) -> &str {
        ""
    }

    fn count(&self) -> usize {
        self.count()
    }

    fn write(&self, debug: i64) -> Result<Vec<u8>, ProfileError> {
        heap::untracked(|| {
            let entries = self.entries();
            let mut symbolizer = symbolize::shared().lock();
            if debug > 0 {
                let records = entries.iter().map(|(stack, labels)| CountRecord {
                    count: 1,
                    stack: stack.to_vec(),
                    labels: labels.labels().iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
                    notes: Vec::new(),
                });
                return Ok(write_count_profile(self.name(), records, &mut symbolizer).into_bytes());
            }
            let kind = ValueType::new(self.name().to_owned(), "count");
            let mut profile = profile::Profile::new(vec![kind.clone()], kind, 1);
            for (stack, labels) in &entries {
                let labels = labels.labels();
                let labels = labels.iter().map(|(key, value)| (key.to_owned(), LabelValue::Str(value.to_owned())));
                profile.push(stack.to_vec(), vec![1], labels.collect());
            }
            profile.merge_equal();
            encode::encode(&profile, &mut symbolizer)
        })
    }

    /// Nothing, as in Go: entries come and go too fast for a difference of counts to say much.
    fn collect(&self) -> Option<profile::Profile> {
        None
    }

    fn supports_delta(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::encode::decode;

    #[inline(never)]
    fn open(profile: &Profile) -> Entry {
        let entry = profile.add();
        std::hint::black_box(&entry);
        entry
    }

    #[test]
    fn entries_are_counted_by_stack_while_they_exist() {
        let profile = Profile::new("custom test").expect("a new name");
        assert_eq!(Profile::new("custom test").expect_err("taken"), NameError::Duplicate("custom test".into()));
        let mut entries: Vec<Entry> = (0..3).map(|_| open(&profile)).collect();
        entries.push(greenprof_runtime::labels::with(&[("tenant", "a")], || open(&profile)));
        let text = String::from_utf8(profile.write(1).expect("text")).expect("UTF-8");
        assert!(text.starts_with("custom test profile: total 4\n3 @ 0x"), "{text}");
        assert!(text.contains("# labels: {\"tenant\":\"a\"}") && text.contains("custom::tests::open"), "{text}");
        let proto = decode(&profile.write(0).expect("bytes")).expect("a profile");
        let mut counts: Vec<i64> = proto.sample.iter().map(|sample| sample.value[0]).collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 3]);
        assert!(all().iter().any(|known| known.name() == "custom test"));
        drop(profile);
        assert!(all().iter().any(|known| known.name() == "custom test"), "an entry keeps its profile");
        entries.clear();
        assert!(all().iter().all(|known| known.name() != "custom test"));
        drop(Profile::new("custom test").expect("free again"));
    }

    #[test]
    fn built_in_names_are_refused() {
        for name in ["", "a/b", "heap", "profile", "goroutineleak"] {
            assert_eq!(Profile::new(name).expect_err(name), NameError::BadName(name.into()));
        }
    }
}
