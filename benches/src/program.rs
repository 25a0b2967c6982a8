//! Builds of this package's own binaries, with other features than the running one has.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;

use crate::progress::spinner;

const PACKAGE: &str = "greenprof-benches";

/// Builds a binary of this package in its release profile, with some features only, into a folder of its own under the
/// target directory, so that no build undoes another; `what` is for people.
///
/// # Errors
/// If cargo cannot build it here.
pub fn build(binary: &str, folder: &str, what: &str, features: &[&str]) -> anyhow::Result<PathBuf> {
    let target = target_directory()?.join(folder);
    build_one(binary, &target, what, features)
}

/// Cargo itself says when it runs us.
fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// What of cargo's description of the workspace is of interest.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

/// The workspace's target directory, as the environment and cargo's configuration say.
fn target_directory() -> anyhow::Result<PathBuf> {
    let output = Command::new(cargo())
        .args(["metadata", "--no-deps", "--format-version=1"])
        .output()
        .context("cargo cannot be run, which builds what is compared")?;
    if !output.status.success() {
        bail!("run this inside the greenprof workspace: cargo says {}", last_line(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo's metadata is not understood")?;
    if metadata.packages.iter().all(|package| package.name != PACKAGE) {
        bail!("run this inside the greenprof workspace: the workspace here has no package {PACKAGE}");
    }
    Ok(metadata.target_directory)
}

/// Builds a package below this one that is not of the workspace, with flags for the compiler of its own.
///
/// # Errors
/// If cargo cannot build it here, which may be for want of a registry.
pub fn build_apart(package: &str, what: &str, flags: &str) -> anyhow::Result<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join(package);
    let target = target_directory()?.join(package);
    let mut command = Command::new(cargo());
    // Where cargo looks for settings: those of the workspace have flags for the samplers, which nothing here needs.
    command.current_dir(&sources).args(["build", "--release", "--quiet", "--locked"]);
    command.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", flags);
    finish_build(command, &format!("{PACKAGE}-{package}"), &target, what, &format!("in {}", sources.display()))
}

fn build_one(binary: &str, target: &Path, what: &str, features: &[&str]) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(cargo());
    command.args(["build", "--release", "--quiet", "--package", PACKAGE, "--bin", binary, "--no-default-features"]);
    command.args(features.iter().map(|feature| format!("--features={feature}")));
    finish_build(command, binary, target, what, &format!("--package {PACKAGE}"))
}

fn finish_build(
    mut command: Command,
    binary: &str,
    target: &Path,
    what: &str,
    how_to_see: &str,
) -> anyhow::Result<PathBuf> {
    let progress = spinner(format!("building {what}"));
    let output = command.arg("--target-dir").arg(target).stdin(Stdio::null()).output().context("cargo cannot be run");
    progress.finish_and_clear();
    let output = output?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        let reason = message.lines().find(|line| line.starts_with("error")).unwrap_or("no reason given");
        return Err(anyhow!("the build of {what} failed, see `cargo build` {how_to_see}: {reason}"));
    }
    // `build.target` would put it one folder further down.
    let path = target.join("release").join(binary);
    path.exists().then_some(path).ok_or_else(|| {
        anyhow!("the build of {what} has left no program in {}/release: is a cross build configured?", target.display())
    })
}

fn last_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim().lines().last().unwrap_or("nothing").to_owned()
}
