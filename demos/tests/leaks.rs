//! The corpus of known-leaky programs from the outside: what the programs do is checked with detectors that just count, and
//! the project's detector must not report what can be woken.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn leaks(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_greenprof-demos")).arg("leaks").args(arguments).output().expect("the binary")
}

fn report(arguments: &[&str]) -> Value {
    let output = leaks(&[arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn programs(report: &Value) -> &Vec<Value> {
    report["programs"].as_array().expect("a list")
}

/// Everything that has not ended is what should leak, no more and no less.
#[test]
fn forced_and_rust_forms_leak_exactly_what_they_claim() {
    let groups = ["simple", "patterns", "goker"];
    for workers in ["1", "2"] {
        let settings = ["--form", "forced", "--form", "rust", "--detector", "unfinished", "--workers", workers];
        let report = report(&[&groups[..], &settings].concat());
        assert_eq!(report["defects"], 0, "{report:#}");
        assert!(programs(&report).len() > 56);
        for program in programs(&report) {
            assert_eq!(program["expected"], program["found"], "{program:#}");
        }
    }
}

#[test]
fn natural_forms_leak_nothing_else() {
    let report = report(&["simple", "patterns", "goker", "--form", "natural", "--detector", "unfinished"]);
    assert_eq!(report["defects"], 0, "{report:#}");
    assert!(programs(&report).iter().filter(|program| program["leaking_runs"] == 1).count() > 20);
}

/// What must not be reported is blocked when it is looked at, and ends when it is woken; and nothing of it is reported.
#[test]
fn what_can_be_woken_is_not_reported() {
    for workers in ["1", "2"] {
        let report = report(&["sound", "--workers", workers]);
        assert_eq!((&report["defects"], &report["false_positives"]), (&0.into(), &0.into()), "{report:#}");
        assert!(programs(&report).len() >= 56);
    }
}

/// Without tags, what a moved handle has left behind counts: less is found than with them, and nothing wrongly.
#[test]
fn a_scan_without_tags_finds_less_and_nothing_wrong() {
    let found = |detector: &str| {
        let settings = ["patterns", "sound/static", "sound/sleeper", "--frame", "alive", "--detector", detector];
        let report = report(&settings);
        assert_eq!((&report["defects"], &report["false_positives"]), (&0.into(), &0.into()), "{report:#}");
        let recalls = programs(&report).iter().filter_map(|program| program["recall"].as_f64());
        recalls.sum::<f64>()
    };
    assert!(found("plain") < found("leak"));
}

#[test]
fn leaky_programs_have_no_false_positives() {
    let report = report(&["simple", "patterns", "goker", "--form", "forced", "--form", "natural", "--workers", "2"]);
    assert_eq!((&report["defects"], &report["false_positives"]), (&0.into(), &0.into()), "{report:#}");
}

/// When the function that made everything has returned, each leak can be found. (Not in every run: a thread that was interrupted
/// in the middle of an operation may hide one.)
#[test]
fn each_leak_is_found_when_the_creating_frame_has_returned() {
    let report = report(&["simple", "patterns", "goker", "--frame", "returned", "--runs", "5"]);
    let never: Vec<_> = programs(&report).iter().filter(|program| program["recall"] == 0.0).collect();
    assert!(programs(&report).len() > 50);
    assert!(never.is_empty(), "{never:#?}");
}

#[test]
fn a_detector_that_reports_what_can_be_woken_fails() {
    let output = leaks(&["sound/sleeper", "--detector", "unfinished"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("reported, and not leaked: holder: ") && text.contains("FAIL"), "{text}");
}

#[test]
fn a_program_is_explained() {
    let output = leaks(&["--explain", "goker/moby_4951"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let grows = ["run 1:   2 tasks", "run 5:  10 tasks", "deleter", "sync.Mutex.Lock", "moby_4951.rs", "Fix: "];
    assert!(grows.iter().all(|part| text.contains(part)), "{text}");
    assert_eq!(leaks(&["--explain", "sound/sleeper"]).status.code(), Some(2), "nothing leaks there");
}

/// The port shows what the terminal does, while the program pauses and afterwards.
#[test]
fn an_explained_program_can_be_looked_at_on_the_port() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_greenprof-demos"))
        .args(["leaks", "--explain", "goker/moby_4951", "--addr", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let report = lines.find(|line| line.starts_with("the report:")).expect("the address");
    let address = report.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    let ask = |query: &str| {
        let mut stream = TcpStream::connect(address).expect("a port");
        let path = format!("/debug/pprof/goroutineleak?settle=1s&{query}");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    };
    let (text, graph) = (ask("debug=1"), ask("format=dot"));
    child.kill().expect("it runs until it is ended");
    child.wait().expect("an end");
    // Raw locks have no holders that are known, so the circle is told, and not called a deadlock.
    assert!(text.contains("which only these could wake") && text.contains("moby_4951.rs"), "{text}");
    assert!(graph.contains("digraph leaks {") && graph.contains("could be woken by"), "{graph}");
}

#[test]
fn a_detector_that_misses_all_fails() {
    let output = leaks(&["simple/chan_recv", "--detector", "none"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("0.0%") && text.contains("FAIL"), "{text}");
}

#[test]
fn what_does_not_exist_is_refused_in_one_sentence() {
    for arguments in [&["nothing"][..], &["sound/sleeper", "--form", "rust"], &["--detector", "magic"]] {
        let Output { status, stdout, stderr } = leaks(arguments);
        assert_eq!(status.code(), Some(2), "{arguments:?}");
        assert!(stdout.is_empty() && !stderr.is_empty(), "{arguments:?}");
    }
    let line = String::from_utf8(leaks(&["nothing"]).stderr).unwrap();
    assert_eq!(
        line,
        "greenprof-demos: there is no program nothing: `greenprof-demos leaks --list` says which there are\n"
    );
}

/// The table of the documentation is what the programs do.
#[test]
fn the_table_of_leaks_in_rust_is_what_ran() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/leaks-in-rust.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let table = text.lines().filter(|line| line.starts_with('|')).fold(String::new(), |all, line| all + line + "\n");
    let output = leaks(&["simple", "patterns", "goker", "--markdown", "--detector", "unfinished"]);
    let ran = String::from_utf8(output.stdout).unwrap();
    assert_eq!(table, ran, "write it anew with `greenprof-demos leaks simple patterns goker --markdown`");
}

/// The short form of the matrix: this build, both modes, and what was run is not run again.
#[test]
fn the_matrix_is_sound_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let (state, into) = (folder.path().join("state"), folder.path().join("table.md"));
    let run = |programs: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greenprof-demos"));
        command.args(["leak-matrix", "--build", "this", "--workers", "2", "--runs", "1", "--stress-seconds", "3"]);
        for program in programs {
            command.args(["--program", program]);
        }
        command.arg("--state").arg(&state).arg("--into").arg(&into).output().expect("the binary")
    };
    let programs = ["sound", "patterns"];
    let first = run(&programs);
    let text = std::fs::read_to_string(&into).expect("the table");
    assert!(first.status.success(), "{first:?}\n{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("| this | 2 | leak")).count(), 4, "{text}");
    let again = run(&programs);
    assert!(again.status.success() && String::from_utf8_lossy(&again.stderr).contains("0 of 4 cells"), "{again:?}");
    assert_eq!(std::fs::read_to_string(&into).expect("the table"), text);
}
