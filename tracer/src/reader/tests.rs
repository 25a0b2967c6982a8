//! The reader on traces of this process, and on damaged ones.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

static TRACE: LazyLock<Vec<u8>> = LazyLock::new(|| crate::program::traced(20));

#[test]
fn a_trace_of_ours_is_read_and_summed_up() {
    let summary = Summary::read(&TRACE[..]).expect("valid");
    let sender = summary.by_name().into_iter().find(|group| &*group.name == "sender").expect("it has a name");
    assert!(sender.running > 0 && sender.latency.count() >= 20, "{sender:?}");
    let waits =
        |reason: &str| summary.tasks().iter().filter_map(|task| task.blocked.get(reason)).map(|(_, n)| n).sum::<u64>();
    assert!(waits("chan send") + waits("chan receive") >= 10, "one of the two waits for each number");
    assert_eq!(waits("sleep"), 1);
    let syscalls: u64 = summary.tasks().iter().map(|task| task.syscall).sum();
    assert!(syscalls >= 1_000_000, "{syscalls}");
    // The two milliseconds begin while the task still runs, which the system may interrupt before it says that it waits.
    let sleeper = summary.tasks().into_iter().find(|task| task.blocked.contains_key("sleep")).expect("one sleeps");
    let (slept, _) = sleeper.blocked["sleep"];
    assert!(slept > 0 && sleeper.running + slept >= 1_990_000, "{sleeper:?}");
}

#[test]
fn user_annotations_are_there() {
    let mut seen = Vec::new();
    read(&TRACE[..], |event| match &event.kind {
        Kind::UserTaskBegin { name, .. } => seen.push(format!("begin {name}")),
        Kind::UserTaskEnd { .. } => seen.push("end".into()),
        Kind::Region { name, begins, task } => seen.push(format!("{name} {begins} {}", *task > 0)),
        Kind::Log { category, message, .. } if seen.len() < 3 => seen.push(format!("{category}: {message}")),
        _ => {}
    })
    .expect("valid");
    let expected =
        ["begin request", "receiving true true", "test: received", "receiving false true", "begin part", "end", "end"];
    assert_eq!(seen, expected);
}

#[test]
fn what_is_no_trace_is_refused_in_a_sentence() {
    let error = read(&b"<html>not found</html>"[..], |_| ()).expect_err("no trace");
    assert!(error.to_string().contains("begins with \"<html>not found<\""), "{error}");
    let cut = &TRACE[..TRACE.len() - 1];
    let error = read(cut, |_| ()).expect_err("its end is missing");
    assert!(error.to_string().contains("it ends within a generation"), "{error}");
}

#[test]
fn a_missing_event_is_noticed() {
    let summary = |bytes: &[u8]| read(bytes, |_| ()).map(|totals| totals.events());
    let whole = summary(&TRACE).expect("valid");
    let mut refused = 0;
    for at in 100..400 {
        let mut bytes = TRACE.to_vec();
        bytes[at] ^= 1;
        refused += u32::from(summary(&bytes).map_or(true, |events| events != whole));
    }
    assert!(refused > 50, "of 300 changes {refused} were noticed");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_traces_end_with_an_error_or_not_at_all_with_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = TRACE.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = Summary::read(&bytes[..]);
    }

    #[test]
    fn garbage_after_the_header_does_no_harm(garbage in prop::collection::vec(any::<u8>(), 0..4000)) {
        let mut bytes = crate::go::wire::HEADER.to_vec();
        bytes.extend(garbage);
        let _ = Summary::read(&bytes[..]);
    }
}
