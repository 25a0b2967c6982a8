//! A task that overflows its stack is reported by name and ends the process; other faults keep std's message.
//!
//! Each case is a run of this same test binary, in which the process aborts.

use std::{
    env,
    os::unix::process::ExitStatusExt,
    process::{Command, Output},
};

use greenprof_runtime::{Runtime, task};

const CASE: &str = "GREENPROF_OVERFLOW_CASE";

#[inline(never)]
#[expect(unconditional_recursion, reason = "that is the case")]
fn recurse(depth: u64) -> u64 {
    std::hint::black_box([depth; 16])[3] + recurse(std::hint::black_box(depth) + 1)
}

fn run_case(name: &str) -> Output {
    Command::new(env::current_exe().expect("this test's binary"))
        .args(["--exact", name, "--nocapture"])
        .env(CASE, name)
        .output()
        .expect("it starts again")
}

/// In the child: does what the case is about. In the parent: nothing.
fn in_child(name: &str) -> bool {
    env::var(CASE).is_ok_and(|case| case == name)
}

#[test]
fn a_task_is_named() {
    if in_child("a_task_is_named") {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        runtime.run(|| {
            let task = task::Builder::new().name("deep one").stack_size(64 << 10);
            task.spawn(|| recurse(0)).unwrap().join().unwrap()
        });
    }
    let output = run_case("a_task_is_named");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    let line = text.lines().find(|line| line.starts_with("task ")).unwrap_or_else(|| panic!("no report: {text}"));
    assert!(line.contains(" 'deep one', spawned at tests/tests/stack_overflow.rs:"), "{line}");
    assert!(
        line.contains("has overflowed its stack of 111 KiB; give it more with task::Builder::stack_size"),
        "{line}"
    );
}

#[test]
fn a_thread_keeps_std_s_message() {
    if in_child("a_thread_keeps_std_s_message") {
        let _runtime = Runtime::builder().workers(1).build().unwrap();
        let thread = std::thread::Builder::new().name("plain".into()).stack_size(256 << 10);
        let _ = thread.spawn(|| recurse(0)).unwrap().join();
    }
    let output = run_case("a_thread_keeps_std_s_message");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(text.contains("thread 'plain'") && text.contains("has overflowed its stack"), "{text}");
}

#[test]
fn another_fault_stays_a_fault() {
    if in_child("another_fault_stays_a_fault") {
        Runtime::builder().workers(1).build().unwrap().run(|| {
            // SAFETY: none: the fault is what this case is about.
            unsafe { std::ptr::without_provenance_mut::<u8>(64).write_volatile(1) };
        });
    }
    let output = run_case("another_fault_stays_a_fault");
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("overflowed"));
}
