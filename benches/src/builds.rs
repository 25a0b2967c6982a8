//! The two builds of the binary `workload`: with hooks and without.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;

use crate::{progress::spinner, sample::Hooks};

const PACKAGE: &str = "greenprof-benches";
const BINARY: &str = "workload";

/// Where the builds are.
#[derive(Debug)]
pub struct Programs {
    with_hooks: PathBuf,
    without_hooks: PathBuf,
}

impl Programs {
    /// The program for a variant.
    pub fn path(&self, hooks: Hooks) -> &Path {
        match hooks {
            Hooks::Absent => &self.without_hooks,
            Hooks::Off | Hooks::On => &self.with_hooks,
        }
    }
}

/// Builds both. Each has a target directory of its own, so that neither build undoes the other.
///
/// # Errors
/// If the caller does not stand in the workspace, or a build fails.
pub fn build() -> anyhow::Result<Programs> {
    let target = target_directory()?.join("hooks-cost");
    Ok(Programs {
        with_hooks: build_one(&target.join("with"), "with hooks", &["--no-default-features", "--features=hooks"])?,
        without_hooks: build_one(&target.join("without"), "without hooks", &["--no-default-features"])?,
    })
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

fn build_one(target: &Path, what: &str, features: &[&str]) -> anyhow::Result<PathBuf> {
    let progress = spinner(format!("building the workloads {what}"));
    let output = Command::new(cargo())
        .args(["build", "--release", "--quiet", "--package", PACKAGE, "--bin", BINARY])
        .args(features)
        .arg("--target-dir")
        .arg(target)
        .stdin(Stdio::null())
        .output()
        .context("cargo cannot be run")?;
    progress.finish_and_clear();
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        let reason = message.lines().find(|line| line.starts_with("error")).unwrap_or("no reason given");
        return Err(anyhow!("the build {what} failed, see `cargo build --package {PACKAGE}`: {reason}"));
    }
    // `build.target` would put it one folder further down.
    let path = target.join("release").join(BINARY);
    path.exists().then_some(path).ok_or_else(|| {
        anyhow!("the build {what} has left no program in {}/release: is a cross build configured?", target.display())
    })
}

fn last_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim().lines().last().unwrap_or("nothing").to_owned()
}
