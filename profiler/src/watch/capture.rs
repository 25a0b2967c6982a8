//! What a capture consists of, in the order of how soon it is needed and how cheap it is.

use std::{fmt::Write, io, panic::AssertUnwindSafe, time::Duration};

use super::{
    directory::{Directory, Folder},
    figures::{Figures, Threshold},
};
use crate::http::{NamedProfile, Query, Registry};

/// Profiles that come first: small, and what explains most.
const FIRST: [&str; 2] = ["goroutine", "heap"];

/// The directory of a capture, and what it could not have.
struct Writing<'d> {
    folder: Folder<'d>,
    errors: String,
}

impl Writing<'_> {
    /// Writes what `make` gives. Neither an error nor a panic ends the capture.
    fn file<E: std::fmt::Display>(&mut self, name: &str, make: impl FnOnce() -> Result<Vec<u8>, E>) {
        let made = std::panic::catch_unwind(AssertUnwindSafe(make));
        let problem = match made {
            Ok(Ok(bytes)) => self.folder.write(name, &bytes).err().map(|error| error.to_string()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("it panicked".to_owned()),
        };
        if let Some(problem) = problem {
            // Writing to a String cannot fail.
            let _ = writeln!(self.errors, "{name}: {problem}");
        }
    }
}

/// Writes a capture. `pause` waits for so long, and says whether the watch goes on.
///
/// # Errors
/// If not even the first file could be written.
pub(super) fn write(
    directory: &Directory,
    registry: &Registry,
    crossed: Threshold,
    figures: &Figures,
    cpu_profile: Duration,
    pause: &dyn Fn(Duration) -> bool,
) -> io::Result<()> {
    let mut folder = directory.folder(crossed.word())?;
    folder.write("why.txt", format!("crossed: {crossed:?}\n{figures}").as_bytes())?;
    let mut writing = Writing { folder, errors: String::new() };
    writing.file("metrics.txt", || registry.metrics().map(String::into_bytes));
    let mut profiles = registry.profiles();
    profiles.sort_by_key(|profile| FIRST.iter().position(|name| profile.name() == *name).unwrap_or(FIRST.len()));
    for profile in profiles.iter().filter(|profile| profile.unavailable().is_none()) {
        named(&mut writing, profile.as_ref());
    }
    if !cpu_profile.is_zero()
        && let Some(capture) = registry.capture("profile")
    {
        writing.file("profile.pb.gz", || {
            let session = capture.start(&Query::default()).map_err(|error| error.to_string())?;
            if !pause(cpu_profile) {
                return Err("the watch has ended".to_owned());
            }
            session.finish().map_err(|error| error.to_string())
        });
    }
    let Writing { mut folder, errors } = writing;
    if !errors.is_empty() {
        folder.write("errors.txt", errors.as_bytes())?;
    }
    Ok(())
}

fn named(writing: &mut Writing<'_>, profile: &dyn NamedProfile) {
    let name = profile.name();
    writing.file(&format!("{name}.pb.gz"), || profile.write(0));
    if name == FIRST[0] {
        writing.file(&format!("{name}.txt"), || profile.write(1));
    }
}
