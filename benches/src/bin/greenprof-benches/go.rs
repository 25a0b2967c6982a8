//! The peer that is written in Go: finding a toolchain, and building `go/` with it.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use greenprof_benches::progress;

/// Names a toolchain's `go` command, if not the first on the path is meant.
const VARIABLE: &str = "GREENPROF_GO";

/// Where the sources were when this program was built.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/go");

/// The built peer.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// As the toolchain gives it, `go1.27.3` for example.
    pub(crate) version: String,
}

/// Builds the peer; `None` if there is no toolchain.
pub(crate) fn build() -> anyhow::Result<Option<Program>> {
    let Some((go, version)) = find(env::var_os(VARIABLE))? else { return Ok(None) };
    // Beside this program, which lies in the target directory.
    let path =
        env::current_exe().context("this program does not know where it is")?.with_file_name("greenprof-benches-go");
    compile(&go, Path::new(SOURCES), &path)?;
    Ok(Some(Program { path, version }))
}

/// A `go` command that works, and its version.
fn find(named: Option<OsString>) -> anyhow::Result<Option<(OsString, String)>> {
    let go = named.clone().unwrap_or_else(|| "go".into());
    let version = command(&go).args(["env", "GOVERSION"]).output().ok().filter(|output| output.status.success());
    match (version, named) {
        (Some(version), _) => Ok(Some((go, String::from_utf8_lossy(&version.stdout).trim().to_owned()))),
        (None, Some(named)) => {
            bail!("{VARIABLE} is {}, which is no go command that works", Path::new(&named).display())
        }
        (None, None) => Ok(None),
    }
}

fn compile(go: &OsString, sources: &Path, program: &Path) -> anyhow::Result<()> {
    let progress = progress::spinner("building the Go peer".to_owned());
    let output = command(go).current_dir(sources).args(["build", "-o"]).arg(program).arg(".").output();
    progress.finish_and_clear();
    let output = output.with_context(|| format!("the Go peer in {} cannot be built", sources.display()))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        let reason = message.lines().find(|line| !line.starts_with('#')).unwrap_or("no reason given");
        bail!("the Go peer in {} cannot be built: {reason}", sources.display());
    }
    Ok(())
}

/// Without whatever would let it download something, or use another toolchain than the one that was found.
fn command(go: &OsString) -> Command {
    let mut command = Command::new(go);
    command
        .env_remove("GOROOT")
        .env("GOFLAGS", "-mod=mod")
        .env("GOPROXY", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_that_is_named_must_work() {
        let error = find(Some("/nowhere/go".into())).unwrap_err();
        assert_eq!(error.to_string(), "GREENPROF_GO is /nowhere/go, which is no go command that works");
    }
}
