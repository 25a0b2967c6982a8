//! The public API of the libraries, held against `docs/api/`: a change of it has to be made there, too, and so shows in a review.
//!
//! After a change that is meant:
//!
//!     GREENPROF_RENEW_API=1 cargo test -p greenprof-tests --test public_api
//!
//! `greenprof_tests::api` says what is told and what is not.

use std::{env, fs, path::Path};

use greenprof_tests::api;

fn check(folder: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let name = format!("greenprof_{folder}");
    let now = api::text(&name, &root.join(folder).join("src/lib.rs"));
    let file = root.join("docs/api").join(format!("greenprof-{folder}.txt"));
    if env::var_os("GREENPROF_RENEW_API").is_some() {
        return fs::write(&file, now).expect("docs/api can be written");
    }
    let then = fs::read_to_string(&file).unwrap_or_default();
    let lines = |text: &str| -> Vec<String> {
        let mut item = "";
        let lines = text.lines().map(|line| match line.strip_prefix("    ") {
            Some(line) => format!("{item}: {line}"),
            None => {
                item = line;
                line.to_owned()
            }
        });
        lines.collect()
    };
    let (before, after) = (lines(&then), lines(&now));
    let only = |of: &[String], other: &[String], sign: char| -> Vec<String> {
        of.iter().filter(|line| !other.contains(line)).map(|line| format!("{sign} {line}")).collect()
    };
    let changes = [only(&before, &after, '-'), only(&after, &before, '+')].concat();
    assert!(
        then == now,
        "the public API of greenprof-{folder} is not that of {}:\n{}\nif that is meant: \
         GREENPROF_RENEW_API=1 cargo test -p greenprof-tests --test public_api",
        file.display(),
        changes.join("\n")
    );
}

/// A crate with what is easily missed, or told wrongly.
const SOURCE: [(&str, &str); 2] = [
    (
        "lib.rs",
        "mod inner;
         pub use inner::{Shown, made, Kind, deeper};
         #[cfg(test)] pub mod tests {}
         #[doc(hidden)] pub fn hidden() {}
         fn private() {}
         pub mod outer { pub use crate::inner::Shown as Again; }",
    ),
    (
        "inner.rs",
        "macro_rules! kinds { ($($name:ident),*) => { pub enum Kind { $($name),* } }; }
         kinds!(One, Two);
         pub mod deeper { #[non_exhaustive] pub enum Choice { A, B(u8) } }
         trait Private {}
         /// Documented.
         #[derive(Clone, Debug)]
         pub struct Shown<T> { pub seen: Vec<Vec<T>>, unseen: u8 }
         impl<T> Private for Shown<T> {}
         impl<T: Copy> Shown<T> {
             pub const fn get(&self, mut at: usize) -> Option<&'_ T> { None }
             fn unseen(&self) {}
         }
         impl<T> Iterator for Shown<T> { type Item = T; fn next(&mut self) -> Option<T> { None } }
         pub fn made<F>(f: F) -> impl Fn() -> u8 where F: FnOnce() -> u8, { || 0 }
         pub fn not_reachable() {}",
    ),
];

const TEXT: &str = "\
The public API of it, as tests/tests/public_api.rs reads it, which says how to renew this.

it::Kind
    macro_rules! kinds { ($($name: ident), *) => { pub enum Kind { $($name), *} }; }
    kinds!(One, Two);

it::Shown
    pub struct Shown<T>
    pub seen: Vec<Vec<T>>
    ..
    derive Clone, Debug
    impl<T: Copy> Shown<T> { pub const fn get(&self, at: usize) -> Option<&'_ T> }
    impl<T> Iterator for Shown<T> { type Item = T }
    also it::outer::Again

it::deeper::Choice
    #[non_exhaustive]
    pub enum Choice
    A
    B
        0: u8

it::made
    pub fn made<F>(f: F) -> impl Fn() -> u8 where F: FnOnce() -> u8
";

#[test]
fn what_can_be_reached_is_told_once() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in SOURCE {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    let text = api::text("it", &folder.path().join("lib.rs"));
    assert!(text == TEXT, "{text}");
}

#[test]
fn of_the_runtime() {
    check("runtime");
}

#[test]
fn of_the_tracer() {
    check("tracer");
}

#[test]
fn of_the_profiler() {
    check("profiler");
}
