//! A profile's samples as stacks of names, summed: what a flame graph is drawn from.
//!
//! The profile may come from anybody, so no index in it is believed.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use super::labels::Filter;
use crate::profile::proto;

/// The largest sum that is drawn: up to here a double, in which the browser counts, is exact. In nanoseconds, 104 days.
const MAX_TOTAL: u64 = 1 << 53;

/// How many functions the table has.
const TOP: usize = 100;

/// Which value of the samples is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    index: usize,
    pub kind: String,
    pub unit: String,
}

impl Column {
    /// All of a profile.
    pub fn all(profile: &proto::Profile) -> Vec<Self> {
        let named = |(index, value): (usize, &proto::ValueType)| Self {
            index,
            kind: text(profile, value.r#type).to_owned(),
            unit: text(profile, value.unit).to_owned(),
        };
        profile.sample_type.iter().enumerate().map(named).collect()
    }

    /// The one of that name; without a name the profile's own choice, or the last, as in `go tool pprof`.
    ///
    /// # Errors
    /// A sentence that names those that there are.
    pub fn choose(profile: &proto::Profile, name: Option<&str>) -> Result<Self, String> {
        let mut all = Self::all(profile);
        let default = text(profile, profile.default_sample_type);
        let wanted = name.unwrap_or(default);
        if let Some(found) = all.iter().position(|column| column.kind == wanted) {
            return Ok(all.swap_remove(found));
        }
        let kinds: Vec<&str> = all.iter().map(|column| column.kind.as_str()).collect();
        match name {
            Some(name) => Err(format!("there is no value {name:?} in the profile; there are: {}", kinds.join(", "))),
            None => all.pop().ok_or_else(|| "the profile has no values".to_owned()),
        }
    }

    /// That of another profile which means the same.
    ///
    /// # Errors
    /// A sentence that says that the two cannot be compared.
    pub fn same(profile: &proto::Profile, other: &Self) -> Result<Self, String> {
        let same = |column: &Self| column.kind == other.kind && column.unit == other.unit;
        Self::all(profile).into_iter().find(same).ok_or_else(|| {
            format!("the profile to compare with has no value {:?} in {}: take two of one kind", other.kind, other.unit)
        })
    }

    /// Of one sample.
    pub fn of(&self, sample: &proto::Sample) -> i64 {
        sample.value.get(self.index).copied().unwrap_or(0)
    }
}

/// The sums.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    /// By stack, outermost function first.
    pub sums: BTreeMap<Vec<String>, u64>,
    /// Of all stacks.
    pub total: u64,
    /// How many samples are in them.
    pub samples: usize,
    /// Samples left out because their value is negative, which a width cannot be: what shrank, in a profile of changes.
    pub negative: usize,
}

impl Stacks {
    /// Of a profile's samples that pass the filter.
    ///
    /// # Errors
    /// A sentence that says that the numbers are too large.
    pub fn of(profile: &proto::Profile, column: &Column, filter: &Filter) -> Result<Self, String> {
        let names = Names::new(profile);
        let mut stacks = Self::default();
        for sample in profile.sample.iter().filter(|sample| filter.passes(profile, sample)) {
            let value = match u64::try_from(column.of(sample)) {
                Ok(0) => continue,
                Ok(value) => value,
                Err(_) => {
                    stacks.negative += 1;
                    continue;
                }
            };
            stacks.samples += 1;
            stacks.total = stacks.total.saturating_add(value);
            if stacks.total > MAX_TOTAL {
                return Err(format!("the profile's values come to more than {MAX_TOTAL}, which cannot be drawn"));
            }
            *stacks.sums.entry(names.stack(sample)).or_default() += value;
        }
        Ok(stacks)
    }

    /// The functions with the largest values: in themselves (`flat`), and with what they called (`cumulative`).
    pub fn top(&self) -> Vec<Value> {
        let mut sums: HashMap<&str, (u64, u64)> = HashMap::new();
        for (stack, value) in &self.sums {
            if let Some(leaf) = stack.last() {
                sums.entry(leaf).or_default().0 += value;
            }
            // A function that calls itself is counted once.
            for name in stack.iter().collect::<HashSet<_>>() {
                sums.entry(name).or_default().1 += value;
            }
        }
        let mut rows: Vec<(&str, (u64, u64))> = sums.into_iter().collect();
        rows.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        rows.truncate(TOP);
        let row = |(name, (flat, cumulative)): (&str, (u64, u64))| json!({ "name": name, "flat": flat, "cumulative": cumulative });
        rows.into_iter().map(row).collect()
    }
}

/// The names of a profile's locations: of each its functions, innermost first.
struct Names(HashMap<u64, Vec<String>>);

impl Names {
    fn new(profile: &proto::Profile) -> Self {
        let functions: HashMap<u64, &str> = profile.function.iter().map(|it| (it.id, text(profile, it.name))).collect();
        let files: HashMap<u64, &str> = profile.mapping.iter().map(|it| (it.id, text(profile, it.filename))).collect();
        let names = profile.location.iter().map(|location| {
            let known = location.line.iter().filter_map(|line| functions.get(&line.function_id));
            let mut names: Vec<String> = known.filter(|name| !name.is_empty()).map(|&name| name.to_owned()).collect();
            if names.is_empty() {
                let file = files.get(&location.mapping_id).and_then(|path| path.rsplit('/').next());
                names.push(match file.filter(|name| !name.is_empty()) {
                    Some(name) => format!("[{name}]"),
                    None => format!("{:#x}", location.address),
                });
            }
            (location.id, names)
        });
        Self(names.collect())
    }

    /// Outermost first; what has no stack is shown as that.
    fn stack(&self, sample: &proto::Sample) -> Vec<String> {
        let known = sample.location_id.iter().filter_map(|id| self.0.get(id));
        let mut stack: Vec<String> = known.flatten().cloned().collect();
        stack.reverse();
        if stack.is_empty() {
            stack.push("[no stack]".to_owned());
        }
        stack
    }
}

/// A string of the table; empty if there is none of that index.
pub(super) fn text(profile: &proto::Profile, index: i64) -> &str {
    usize::try_from(index).ok().and_then(|index| profile.string_table.get(index)).map_or("", String::as_str)
}
