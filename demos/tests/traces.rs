//! The demos about execution traces from the outside: the checks pass, and what was traced can be summed up.

use std::{
    path::Path,
    process::{Command, Output},
};

fn demos(arguments: &[&str], file: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenprof-demos"));
    command.args(arguments).args(file).output().expect("the binary")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn latency_is_found_in_the_trace_and_repaired() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = demos(&["latency", "--check", "--addr", "127.0.0.1:0", "--out"], Some(directory.path()));
    let checks = text(&output.stdout);
    assert!(output.status.success(), "{checks}\n{}", text(&output.stderr));
    assert_eq!((checks.matches("PASS").count(), checks.matches("FAIL").count()), (5, 0), "{checks}");

    let report = demos(&["trace-report"], Some(&directory.path().join("before.trace")));
    let report = text(&report.stdout);
    // The convoy, and the tasks by their names.
    assert!(report.lines().any(|line| line.contains("sync") && line.ends_with("request")), "{report}");
    assert!(report.contains("statistics") && report.contains("Scheduling latency"), "{report}");
}

#[test]
fn what_is_no_trace_is_refused_with_a_sentence() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("trace");
    for (content, part) in [(&b"not a trace at all"[..], "this is no trace"), (b"go 1.26 trace\0\0\0\xff", "")] {
        std::fs::write(&file, content).expect("a file");
        let output = demos(&["trace-report"], Some(&file));
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.lines().count() == 1 && error.contains(part), "{error}");
    }
    let output = demos(&["trace-report"], Some(&directory.path().join("none")));
    assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(2), 1));
}
