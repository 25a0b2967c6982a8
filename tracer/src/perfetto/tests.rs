//! The converted trace of a program, decoded: slices, arrows and times, and the bound.

use std::{collections::HashMap, sync::LazyLock};

use proptest::prelude::*;
use prost::Message;

use super::{
    messages::{Event, Packet, event},
    *,
};
use crate::{Builder, Format, program};

/// A file.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(message, repeated, tag = "1")]
    packets: Vec<Packet>,
}

/// Numbers that the program sends.
const NUMBERS: u32 = 200;

fn capture(max_bytes: u64) -> Vec<u8> {
    let _alone = program::alone();
    let builder = Builder::new().format(Format::Perfetto).max_bytes(max_bytes);
    let trace = builder.start(Vec::new()).expect("hooks are built in");
    program::run(NUMBERS);
    trace.stop().expect("a whole trace").0
}

/// Checks what every file has to keep. How many arrows there are.
fn check(bytes: &[u8]) -> usize {
    let file = File::decode(bytes).expect("whole packets");
    let (mut time, mut open, mut arrows) = (0, HashMap::<u64, i64>::new(), HashMap::<u64, (u32, u32)>::new());
    let mut described = Vec::new();
    let mut names: Vec<u64> = Vec::new();
    for packet in &file.packets {
        if packet.sequence_flags.unwrap_or(0) & messages::flags::CLEARED != 0 {
            names.clear();
        }
        names.extend(packet.interned.iter().flat_map(|new| &new.event_names).filter_map(|name| name.id));
        if let Some(track) = &packet.track {
            assert!(track.parent.is_none_or(|parent| described.contains(&parent)), "{track:?}");
            described.push(track.uuid.expect("a number"));
        }
        let Some(Event { kind, track, flows, ended_flows, name, .. }) = &packet.event else { continue };
        assert!(packet.timestamp >= Some(time), "{packet:?}");
        time = packet.timestamp.expect("a time");
        let track = track.expect("a track");
        assert!(described.contains(&track), "{packet:?}");
        assert!(name.is_none_or(|name| names.contains(&name)), "{packet:?}");
        match kind.expect("a kind") {
            event::BEGIN => *open.entry(track).or_default() += 1,
            event::END => {
                let open = open.entry(track).or_default();
                *open -= 1;
                assert!(*open >= 0, "{packet:?}");
            }
            _ => {}
        }
        flows.iter().for_each(|arrow| arrows.entry(*arrow).or_default().0 += 1);
        for arrow in ended_flows {
            let arrow = arrows.get_mut(arrow).expect("it has begun before");
            arrow.1 += 1;
        }
    }
    assert!(open.values().all(|open| *open == 0), "what begins ends: {open:?}");
    assert!(arrows.values().all(|ends| *ends == (1, 1)), "{arrows:?}");
    arrows.len()
}

#[test]
fn slices_and_arrows_have_both_ends() {
    assert!(check(&capture(u64::MAX)) > 100);
}

#[test]
fn a_bound_is_kept_by_a_whole_trace() {
    for bound in [0, 400_000, 410_000, 450_000] {
        let bytes = capture(bound);
        assert!(bytes.len() as u64 <= bound, "{} of {bound}", bytes.len());
        check(&bytes);
    }
}

#[test]
fn a_file_is_converted_and_a_damaged_one_up_to_the_damage() {
    let file = program::traced(NUMBERS);
    let mut converted = Vec::new();
    convert(&file[..], &mut converted).expect("valid");
    assert!(check(&converted) > 100);
    converted.clear();
    let error = convert(&file[..file.len() - 1], &mut converted).expect_err("its end is missing");
    assert!(error.to_string().contains("it ends within a generation"), "{error}");
    check(&converted);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_damaged_trace_still_says_becomes_a_whole_file(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        static TRACE: LazyLock<Vec<u8>> = LazyLock::new(|| program::traced(NUMBERS));
        let mut bytes = TRACE.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut converted = Vec::new();
        let _ = convert(&bytes[..], &mut converted);
        check(&converted);
    }
}

#[test]
fn a_search_for_leaks_is_a_collection() {
    let _alone = program::alone();
    let trace = crate::start(Vec::new()).expect("hooks are built in");
    greenprof_runtime::Runtime::builder().workers(1).build().expect("a runtime").run(|| {
        let outer = crate::search();
        drop(crate::search());
        greenprof_runtime::yield_now();
        drop(outer);
    });
    drop(crate::search());
    let (file, _) = trace.stop().expect("a whole trace");
    let mut seen = Vec::new();
    crate::reader::read(&file[..], |event| {
        if let crate::reader::Kind::Collection { begins } = event.kind {
            seen.push(begins);
        }
    })
    .expect("valid");
    assert_eq!(seen, [true, false, true, false]);
}

#[test]
fn a_flight_recorder_writes_it_too() {
    let _alone = program::alone();
    let recorder = crate::flight_recorder().start().expect("a recorder");
    program::run(NUMBERS);
    let mut dump = Vec::new();
    recorder.dump_as(Format::Perfetto, &mut dump).expect("written to memory");
    assert!(check(&dump) > 100);
}
