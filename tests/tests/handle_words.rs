//! The exact word of every handle and guard is in the machine while a function holds it across a wait, whatever the
//! compiler does. `held-words/` tells how that is seen.
#![cfg(target_arch = "x86_64")]

use std::{path::Path, process::Command};

use greenprof_tests::build;

fn assert_words_are_held(program: &Path) {
    let output = Command::new(program).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), 14, "{text}");
}

#[test]
fn in_a_debug_build() {
    assert_words_are_held(&build::binary_in("dev", "greenprof-held-words", "greenprof-held-words"));
}

#[test]
fn in_a_release_build() {
    assert_words_are_held(&build::release_binary("greenprof-held-words", "greenprof-held-words"));
}
