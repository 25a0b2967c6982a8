//! What was seen against what should be.

use super::{
    child::Observation,
    program::{Form, Kind},
    sites::Sites,
};

/// The judgement of one run.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Leaked tasks that should be found.
    pub expected: Sites,
    /// Those of them that were found.
    pub found: Sites,
    /// What was reported and should not have been.
    pub false_positives: Sites,
    /// Why the program is not what it claims to be, if it is not. No detector's fault.
    pub defect: Option<String>,
    /// Why the detector may have missed some, in its own words.
    pub incomplete: Option<String>,
    /// Why some were missed, if that was asked for.
    pub why: Vec<String>,
    /// How long the detector took, in microseconds.
    pub micros: u64,
}

impl Verdict {
    /// Judges what was seen of a form.
    pub fn of(form: &Form, seen: Observation) -> Self {
        let sites = |counted: Vec<_>| counted.into_iter().collect::<Sites>();
        let (blocked, reported, left) = (sites(seen.blocked), sites(seen.reported), sites(seen.left));
        let held = Sites::of(form.held, form.instances);
        let (expected, defect) = match form.kind {
            Kind::Natural => {
                let (leaked, allowed) = (blocked.minus(&held), Sites::of(form.leaks, form.instances));
                let defect = (!leaked.within(&allowed)).then(|| format!("not foreseen: {}", leaked.minus(&allowed)));
                (leaked.common(&allowed), defect)
            }
            _ => {
                let leaks = Sites::of(form.leaks, 1);
                let all = leaks.clone().plus(held.clone());
                // Those who hold what is held are there, too.
                let right = if held.is_empty() { blocked == all } else { all.within(&blocked) };
                (leaks, (!right).then(|| format!("should be blocked: {all}; was there: {blocked}")))
            }
        };
        let defect = defect.or_else(|| (!left.is_empty()).then(|| format!("could not be woken: {left}")));
        Self {
            found: reported.common(&expected),
            false_positives: reported.minus(&expected),
            expected,
            defect,
            incomplete: seen.incomplete,
            why: seen.why,
            micros: seen.micros,
        }
    }

    /// The judgement of a run that came to no end.
    pub fn broken(why: String) -> Self {
        Self { defect: Some(why), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::program::Site, *};
    use greenprof_runtime::task::WaitReason::{ChanReceive, ChanSend};

    const LEAKS: &[Site] = &[Site("sender", ChanSend, 2)];
    const HELD: &[Site] = &[Site("receiver", ChanReceive, 1)];

    fn seen(blocked: &[Site], reported: &[Site]) -> Observation {
        let counted = |sites| Sites::of(sites, 1).counted();
        Observation { blocked: counted(blocked), reported: counted(reported), ..Observation::default() }
    }

    #[test]
    fn a_miss_is_no_defect() {
        let form = Form::forced(|_| {}, LEAKS);
        let verdict = Verdict::of(&form, seen(LEAKS, &[Site("sender", ChanSend, 1)]));
        assert!(verdict.defect.is_none() && verdict.false_positives.is_empty());
        assert_eq!((verdict.found.total(), verdict.expected.total()), (1, 2));
    }

    #[test]
    fn what_is_held_must_not_be_reported() {
        let form = Form::forced(|_| {}, &[]).held(HELD);
        let verdict = Verdict::of(&form, seen(HELD, HELD));
        assert_eq!(verdict.false_positives, Sites::of(HELD, 1));
        assert!(verdict.defect.is_none());
        assert!(Verdict::of(&form, seen(&[], &[])).defect.is_some(), "it was not even blocked");
    }

    #[test]
    fn more_than_expected_is_a_defect_in_the_forced_form_and_less_is_none_in_the_natural() {
        let one = &[Site("sender", ChanSend, 1)];
        assert!(Verdict::of(&Form::forced(|_| {}, LEAKS), seen(one, one)).defect.is_some());
        let natural = Form::natural(|_| {}, LEAKS);
        let verdict = Verdict::of(&natural, seen(one, one));
        assert!(verdict.defect.is_none() && verdict.expected.total() == 1);
        assert!(Verdict::of(&natural, seen(HELD, &[])).defect.is_some());
    }

    #[test]
    fn one_reported_too_often_is_a_false_positive() {
        let form = Form::forced(|_| {}, LEAKS);
        let verdict = Verdict::of(&form, seen(LEAKS, &[Site("sender", ChanSend, 3)]));
        assert_eq!((verdict.found.total(), verdict.false_positives.total()), (2, 1));
    }
}
