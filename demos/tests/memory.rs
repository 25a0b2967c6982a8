//! The demos about memory from the outside: their checks pass, and their files are there.

use std::process::Command;

use serde_json::Value;

/// Runs a demo with `--json`, and gives its report.
fn report(demo: &str) -> Value {
    let out = tempfile::tempdir().unwrap();
    let arguments = [demo, "--json", "--addr", "127.0.0.1:0", "--workers", "2", "--out", out.path().to_str().unwrap()];
    let output = Command::new(env!("CARGO_BIN_EXE_greenprof-demos")).args(arguments).output().expect("the binary");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    assert!(output.status.success(), "{:#?}\n{}", report["checks"], String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["passed"], true);
    for file in ["before.pb.gz", "after.pb.gz"] {
        assert!(out.path().join(file).metadata().unwrap().len() > 0, "{file}");
    }
    report
}

#[test]
fn churn_shows_the_waste_and_that_it_is_gone() {
    let report = report("churn");
    assert_eq!(report["checks"].as_array().unwrap().len(), 4);
    let first = report["before"][0]["name"].as_str().unwrap();
    assert!(first.starts_with("greenprof_demos::churn::wasteful::"), "{first}");
}

#[test]
fn retain_shows_the_holder_and_that_it_lets_go() {
    let report = report("retain");
    assert_eq!(report["checks"].as_array().unwrap().len(), 5);
    assert_eq!(report["before_by_partner"][0]["name"], "stuck");
    assert_eq!(report["before_by_function"][0]["name"], "greenprof_demos::retain::receive");
}
