//! The report from end to end, with samples too short to say anything.

use std::process::{Command, Output};

fn report(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_greenprof-benches")).arg("report").args(arguments).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn a_row_is_measured_and_printed_as_json() {
    let output = report(&["--only=scheduler", "--cases=switch,mutex-alone", "--quick", "--json", "--operations=1000"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let switch = &lines[0];
    assert_eq!((&switch["section"], &switch["peer_name"]), (&"scheduler".into(), &"corosensei".into()));
    assert_eq!((&switch["samples"], &switch["quick"]), (&2.into(), &true.into()));
    for field in ["ours", "peer", "ratio", "ratio_low", "ratio_high"] {
        assert!(switch[field].as_f64().is_some_and(|value| value > 0.0), "{field} in {switch}");
    }
    assert_eq!(lines.len(), 5, "one row with one worker, two with one and two");
}

#[test]
fn the_table_has_every_row() {
    let output = report(&["--cases=switch", "--quick", "--operations=1000"]);
    let table = text(&output.stdout);
    assert!(table.contains("context switch alone  1 ") && table.contains("(corosensei)"), "{table}");
}

#[test]
fn results_are_written_and_can_be_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    let output = report(&["--only=tasks", "--quick", "--operations=100", "--results", path]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for name in ["README.md", "rows.csv", "runs.json", "tasks.md"] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
    let compare = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_greenprof-benches"))
            .arg("compare")
            .args(arguments)
            .output()
            .expect("it starts")
    };
    let output = compare(&[path, path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("not resolved") && table.contains("A quick run is not judged by"), "{table}");
    let output = compare(&[path, path, "--json"]);
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.iter().any(|line| line["figure"] == "value" && line["change"] == 1.0), "{lines:?}");
    let output = compare(&[path, "/nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "greenprof-benches: /nowhere could not be read: No such file or directory (os error 2)\n"
    );
}

#[test]
fn errors_are_one_sentence_and_exit_code_2() {
    for (arguments, sentence) in [
        (
            vec!["--only=nothing"],
            "greenprof-benches: there is no section `nothing`; there are scheduler, heap, cpu, contention, tasks, trace, leak, overhead, accuracy, detectors\n",
        ),
        (
            vec!["--results=/proc/nowhere"],
            "greenprof-benches: /proc/nowhere cannot take results: No such file or directory (os error 2)\n",
        ),
        (vec!["--samples=2"], "greenprof-benches: 2 samples are too few to judge by: take 5 at least\n"),
    ] {
        let output = report(&arguments);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(2), sentence));
    }
}
