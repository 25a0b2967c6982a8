//! Fetching everything that the port offers, and keeping it as files.
//!
//! What there is to fetch is read from the index page, so a profile that is added later is captured without a change
//! here. The CPU profile comes last: by then the symbols have been read, and reading them is not in it.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use thiserror::Error;

use super::{
    client::{self, ClientError},
    leaks, trace,
};
use crate::{console::Step, table};

/// Where everything lives.
pub const ROOT: &str = "/debug/pprof/";

/// How long an answer may take beyond the time that was asked for: an unoptimised build takes some seconds to read its
/// own symbols.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pages of the index that are no profiles of things: they are asked for in other ways, or not at all.
const PAGES: [&str; 4] = ["cmdline", "profile", "symbol", "trace"];

/// Why not everything was captured.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The port did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What was asked for.
    pub url: String,
    /// Its length.
    pub bytes: usize,
}

/// Everything that was captured.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    /// The files, in the order of their capture.
    pub files: Vec<File>,
    bodies: Vec<Vec<u8>>,
}

impl Captured {
    /// The body of what was asked for, relative to the port's root.
    pub fn body(&self, asked: &str) -> Option<&[u8]> {
        let at = self.files.iter().position(|file| file.url.split_once(ROOT).is_some_and(|(_, tail)| tail == asked))?;
        Some(&self.bodies[at])
    }

    /// Like [`Captured::body`], as text.
    pub fn text(&self, asked: &str) -> Option<String> {
        self.body(asked).map(|body| String::from_utf8_lossy(body).into_owned())
    }

    /// The file in which what was asked for is kept.
    pub fn path(&self, asked: &str) -> Option<&Path> {
        let file = self.files.iter().find(|file| file.url.split_once(ROOT).is_some_and(|(_, tail)| tail == asked))?;
        Some(&file.path)
    }
}

/// The port, and where its answers go.
#[derive(Debug)]
pub struct Capturer<'a> {
    address: SocketAddr,
    directory: &'a Path,
    captured: Captured,
}

impl<'a> Capturer<'a> {
    /// Nothing captured yet.
    pub fn new(address: SocketAddr, directory: &'a Path) -> Self {
        Self { address, directory, captured: Captured::default() }
    }

    /// Captures the index, the command line, and every profile that the index lists in all its forms, except for the CPU
    /// profile.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn listed(&mut self) -> Result<(), CaptureError> {
        self.fetch("", "index.html", None)?;
        let index = self.captured.text("").unwrap_or_default();
        self.fetch("cmdline", "cmdline.txt", None)?;
        for name in profiles(&index) {
            self.fetch(&name, &format!("{name}.pb.gz"), None)?;
            self.fetch(&format!("{name}?debug=1"), &format!("{name}.debug1.txt"), None)?;
            if name == "goroutine" {
                self.fetch("goroutine?debug=2", "goroutine.debug2.txt", None)?;
            }
            if name == "goroutineleak" {
                self.fetch(leaks::ASKED, "goroutineleak.json", None)?;
                self.fetch("goroutineleak?format=dot", "goroutineleak.dot", None)?;
            }
        }
        Ok(())
    }

    /// Captures the CPU profile of the next seconds.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn cpu(&mut self, seconds: u64) -> Result<(), CaptureError> {
        self.fetch(&cpu_query(seconds), "cpu.pb.gz", Some(Duration::from_secs(seconds)))
    }

    /// Captures the execution trace of the next seconds.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn trace(&mut self) -> Result<(), CaptureError> {
        self.fetch(&trace::asked(), "trace.out", Some(Duration::from_secs(trace::SECONDS)))
    }

    /// What was captured.
    pub fn finish(self) -> Captured {
        self.captured
    }

    fn fetch(&mut self, asked: &str, file: &str, length: Option<Duration>) -> Result<(), CaptureError> {
        let path = format!("{ROOT}{asked}");
        let step = Step::start(&format!("GET {path}"), length);
        let patience = PATIENCE + length.unwrap_or_default();
        let body = client::get(self.address, &path, patience, |elapsed| step.tick(elapsed));
        let body = match body {
            Ok(body) => body,
            Err(error) => {
                step.clear();
                return Err(error.into());
            }
        };
        let target = self.directory.join(file);
        if let Err(source) = fs::write(&target, &body) {
            step.clear();
            return Err(CaptureError::Write { path: target, source });
        }
        step.done(&table::bytes(body.len()));
        let url = format!("http://{}{path}", self.address);
        self.captured.files.push(File { path: target, url, bytes: body.len() });
        self.captured.bodies.push(body);
        Ok(())
    }
}

/// How the CPU profile of so many seconds is asked for.
pub fn cpu_query(seconds: u64) -> String {
    format!("profile?seconds={seconds}")
}

/// The profiles that an index page links to, each once.
fn profiles(index: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for link in index.split("href=\"").skip(1) {
        let target = link.split('"').next().unwrap_or_default();
        let Some(name) = target.strip_suffix("?debug=1") else { continue };
        // A name becomes part of a path and of a file's name.
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if plain && !PAGES.contains(&name) && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_their_links() {
        let index = "<a href=\"goroutine?debug=1\">goroutine</a> <a href=\"cmdline\">cmdline</a> <a href=\"profile\">\
            <a href=\"heap?debug=1\"> <a href=\"goroutine?debug=2\"> <a href=\"heap?debug=1\"> <a href=\"../x?debug=1\">";
        assert_eq!(profiles(index), ["goroutine", "heap"]);
        assert!(profiles("").is_empty());
    }

    #[test]
    fn a_failure_names_the_file() {
        let error = CaptureError::Write { path: "/x/cpu.pb.gz".into(), source: io::ErrorKind::StorageFull.into() };
        assert_eq!(error.to_string(), "cannot write /x/cpu.pb.gz: no storage space");
    }
}
