//! The demos that are looked at while they run, from the outside: they say where to look, and their checks pass.

use std::process::Command;

/// Runs a demo with `--check`, and gives what it prints.
fn check(demo: &str, workers: &str) -> String {
    let arguments = [demo, "--check", "--addr", "127.0.0.1:0", "--workers", workers];
    let output = Command::new(env!("CARGO_BIN_EXE_greenprof-demos")).args(arguments).output().expect("the binary");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        text.starts_with("What it does\n") && text.contains("/debug/pprof/ui/#") && text.contains("  go tool pprof "),
        "{text}"
    );
    assert!(!text.contains("FAIL"), "{text}");
    text
}

#[test]
fn contention_names_the_lock_and_the_channel_and_repairs_them() {
    for workers in ["1", "2"] {
        let text = check("contention", workers);
        assert!(text.contains("/debug/pprof/mutex?debug=1&side=waiter\n") && !text.contains("URL"), "{text}");
        assert_eq!(text.matches("PASS").count(), 5, "{text}");
    }
}

#[test]
fn growth_counts_and_names_what_grows_and_repairs_it() {
    let text = check("growth", "2");
    assert!(text.contains("10 000"), "{text}");
    assert_eq!(text.matches("PASS").count(), 4, "{text}");
}

#[test]
fn hotpath_names_the_function_and_the_tenant_and_repairs_it() {
    let text = check("hotpath", "2");
    assert!(text.contains("hotpath::lines::compare_all") && text.contains("acme has "), "{text}");
    assert_eq!(text.matches("PASS").count(), 4, "{text}");
}

#[test]
fn deadlock_finds_the_circle_and_repairs_it() {
    for workers in ["1", "2"] {
        let text = check("deadlock", workers);
        assert!(text.contains("transfer to a") && text.contains("deadlock/transfer.rs:"), "{text}");
        assert_eq!(text.matches("PASS").count(), 4, "{text}");
    }
}

#[test]
fn each_demo_that_writes_files_has_a_guide_and_a_check() {
    for (demo, passes) in [("churn", 4), ("retain", 5), ("latency", 5), ("watch", 5)] {
        let out = tempfile::tempdir().unwrap();
        let arguments = [demo, "--check", "--addr", "127.0.0.1:0", "--out", out.path().to_str().unwrap()];
        let output = Command::new(env!("CARGO_BIN_EXE_greenprof-demos")).args(arguments).output().expect("the binary");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.starts_with("What it does\n") && text.contains("/debug/pprof/ui/#"), "{text}");
        assert_eq!((text.matches("PASS").count(), text.matches("FAIL").count()), (passes, 0), "{text}");
    }
}

#[test]
fn the_corpus_and_the_service_have_a_check() {
    for (demo, sign) in [("leaks", "simple/"), ("orders", "the hot function is hot")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greenprof-demos"));
        command.args([demo, "--check"]);
        if demo == "orders" {
            // On a machine that is busy with other things, fewer seconds give too few samples.
            command.args(["--addr", "127.0.0.1:0", "--workers", "2", "--seconds", "20"]);
        }
        let output = command.output().expect("the binary");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(sign) && !text.contains("FAIL"), "{text}");
    }
}
