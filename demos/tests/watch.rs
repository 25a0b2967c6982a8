//! The demo of automatic capture from the outside.

use std::process::Command;

#[test]
fn the_capture_names_who_waits() {
    let out = tempfile::tempdir().unwrap();
    let arguments =
        ["watch", "--json", "--addr", "127.0.0.1:0", "--workers", "2", "--out", out.path().to_str().unwrap()];
    let output = Command::new(env!("CARGO_BIN_EXE_greenprof-demos")).args(arguments).output().expect("the binary");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    assert!(output.status.success(), "{:#?}\n{}", report["checks"], String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["passed"], true);
    let capture = out.path().join(report["capture"].as_str().unwrap());
    assert!(capture.join("goroutine.pb.gz").metadata().unwrap().len() > 0);
}
