//! Perfetto's public definitions, where there are any: a Python with the package `perfetto`, named by `GREENPROF_PERFETTO`.

use std::{env, path::Path, path::PathBuf, process::Command, sync::LazyLock};

use serde_json::Value;

const VARIABLE: &str = "GREENPROF_PERFETTO";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/perfetto/check.py");

static PYTHON: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let named = env::var_os(VARIABLE).map(PathBuf::from);
    let works = named.filter(|python| {
        Command::new(python).args(["-c", "import perfetto"]).status().is_ok_and(|status| status.success())
    });
    assert!(
        works.is_some() || env::var_os("CI").is_none(),
        "CI needs Perfetto's definitions: set {VARIABLE} to a Python that has the package `perfetto`"
    );
    works
});

/// Whether the test can run; says loudly that it does not, where the definitions are missing.
pub fn available(test: &str) -> bool {
    if PYTHON.is_none() {
        eprintln!("SKIPPED {test}: set {VARIABLE} to a Python that has the package `perfetto` (pip install perfetto)");
    }
    PYTHON.is_some()
}

/// Checks a trace, and gives what is in it.
///
/// # Panics
/// If the trace does not keep what it must, with what is wrong.
pub fn check(file: &Path) -> Value {
    let python = PYTHON.as_ref().expect("`available` was asked before");
    let output = Command::new(python).arg(SCRIPT).arg(file).output().expect("Python starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}
