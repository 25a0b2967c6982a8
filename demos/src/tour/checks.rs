//! What the profiles must say, because the program knows what it did.
//!
//! Every check is a function of plain data, so that each can be shown to fail. A check that measures says how sure it is:
//! samples are counts, and a ratio of two counts *a* and *b* has a relative standard error of about √(1/a + 1/b).

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    cpu::{LabelRow, Values},
    profile::Profile,
    tasks::{Census, Counted},
};
use crate::{
    console::{GREEN, Paint, RED},
    orders::{parked::PARKED, store::Mismatch, tally::Counts},
    table::percent,
};

/// A ratio is off if it is further away than that many standard errors. There is one comparison for each of a few tenants,
/// and all of them are right in all but one of some thousand runs.
const STANDARD_ERRORS: f64 = 4.0;

/// Fewer samples of a tenant than that say nothing about its share.
const FEWEST_SAMPLES: i64 = 15;

/// The part of the process's CPU time that may be missing from a profile or in excess: threads that ended before they
/// were found, and half a period for each thread.
const UNCOVERED: f64 = 0.10;

/// The part of the stacks that may end before the task's or thread's first function: samples in a thread whose stack was
/// not known yet. Without tables for code that keeps no frame pointers, so on other processors, there are more.
const TRUNCATED: f64 = 0.02;

/// Those are some for each thread, however short the profile: of fewer stacks than that the same number may be truncated.
const FEWEST_STACKS: f64 = 500.0;

/// One check and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What must be so.
    pub name: &'static str,
    /// Whether it is.
    pub passed: bool,
    /// What was found.
    pub found: String,
}

/// A check with what was found.
pub fn check(name: &'static str, passed: bool, found: impl Into<String>) -> Check {
    Check { name, passed, found: found.into() }
}

/// Checks as lines, each with its verdict.
pub fn table(checks: &[Check], paint: Paint) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let line = |check: &Check| {
        let verdict = if check.passed { paint.text(GREEN, "PASS") } else { paint.text(RED, "FAIL") };
        format!("  {verdict}  {:<width$}  {}\n", check.name, check.found)
    };
    checks.iter().map(line).collect()
}

/// The function with the most time in its own code is the one that does the work.
///
/// What was inlined into a function is its own code here: a call that the compiler has dissolved is no other place.
pub fn hot_function(profile: &Profile, values: Values, expected: &str) -> Check {
    const NAME: &str = "the hot function is hot";
    let mut own: BTreeMap<&str, i64> = BTreeMap::new();
    for sample in &profile.samples {
        if let Some(frame) = sample.containing() {
            *own.entry(&frame.function).or_default() += sample.values[values.samples];
        }
    }
    let total = profile.sum(values.samples, |_| true);
    let Some((first, samples)) = own.into_iter().max_by_key(|&(_, samples)| samples) else {
        return check(NAME, false, "the profile has no samples");
    };
    let inlined = profile.sum(values.samples, |sample| {
        let leaf_is_inlined = sample.frames.first().is_some_and(|frame| frame.inlined);
        leaf_is_inlined && sample.containing().is_some_and(|frame| frame.function == first)
    });
    let share = |part: i64| percent(part as f64, total as f64);
    let found =
        format!("{first} has {} of {total} samples ({} in what was inlined into it)", share(samples), share(inlined));
    check(NAME, first == expected, found)
}

/// The tenant that sent more orders than each other has used as much more CPU: than each, and than all of them together,
/// within what the number of samples can tell.
pub fn busy_tenant(tenants: &[LabelRow], busy: &str) -> Check {
    const NAME: &str = "CPU follows orders";
    let known = || tenants.iter().filter(|row| row.orders.is_some());
    let Some(first) = known().find(|row| row.label == busy) else {
        return check(NAME, false, format!("{busy} has no orders"));
    };
    let others: Vec<&LabelRow> = known().filter(|row| row.label != busy).collect();
    let Some(fewest) = others.iter().map(|row| row.samples.min(first.samples)).min() else {
        return check(NAME, false, format!("there is no tenant but {busy}"));
    };
    if fewest < FEWEST_SAMPLES {
        let few = format!("{fewest} samples of a tenant are too few to tell; capture for longer, with --seconds");
        return check(NAME, false, few);
    }
    let compared: Vec<Ratio> = others.iter().map(|other| Ratio::new(first, &[other])).collect();
    let together = Ratio::new(first, &others);
    let off = |ratio: &Ratio| (ratio.samples / ratio.orders).ln().abs() > ratio.tolerance;
    let ratios = || compared.iter().map(|ratio| ratio.samples);
    let mut found = format!(
        "{busy} has {:.2} times the CPU of another ({:.2} to {:.2}) and {:.2} times the orders; \
         chance explains {:.2} to {:.2}",
        together.samples,
        ratios().fold(f64::INFINITY, f64::min),
        ratios().fold(0.0, f64::max),
        together.orders,
        together.orders * (-together.tolerance).exp(),
        together.orders * together.tolerance.exp(),
    );
    let strangers = others.iter().zip(&compared).filter(|(_, ratio)| off(ratio));
    let strangers: Vec<&str> = strangers.map(|(other, _)| other.label.as_str()).collect();
    if !strangers.is_empty() {
        found.push_str(&format!("; off: {}", strangers.join(", ")));
    }
    check(NAME, strangers.is_empty() && !off(&together), found)
}

/// How many times as much one tenant has as the mean of others.
struct Ratio {
    samples: f64,
    orders: f64,
    /// How far the logarithm of `samples` may be from that of `orders` by chance. The logarithm, because it is about
    /// normally distributed also for few samples.
    tolerance: f64,
}

impl Ratio {
    fn new(first: &LabelRow, others: &[&LabelRow]) -> Self {
        let samples = others.iter().map(|row| row.samples).sum::<i64>() as f64;
        let orders = others.iter().filter_map(|row| row.orders).sum::<u64>() as f64;
        let n = others.len() as f64;
        Self {
            samples: first.samples as f64 / samples * n,
            orders: first.orders.unwrap_or(0) as f64 / orders * n,
            tolerance: STANDARD_ERRORS * (1.0 / first.samples as f64 + 1.0 / samples).sqrt(),
        }
    }
}

/// Samples in the hot function carry labels, and samples of the task that only writes carry none: a sample has the labels
/// of the task that it was taken in, although tasks move between threads.
pub fn labels_fit(profile: &Profile, values: Values, worker: &str, writer: &str) -> Check {
    const NAME: &str = "labels agree with stacks";
    let working = |sample: &super::profile::Sample| sample.calls(worker);
    let labelled =
        |sample: &super::profile::Sample| sample.label("tenant").is_some() && sample.label("route").is_some();
    let all = profile.sum(values.samples, working);
    let right = profile.sum(values.samples, |sample| working(sample) && labelled(sample));
    let wrong = profile.sum(values.samples, |sample| sample.calls(writer) && sample.label("tenant").is_some());
    let found = format!(
        "{right} of {all} samples that price an order have a tenant and a route, {wrong} of the store's writer have one"
    );
    check(NAME, all > 0 && right == all && wrong == 0, found)
}

/// Tasks that wait have no CPU samples.
pub fn parked_use_nothing(profile: &Profile, values: Values, (key, value): (&str, &str)) -> Check {
    let samples = profile.sum(values.samples, |sample| sample.label(key) == Some(value));
    let tasks: usize = PARKED.iter().map(|parked| parked.count).sum();
    let found = format!("{samples} samples in {tasks} tasks that only wait");
    check("who waits uses no CPU", samples == 0, found)
}

/// The samples stand for the CPU time that the process has used, as the profile itself states both.
pub fn coverage(profile: &Profile) -> Check {
    const NAME: &str = "the CPU time is all there";
    let Some(comment) = profile.comment("cpu") else {
        return check(NAME, false, "the profile does not say how much CPU the process used");
    };
    let mut numbers = comment.split(' ').filter_map(|word| word.parse::<f64>().ok());
    let (Some(sampled), Some(used)) = (numbers.next(), numbers.next()) else {
        return check(NAME, false, format!("cannot be read: {comment}"));
    };
    let found = format!("{sampled:.2} s sampled of {used:.2} s used ({})", percent(sampled, used));
    check(NAME, used > 0.0 && (sampled - used).abs() <= UNCOVERED * used, found)
}

/// Nearly all stacks are whole, as the profile itself states.
pub fn stacks_are_whole(profile: &Profile) -> Check {
    const NAME: &str = "stacks are whole";
    let Some(comment) = profile.comment("truncated") else {
        return check(NAME, false, "the profile does not say how many stacks were truncated");
    };
    let mut numbers = comment.split(' ').filter_map(|word| word.parse::<f64>().ok());
    let (Some(truncated), Some(all)) = (numbers.next(), numbers.next()) else {
        return check(NAME, false, format!("cannot be read: {comment}"));
    };
    let few = cfg!(not(target_arch = "x86_64")) || truncated < TRUNCATED * all.max(FEWEST_STACKS);
    check(NAME, all > 0.0 && few, format!("{truncated} of {all} truncated ({})", percent(truncated, all)))
}

/// The tasks that are known to wait are there, each for its reason.
pub fn parked_are_seen(parked: &Census) -> Check {
    let mut wrong: Vec<String> = Vec::new();
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for known in &PARKED {
        let seen = parked.get(&(known.name.to_owned(), known.reason.to_owned())).copied().unwrap_or(0);
        *reasons.entry(known.reason).or_default() += seen;
        if seen != known.count as u64 {
            wrong.push(format!("{} {} in {}, not {seen}", known.count, known.name, known.reason));
        }
    }
    let all: u64 = parked.values().sum();
    let known: u64 = PARKED.iter().map(|parked| parked.count as u64).sum();
    if wrong.is_empty() && all != known {
        wrong.push(format!("{known} tasks, not {all}"));
    }
    let found = match wrong.as_slice() {
        [] => reasons.iter().map(|(reason, tasks)| format!("{tasks} in {reason}")).collect::<Vec<_>>().join(", "),
        wrong => format!("should be {}", wrong.join("; ")),
    };
    check("waiting tasks are seen, with why", wrong.is_empty(), found)
}

/// The three forms of the task profile tell the same about the tasks that do not change between two captures.
pub fn forms_agree(binary: &Census, counts: Option<Counted>, dump: &Census) -> Check {
    const NAME: &str = "debug=0, 1 and 2 agree";
    let Some(counts) = counts else { return check(NAME, false, "debug=1 does not start as a count of tasks") };
    if counts.total != counts.sum {
        let found = format!("debug=1 says total {} above records of {} tasks", counts.total, counts.sum);
        return check(NAME, false, found);
    }
    let sum = |census: &Census| census.values().sum::<u64>();
    let found = format!("{}, {} and {} waiting tasks", sum(binary), counts.labelled, sum(dump));
    check(NAME, binary == dump && sum(binary) == counts.labelled && !binary.is_empty(), found)
}

/// The service did its work right while it was looked at.
pub fn orders_are_right(counts: &Counts, stored: &Result<u64, Mismatch>) -> Check {
    const NAME: &str = "the service did its work";
    match stored {
        Err(mismatch) => check(NAME, false, mismatch.to_string()),
        Ok(stored) => {
            let found = format!(
                "{} orders handled, {} priced wrong, {stored} stored and added up",
                counts.total(),
                counts.wrong
            );
            check(NAME, counts.total() > 0 && counts.wrong == 0 && *stored > 0, found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::cpu::{
            NO_LABEL,
            tests::{profile, sample},
        },
        *,
    };
    use crate::orders::parked::LABEL;

    fn values() -> Values {
        Values { samples: 0, cpu: 1 }
    }

    #[test]
    fn the_hot_function_is_judged_with_what_was_inlined_into_it() {
        let samples = || {
            vec![
                sample(&["~rounded", "price", "handle"], &[], 40),
                sample(&["price", "handle"], &[], 30),
                sample(&["decode", "handle"], &[], 35),
            ]
        };
        let good = hot_function(&profile(samples()), values(), "price");
        assert!(good.passed, "{good:?}");
        assert_eq!(good.found, "price has 66.7% of 105 samples (38.1% in what was inlined into it)");
        let mut slow = samples();
        slow.push(sample(&["decode", "handle"], &[], 50));
        let bad = hot_function(&profile(slow), values(), "price");
        assert!(!bad.passed && bad.found.starts_with("decode has"), "{bad:?}");
        assert!(!hot_function(&profile(vec![]), values(), "price").passed);
    }

    fn tenants(samples: [i64; 3], orders: [u64; 3]) -> Vec<LabelRow> {
        let labels = ["acme", "b", "c"].into_iter();
        let rows = labels.zip(samples).zip(orders).map(|((label, samples), orders)| LabelRow {
            label: label.to_owned(),
            samples,
            cpu_seconds: samples as f64 / 100.0,
            orders: Some(orders),
        });
        let none = LabelRow { label: NO_LABEL.to_owned(), samples: 5, ..LabelRow::default() };
        rows.chain([none]).collect()
    }

    #[test]
    fn a_tenants_share_is_judged_by_the_number_of_samples() {
        let passed = |samples, orders| busy_tenant(&tenants(samples, orders), "acme").passed;
        assert!(passed([300, 100, 110], [3000, 1000, 1000]));
        // As many orders for each: 300 samples against 100 is 9 standard errors away.
        assert!(!passed([300, 100, 110], [1000, 1000, 1000]));
        // One of the two is enough, and it is named.
        let found = busy_tenant(&tenants([300, 100, 300], [3000, 1000, 1000]), "acme").found;
        assert!(
            found.starts_with("acme has 1.50 times the CPU of another (1.00 to 3.00) and 3.00 times the orders"),
            "{found}"
        );
        assert!(found.ends_with("; off: c"), "{found}");
        assert!(!passed([300, 100, 300], [3000, 1000, 1000]));
        // The same ratio from a tenth of the samples could be chance.
        assert!(passed([45, 30, 30], [3000, 1000, 1000]));
        assert!(!passed([4500, 3000, 3000], [3000, 1000, 1000]));
        // 5.1 times one other could be chance, 5.1 times two others is not.
        assert!(busy_tenant(&tenants([255, 50, 50], [3000, 1000, 1000])[..2], "acme").passed);
        assert!(!passed([255, 50, 50], [3000, 1000, 1000]));
    }

    #[test]
    fn too_few_samples_or_tenants_are_no_pass() {
        let few = busy_tenant(&tenants([60, 20, 14], [3000, 1000, 1000]), "acme");
        assert!(!few.passed && few.found.contains("--seconds"), "{few:?}");
        assert!(!busy_tenant(&tenants([60, 60, 60], [3, 1, 1]), "nobody").passed);
        assert!(!busy_tenant(&tenants([60, 60, 60], [3, 1, 1])[..1], "acme").passed);
        assert!(!busy_tenant(&tenants([60, 60, 60], [3, 0, 1]), "acme").passed);
    }

    #[test]
    fn every_sample_of_the_work_has_labels_and_none_of_the_writer() {
        let labels = [("tenant", "a"), ("route", "/x")];
        let good = || vec![sample(&["price", "handle"], &labels, 9), sample(&["insert", "write"], &[], 2)];
        let judge = |samples| labels_fit(&profile(samples), values(), "price", "write");
        assert!(judge(good()).passed);
        let with = |stack: &[&str], labels: &[(&str, &str)]| {
            let mut samples = good();
            samples.push(sample(stack, labels, 1));
            judge(samples).passed
        };
        assert!(with(&["malloc", "other"], &[]), "what does not price an order needs no label");
        assert!(!with(&["price", "handle"], &[]));
        assert!(!with(&["price", "handle"], &labels[..1]));
        assert!(!with(&["write"], &labels));
        assert!(!judge(vec![]).passed, "without samples nothing is shown");
    }

    #[test]
    fn a_sample_of_a_parked_task_is_wrong() {
        let judge = |samples| parked_use_nothing(&profile(samples), values(), LABEL).passed;
        assert!(judge(vec![sample(&["price"], &[("role", "busy")], 3)]));
        assert!(!judge(vec![sample(&["recv"], &[LABEL], 1)]));
    }

    #[test]
    fn missing_cpu_time_is_wrong() {
        let judge = |comment: &str| {
            let mut profile = profile(vec![]);
            profile.comments = vec![comment.to_owned()];
            coverage(&profile)
        };
        let rest = "0.05 s not covered; 5 threads sampled, 0 not";
        assert!(judge(&format!("greenprof cpu: 9.95 s sampled, 10.00 s used by the process, {rest}")).passed);
        assert!(!judge(&format!("greenprof cpu: 8.00 s sampled, 10.00 s used by the process, {rest}")).passed);
        assert!(!judge("greenprof cpu: much").passed);
        assert!(!judge("something else").passed);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn stacks_that_are_cut_are_wrong() {
        let judge = |comment: &str| {
            let mut profile = profile(vec![]);
            profile.comments = vec![comment.to_owned()];
            stacks_are_whole(&profile).passed
        };
        assert!(judge("greenprof truncated: 15 of 800 stacks (1.9 %)"));
        assert!(judge("greenprof truncated: 9 of 80 stacks (11.3 %)"));
        assert!(!judge("greenprof truncated: 10 of 80 stacks (12.5 %)"));
        assert!(!judge("greenprof truncated: 16 of 800 stacks (2.0 %)"));
        assert!(!judge("greenprof truncated: 0 of 0 stacks (0.0 %)"));
        assert!(!judge("greenprof truncated: some") && !judge("something else"));
    }

    fn parked() -> Census {
        PARKED.iter().map(|known| ((known.name.to_owned(), known.reason.to_owned()), known.count as u64)).collect()
    }

    #[test]
    fn a_parked_task_that_is_missing_or_waits_for_something_else_is_wrong() {
        let good = parked_are_seen(&parked());
        assert!(good.passed && good.found.contains("5 in chan receive"), "{good:?}");
        let mut missing = parked();
        *missing.values_mut().next().unwrap() -= 1;
        assert!(!parked_are_seen(&missing).passed);
        let mut more = parked();
        more.insert(("stranger".to_owned(), "sleep".to_owned()), 1);
        assert!(!parked_are_seen(&more).passed);
        let mut other = parked();
        let drain = other.remove(&("drain".to_owned(), "sync.WaitGroup.Wait".to_owned())).unwrap();
        other.insert(("drain".to_owned(), "sleep".to_owned()), drain);
        let bad = parked_are_seen(&other);
        assert_eq!(bad.found, "should be 1 drain in sync.WaitGroup.Wait, not 0");
    }

    #[test]
    fn forms_that_disagree_are_wrong() {
        let known: u64 = parked().values().sum();
        let counts = Counted { total: 40, sum: 40, labelled: known };
        assert!(forms_agree(&parked(), Some(counts), &parked()).passed);
        assert!(!forms_agree(&parked(), Some(Counted { sum: 39, ..counts }), &parked()).passed);
        assert!(!forms_agree(&parked(), Some(Counted { labelled: known - 1, ..counts }), &parked()).passed);
        assert!(!forms_agree(&parked(), Some(counts), &Census::new()).passed);
        assert!(!forms_agree(&parked(), None, &parked()).passed);
    }

    #[test]
    fn wrong_or_missing_work_is_wrong() {
        let mut counts = Counts::default();
        assert!(!orders_are_right(&counts, &Ok(5)).passed, "nothing was done");
        counts.done.insert(("a".to_owned(), "/x".to_owned()), 5);
        assert!(orders_are_right(&counts, &Ok(5)).passed);
        assert!(!orders_are_right(&counts, &Ok(0)).passed);
        let record = crate::orders::store::Record { times: 2, sum: 3 };
        assert!(!orders_are_right(&counts, &Err(Mismatch { id: 1, record, expected: 1 })).passed);
        counts.wrong = 1;
        assert!(!orders_are_right(&counts, &Ok(5)).passed);
    }
}
