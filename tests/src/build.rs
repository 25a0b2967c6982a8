//! Binaries of this workspace in a build profile that the running test was not built in.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Builds a binary of a package with optimization, and gives its path.
///
/// # Panics
/// If it does not build.
pub fn release_binary(package: &str, binary: &str) -> PathBuf {
    binary_in("release", package, binary)
}

/// Builds a binary of a package in a profile, and gives its path.
///
/// # Panics
/// If it does not build.
pub fn binary_in(profile: &str, package: &str, binary: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--profile", profile, "--quiet", "--message-format=json", "-p", package, "--bin", binary])
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{binary} does not build: {}", String::from_utf8_lossy(&output.stderr));
    // The artifact messages name the path, whatever the target folder and target are.
    let messages = String::from_utf8(output.stdout).expect("messages are text");
    let path = messages.lines().rev().find_map(|line| {
        let rest = line.split_once("\"executable\":\"")?.1;
        Some(PathBuf::from(rest.split_once('"')?.0)).filter(|path| path.file_stem().is_some_and(|n| n == binary))
    });
    path.unwrap_or_else(|| panic!("cargo names no executable {binary}"))
}
