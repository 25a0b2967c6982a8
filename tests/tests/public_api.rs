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
