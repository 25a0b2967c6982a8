//! The command line from the outside: what is refused, with which sentence and exit code, and what `list` says.

use std::{
    net::TcpListener,
    process::{Command, Output},
};

fn demos(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_greenprof-demos")).args(arguments).output().expect("the binary")
}

/// Exit code 2, nothing on standard output, and one line on standard error, which is given.
fn refusal(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = demos(arguments);
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stdout.is_empty(), "{arguments:?}");
    let line = stderr.strip_suffix('\n').expect("a whole line").to_owned();
    assert!(!line.contains('\n') && line.starts_with("greenprof-demos: "), "{stderr}");
    line
}

#[test]
fn list_names_every_demo_in_a_column() {
    let output = demos(&["list"]);
    assert!(output.status.success() && output.stderr.is_empty());
    let text = String::from_utf8(output.stdout).unwrap();
    let column = text.lines().next().unwrap().find("WHAT IT TEACHES").unwrap();
    for name in [
        "churn",
        "contention",
        "deadlock",
        "growth",
        "hotpath",
        "latency",
        "leaks",
        "orders",
        "retain",
        "tour",
        "watch",
    ] {
        let line = text.lines().find(|line| line.starts_with(name)).expect(name);
        assert!(line[..column].ends_with("  ") && !line[column..].starts_with(' '), "{line}");
    }
}

#[test]
fn a_port_in_use_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for demo in ["orders", "tour"] {
        let line = refusal(&[demo, "--addr", &address]);
        assert!(line.contains(&address) && line.contains("is in use"), "{line}");
    }
}

#[test]
fn a_bad_address_is_refused() {
    for demo in ["orders", "tour"] {
        let line = refusal(&[demo, "--addr", "127.0.0.1"]);
        assert!(line.contains("\"127.0.0.1\" is no address"), "{line}");
        let line = refusal(&[demo, "--addr", "0.0.0.0:0"]);
        assert!(line.contains("can be reached from other machines"), "{line}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_to_is_refused() {
    // A file is in the way: that holds for root too.
    let file = tempfile::NamedTempFile::new().unwrap();
    for out in [file.path().to_owned(), file.path().join("below"), "/proc/greenprof".into()] {
        let line = refusal(&["tour", "--addr", "127.0.0.1:0", "--out", out.to_str().unwrap()]);
        assert!(line.contains(&format!("cannot write to {}: ", out.display())), "{line}");
        assert!(line.ends_with("choose another directory with --out"), "{line}");
    }
}

#[test]
fn more_workers_than_a_runtime_has_are_refused() {
    let line = refusal(&["orders", "--addr", "127.0.0.1:0", "--workers", "1000000"]);
    assert!(line.contains("1000000 workers were asked for"), "{line}");
}

#[test]
fn bad_arguments_are_refused_with_the_same_code() {
    for arguments in [
        &["tour", "--seconds", "0"][..],
        &["tour", "--seconds", "1h"],
        &["orders", "--workers", "0"],
        &["orders", "--color"],
        &["dance"],
        &[],
    ] {
        let output = demos(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}
