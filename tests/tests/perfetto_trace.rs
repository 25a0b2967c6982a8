//! Traces in Perfetto's format decode against Perfetto's public definitions, and keep what those do not say: matched arrows, times
//! that do not go back, slices that end.

use std::{fs, io, path::Path, sync::Arc, thread, time::Duration};

use greenprof_profiler::{http::DebugServer, registry, trace::register_flight_recorder};
use greenprof_runtime::{
    Runtime, sleep,
    sync::Mutex,
    task::{self, WaitReason},
    world::{self, TaskState},
};
use greenprof_tests::{client, cpu_profiler, perfetto, stress};
use greenprof_tracer::{Builder, Format, perfetto::convert};
use serde_json::Value;

/// Enough for some ten thousand events; the definitions are decoded slowly.
const MOST: u64 = 4 << 20;

fn check(folder: &Path, name: &str, bytes: &[u8]) -> Value {
    let file = folder.join(name);
    fs::write(&file, bytes).expect("written");
    perfetto::check(&file)
}

/// Sleeps until the task waits for `reason`: on a busy machine that can be later than any time set here.
fn until_waits(task: &str, reason: WaitReason) {
    let waits = |t: &world::TaskInfo| t.name.as_deref() == Some(task) && t.state == TaskState::Waiting(reason);
    loop {
        sleep(Duration::from_millis(1));
        if world::tasks(1).iter().any(waits) {
            return;
        }
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

#[test]
fn captures_of_a_random_program_decode_and_hold_together() {
    if !perfetto::available("captures_of_a_random_program_decode_and_hold_together") {
        return;
    }
    let _one_at_a_time = cpu_profiler();
    let folder = tempfile::tempdir().expect("a folder");
    for (workers, seed) in [(2, 11), (4, 12)] {
        let captures: Vec<_> = stress::beside(workers, seed, || {
            let capture = |number: u64| {
                let profile = (number == 1).then(|| greenprof_profiler::cpu::start(100).expect("it is free"));
                let builder = Builder::new().format(Format::Perfetto).max_bytes(MOST);
                let trace = builder.start(Vec::new()).expect("a trace");
                thread::sleep(Duration::from_millis(15 * number + 15));
                // Where another trace begins, a generation ends.
                let other = greenprof_tracer::start(io::sink()).expect("another trace");
                thread::sleep(Duration::from_millis(15));
                drop(profile);
                drop(other);
                trace.stop().expect("a whole trace").0
            };
            (0..4).map(capture).collect()
        });
        // What is in them is left to chance: many tasks at the beginning can take all the space that there is.
        for (at, bytes) in captures.iter().enumerate() {
            assert!(bytes.len() as u64 <= MOST);
            let found = check(folder.path(), &format!("{workers}-{at}.pftrace"), bytes);
            assert!(number(&found["packets"]) > 20, "{found}");
        }
    }
}

#[test]
fn what_a_known_program_does_is_shown() {
    if !perfetto::available("what_a_known_program_does_is_shown") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let _one_at_a_time = cpu_profiler();
    let trace = Builder::new().format(Format::Perfetto).start(Vec::new()).expect("a trace");
    Runtime::builder().workers(2).build().expect("a runtime").run(|| {
        let user = greenprof_tracer::Task::new("request");
        let region = user.region("outer");
        let lock = Arc::new(Mutex::new(()));
        let held = lock.lock();
        let theirs = lock.clone();
        let waiter = task::Builder::new().name("waiter").spawn(move || drop(theirs.lock())).expect("memory");
        until_waits("waiter", WaitReason::MutexLock);
        drop(held);
        waiter.join().expect("no panic");
        task::blocking(|| thread::sleep(Duration::from_millis(1)));
        greenprof_tracer::log("category", "message");
        drop(region);
    });
    let found = check(folder.path(), "known.pftrace", &trace.stop().expect("a whole trace").0);
    for slice in ["running", "runnable", "system call", "sync.Mutex.Lock", "sleep", "outer", "request", "waiter"] {
        assert!(number(&found["slices"][slice]) > 0, "no slice {slice}: {found}");
    }
    for instant in ["wake", "spawn", "category"] {
        assert!(number(&found["instants"][instant]) > 0, "no instant {instant}: {found}");
    }
    assert!(number(&found["flows"]) >= 3 && number(&found["tasks"]) >= 2, "{found}");
    assert!(number(&found["processors"]) >= 1 && number(&found["user_tasks"]) == 1, "{found}");
}

#[test]
fn a_trace_in_gos_format_is_converted() {
    if !perfetto::available("a_trace_in_gos_format_is_converted") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = stress::beside(2, 13, || {
        let trace = greenprof_tracer::start(Vec::new()).expect("a trace");
        thread::sleep(Duration::from_millis(10));
        trace.stop().expect("a whole trace").0
    });
    let mut converted = Vec::new();
    convert(&file[..], &mut converted).expect("a valid trace");
    assert!(number(&check(folder.path(), "converted.pftrace", &converted)["flows"]) > 100);
}

#[test]
fn the_port_gives_both_formats_of_a_trace_and_of_the_flight_recorder() {
    let registry = registry();
    let recorder =
        greenprof_tracer::flight_recorder().window(Duration::ZERO).max_bytes(100_000).start().expect("a recorder");
    register_flight_recorder(&registry, recorder).expect("a free name");
    let server = DebugServer::builder().address("127.0.0.1:0").registry(registry).bind().expect("a port");
    let address = server.local_addr();
    let ask = |path: &str| client::get(address, &format!("/debug/pprof/{path}"));
    // The recorder has what happened since the last answer: on a busy machine perhaps nothing yet. It is asked twice in a row, for
    // since the answer before it may be so much that it takes long to decode.
    let ask_flight = |path: &str| {
        let mut answers = (0..10_000).map(|_| {
            ask("flight");
            ask(path)
        });
        answers.find(|answer| answer.status != 200 || answer.body.len() > 10_000).expect("the program goes on")
    };
    let answers = stress::beside(2, 14, || {
        [
            ask("trace?seconds=0.1"),
            ask_flight("flight"),
            ask("trace?seconds=0.1&format=perfetto&max_bytes=4000000"),
            ask_flight("flight?format=perfetto"),
        ]
    });
    answers.iter().for_each(|answer| assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body)));
    for answer in &answers[..2] {
        assert!(greenprof_tracer::reader::read(&answer.body[..], |_| ()).expect("valid").events() > 100);
    }
    for path in ["trace?format=json", "flight?format=json"] {
        let answer = ask(path);
        assert_eq!(answer.status, 400);
        assert_eq!(answer.text(), "invalid value for \"format\" - must be \"go\" or \"perfetto\"\n");
    }
    if perfetto::available("the_port_gives_both_formats_of_a_trace_and_of_the_flight_recorder") {
        let folder = tempfile::tempdir().expect("a folder");
        for (at, answer) in answers[2..].iter().enumerate() {
            assert!(number(&check(folder.path(), &at.to_string(), &answer.body)["flows"]) > 20);
        }
    }
}
