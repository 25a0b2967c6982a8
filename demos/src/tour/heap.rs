//! What the heap profiles say: who holds memory, whose orders allocate, and whether that fits the allocator's own
//! count.

use serde::Serialize;

use super::{
    checks::{Check, check},
    profile::Profile,
};
use crate::{
    allocations::{by_function, by_label},
    scenario::Row,
};

/// The sample types in Go's order.
const TYPES: [(&str, &str); 4] =
    [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")];

/// The function that handles an order, in the task that carries the order's labels.
pub const HANDLE: &str = "greenprof_demos::orders::handle::handle";

/// How many standard errors an estimate may be away from the truth.
const STANDARD_ERRORS: f64 = 4.0;

/// What was allocated before the port was opened, at most: it is counted, but was not sampled.
const BEFORE_START: f64 = (1 << 20) as f64;

/// The heap profiles in rows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HeapReport {
    /// Bytes in use by function, the largest first.
    pub in_use: Vec<Row>,
    /// Bytes allocated by function.
    pub allocated: Vec<Row>,
    /// Bytes allocated by the label `tenant`.
    pub tenants: Vec<Row>,
    /// What the profile says about itself.
    pub notes: Vec<String>,
}

impl HeapReport {
    /// Sums up both profiles.
    pub fn new(heap: &Profile, allocs: &Profile) -> Self {
        Self {
            in_use: Row::list(by_function(heap, "inuse_space")),
            allocated: Row::list(by_function(allocs, "alloc_space")),
            tenants: Row::list(by_label(allocs, "alloc_space", "tenant")),
            notes: allocs.comments.clone(),
        }
    }
}

/// Both profiles have Go's types in Go's order, and each shows its own first.
pub fn types_are_gos(heap: &Profile, allocs: &Profile) -> Check {
    let right = |profile: &Profile| {
        profile.types.iter().map(|(name, unit)| (name.as_str(), unit.as_str())).eq(TYPES) && profile.period > 0
    };
    let found = format!("heap shows {} first, allocs {}", heap.shown_first, allocs.shown_first);
    let first = heap.shown_first == "inuse_space" && allocs.shown_first == "alloc_space";
    check("heap and allocs are Go's", right(heap) && right(allocs) && first, found)
}

/// What was allocated for an order carries the labels of its task.
pub fn labels_fit(allocs: &Profile) -> Check {
    let handles = |sample: &&super::profile::Sample| sample.calls(HANDLE);
    let all = allocs.samples.iter().filter(handles).count();
    let right = allocs.samples.iter().filter(handles);
    let right = right.filter(|sample| sample.label("tenant").is_some() && sample.label("route").is_some()).count();
    let found = format!("{right} of {all} call sites in the handling of orders have a tenant and a route");
    check("allocations carry their task's labels", all > 0 && right == all, found)
}

/// The allocator's own count, which was read after the first profile and before the second, lies between what both
/// estimate.
pub fn estimates_fit(earlier: &Profile, counted: Option<u64>, later: &Profile) -> Check {
    const NAME: &str = "samples agree with the allocator's count";
    let Some(counted) = counted.map(|counted| counted as f64) else {
        return check(NAME, false, "debug=1 does not say TotalAlloc");
    };
    let (Some(low), Some(high)) = (estimate(earlier), estimate(later)) else {
        return check(NAME, false, "the profile does not say how sure it is");
    };
    let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
    let found = format!(
        "{:.1} MiB counted, between {:.1} and {:.1} estimated (standard error {:.1})",
        mebibytes(counted),
        mebibytes(low.0),
        mebibytes(high.0),
        mebibytes(high.1)
    );
    let fits = low.0 - STANDARD_ERRORS * low.1 <= counted
        && counted <= high.0 + STANDARD_ERRORS * high.1 + BEFORE_START
        && high.0 > 0.0;
    check(NAME, fits, found)
}

/// Bytes allocated and their standard error, from the profile's comment.
fn estimate(profile: &Profile) -> Option<(f64, f64)> {
    let comment = profile.comment("allocated")?;
    let mut numbers = comment.split([' ', ',']).filter_map(|word| word.parse::<f64>().ok());
    let bytes = numbers.next()?;
    let (low, high) = (numbers.next()?, numbers.next()?);
    Some((bytes, (high - low) / 2.0 / 1.96))
}

/// A figure of the allocator in the `debug=1` text.
pub fn figure(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(name)?.strip_prefix(" = ")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::{
        super::profile::{Frame, Sample},
        *,
    };

    fn profile(shown_first: &str) -> Profile {
        let types = TYPES.map(|(name, unit)| (name.to_owned(), unit.to_owned())).to_vec();
        Profile { types, shown_first: shown_first.to_owned(), period: 1, ..Profile::default() }
    }

    #[test]
    fn types_and_their_first_are_judged() {
        assert!(types_are_gos(&profile("inuse_space"), &profile("alloc_space")).passed);
        assert!(!types_are_gos(&profile("alloc_space"), &profile("alloc_space")).passed);
        let mut other = profile("inuse_space");
        other.types.swap(0, 1);
        assert!(!types_are_gos(&other, &profile("alloc_space")).passed);
    }

    #[test]
    fn an_order_without_a_tenant_is_noticed() {
        let sample = |labels: &[&str]| Sample {
            frames: vec![Frame { function: HANDLE.to_owned(), ..Frame::default() }],
            labels: labels.iter().map(|key| ((*key).to_owned(), "x".to_owned())).collect(),
            values: vec![1; 4],
        };
        let with = |samples| labels_fit(&Profile { samples, ..profile("") }).passed;
        assert!(with(vec![sample(&["route", "tenant"])]));
        assert!(!with(vec![sample(&["route", "tenant"]), sample(&["route"])]));
        assert!(!with(vec![]));
    }

    #[test]
    fn a_count_outside_of_the_estimates_is_noticed() {
        let estimated = |bytes: u64, interval: u64| Profile {
            comments: vec![format!(
                "greenprof allocated: {bytes} bytes, {} to {} (95 %)",
                bytes - interval,
                bytes + interval
            )],
            ..profile("")
        };
        let fits =
            |counted| estimates_fit(&estimated(100 << 20, 2 << 20), counted, &estimated(200 << 20, 2 << 20)).passed;
        assert!(fits(Some(150 << 20)) && fits(Some(98 << 20)) && fits(Some(203 << 20)));
        assert!(!fits(Some(80 << 20)) && !fits(Some(220 << 20)) && !fits(None));
        assert!(!estimates_fit(&profile(""), Some(1), &profile("")).passed);
        assert_eq!(figure("# Alloc = 7\n# TotalAlloc = 9\n", "TotalAlloc"), Some(9));
        assert_eq!(figure("# Alloc = 7\n", "TotalAlloc"), None);
    }
}
