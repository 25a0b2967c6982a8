//! `go tool trace` reads what the tracer writes, of many programs, started and stopped at any moment.

use std::{sync::Arc, thread, time::Duration};

use greenprof_profiler::trace::name_functions;
use greenprof_runtime::{
    Runtime, sleep, spawn,
    sync::{Chan, Mutex},
    task, yield_now,
};
use greenprof_tests::{
    go,
    stress::{self, Random},
    trace,
};
use nix::time::{ClockId, clock_gettime};

#[test]
fn captures_of_a_random_program_are_valid_whenever_they_begin_and_end() {
    if !go::available("captures_of_a_random_program_are_valid_whenever_they_begin_and_end") {
        return;
    }
    name_functions();
    let folder = tempfile::tempdir().expect("a folder");
    for (workers, seed) in [(2, 1), (4, 2)] {
        let random = Random::new(seed + 100);
        let capture = |number| {
            thread::sleep(Duration::from_micros(random.below(20_000)));
            let trace = greenprof_tracer::start(Vec::new()).expect("a trace");
            thread::sleep(Duration::from_millis(if number == 5 { 1200 } else { random.below(40) }));
            trace.stop().expect("a whole trace")
        };
        let captures: Vec<_> = stress::beside(workers, seed, || (0..12).map(capture).collect());
        for (capture, (bytes, stats)) in captures.iter().enumerate() {
            let file = trace::save(folder.path(), &format!("{workers}-{capture}.trace"), bytes);
            trace::assert_counts_agree(&file, bytes);
            let parsed = trace::debug(&file, "parsed");
            assert!(parsed.contains("Sync") && parsed.lines().count() as u64 > stats.events / 2, "{stats:?}");
            // In the first moments some threads record already, and some do not.
            assert!(stats.lost > 0 || stats.repaired * 50 <= stats.events, "{stats:?}");
            // The server takes seconds on a loaded machine.
            if capture % 4 == 0 {
                trace::assert_pages_answer(&file, 25);
            }
        }
    }
}

#[inline(never)]
fn waits_for_a_lock(lock: &Mutex<u64>) {
    *lock.lock() += 1;
}

#[inline(never)]
fn waits_for_a_number(numbers: &Chan<u64>) {
    let _ = numbers.recv();
}

#[inline(never)]
fn blocks_its_thread() {
    task::blocking(|| thread::sleep(Duration::from_millis(30)));
}

#[inline(never)]
fn computes_for_long() {
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_millis(40) {
        std::hint::spin_loop();
    }
}

#[inline(never)]
fn yields_often() {
    for _ in 0..50 {
        yield_now();
    }
}

/// A program with a wait of each kind that the tool makes profiles of; tasks that exist before the trace among them.
fn known_waits() -> Vec<u8> {
    Runtime::builder().workers(1).build().expect("a runtime").run(|| {
        let lock = Arc::new(Mutex::new(0_u64));
        let numbers = Chan::new();
        let receiver = numbers.clone();
        let early = task::Builder::new().name("early").spawn(move || waits_for_a_number(&receiver)).expect("memory");
        yield_now();
        let trace = task::blocking(|| greenprof_tracer::start(Vec::new())).expect("a trace");
        let held = lock.lock();
        let contender = lock.clone();
        let contending = spawn(move || waits_for_a_lock(&contender));
        sleep(Duration::from_millis(30));
        drop(held);
        numbers.send(1).expect("nobody closes it");
        let yielding = spawn(yields_often);
        let computing = spawn(computes_for_long);
        let blocking = spawn(blocks_its_thread);
        for task in [early, contending, yielding, computing, blocking] {
            task.join().expect("no panic");
        }
        task::blocking(|| trace.stop()).expect("a whole trace").0
    })
}

#[test]
fn the_profiles_of_the_tool_name_the_functions_that_wait_and_every_page_answers() {
    if !go::available("the_profiles_of_the_tool_name_the_functions_that_wait_and_every_page_answers") {
        return;
    }
    name_functions();
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = known_waits();
    let file = trace::save(folder.path(), "known.trace", &bytes);
    trace::debug(&file, "parsed");
    trace::assert_counts_agree(&file, &bytes);
    let sync = trace::profile(&file, "sync");
    assert!(sync.contains("waits_for_a_lock") && sync.contains("sync::mutex::Mutex::lock"), "{sync}");
    let syscall = trace::profile(&file, "syscall");
    assert!(syscall.contains("blocks_its_thread"), "{syscall}");
    let sched = trace::profile(&file, "sched");
    assert!(sched.contains("yields_often"), "{sched}");
    for internal in ["greenprof_runtime::scheduler", "task::spawn::run", "park_task", "hooks"] {
        assert!(!sync.contains(internal) && !sched.contains(internal), "{internal}:\n{sync}\n{sched}");
    }
    assert!(!sync.contains("catch_unwind"), "stacks of tasks begin with their closure: {sync}");
    trace::assert_pages_answer(&file, 200);
    let named = trace::pages(&file, &["/goroutines"]);
    assert!(named[0].contains("early"), "tasks have their names");
}

/// How far the recorder looks back, and how long each capture of three goes on before a dump: together longer than the window.
const WINDOW: Duration = Duration::from_millis(160);
const PAUSE: Duration = Duration::from_millis(60);

#[test]
fn a_flight_recorder_and_a_cpu_profile_do_not_disturb_captures_that_overlap_them() {
    if !go::available("a_flight_recorder_and_a_cpu_profile_do_not_disturb_captures_that_overlap_them") {
        return;
    }
    name_functions();
    let folder = tempfile::tempdir().expect("a folder");
    let (dumps, dumped) = stress::beside(2, 7, || {
        // The first trace of a process waits for the names of functions, for a second or more here: the captures would be as long.
        greenprof_tracer::start(Vec::new()).expect("a trace").stop().expect("a whole trace");
        let recorder = greenprof_tracer::flight_recorder().window(WINDOW).start().expect("a recorder");
        let _one_at_a_time = greenprof_tests::cpu_profiler();
        let profile = greenprof_profiler::cpu::start(100).expect("the profiler is free");
        let (mut dumps, mut dumped) = (Vec::new(), Duration::ZERO);
        for _ in 0..3 {
            let trace = greenprof_tracer::start(Vec::new()).expect("a trace");
            thread::sleep(PAUSE);
            let mut dump = Vec::new();
            recorder.dump(&mut dump).expect("written to memory");
            dumped = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock").into();
            dumps.push(dump);
            dumps.push(trace.stop().expect("a whole trace").0);
        }
        drop(profile);
        (dumps, dumped)
    });
    for (i, dump) in dumps.iter().enumerate() {
        let file = trace::save(folder.path(), &format!("{i}.trace"), dump);
        trace::debug(&file, "parsed");
        trace::assert_counts_agree(&file, dump);
        trace::assert_pages_answer(&file, 40);
    }
    // The recorder was older than its window at the last dump.
    let mut first = u64::MAX;
    greenprof_tracer::reader::read(&dumps[dumps.len() - 2][..], |event| first = first.min(event.time)).expect("valid");
    let first = Duration::from_nanos(first);
    assert!(first + WINDOW <= dumped, "the window: {first:?}, {dumped:?}");
}

/// A Go program with goroutines, a lock, channels, system calls, garbage collections, user tasks and regions.
const GO_PROGRAM: &str = r#"package main

import (
	"context"
	"os"
	"runtime"
	"runtime/trace"
	"sync"
	"time"
)

var sink [][]byte

func main() {
	trace.Start(os.Stdout)
	var lock sync.Mutex
	var all sync.WaitGroup
	numbers := make(chan int)
	go func() {
		for range numbers {
			runtime.Gosched()
		}
	}()
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			context, task := trace.NewTask(context.Background(), "request")
			defer task.End()
			for j := 0; j < 50; j++ {
				trace.WithRegion(context, "locked", func() {
					lock.Lock()
					sink = append(sink, make([]byte, 10000))
					lock.Unlock()
				})
				trace.Log(context, "category", "message")
				numbers <- j
				file, err := os.Open("/proc/self/status")
				if err == nil {
					file.Read(make([]byte, 4096))
					file.Close()
				}
				time.Sleep(time.Millisecond)
			}
		}()
	}
	all.Wait()
	runtime.GC()
	time.Sleep(1200 * time.Millisecond)
	close(numbers)
	trace.Stop()
}
"#;

#[test]
fn a_trace_that_go_wrote_is_read_with_the_same_counts() {
    if !go::available("a_trace_that_go_wrote_is_read_with_the_same_counts") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let source = trace::save(folder.path(), "main.go", GO_PROGRAM.as_bytes());
    let output = go::command().arg("run").arg(&source).output().expect("go starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = trace::save(folder.path(), "go.trace", &output.stdout);
    trace::assert_counts_agree(&file, &output.stdout);
    let summary = greenprof_tracer::reader::Summary::read(&output.stdout[..]).expect("a valid trace");
    assert!(summary.totals().generations >= 2);
    let workers = summary.by_name().into_iter().find(|group| &*group.name == "main.main.func2").expect("goroutines");
    let sleeps = workers.blocked.get("sleep").expect("they sleep");
    assert_eq!((workers.tasks, sleeps.1), (8, 400), "{workers:?}");
    assert!(sleeps.0 >= 400_000_000, "each at least a millisecond: {workers:?}");
}
