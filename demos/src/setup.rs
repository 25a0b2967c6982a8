//! What can be wrong before a demo has begun, each in one sentence that says what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

use greenprof_profiler::{
    contention::RateError,
    http::{BindError, DebugServer},
};
use thiserror::Error;

use crate::orders::{Service, StartError};

/// The prefix of a directory that was not chosen by the user.
const FRESH_DIRECTORY: &str = "greenprof-tour-";

/// Why a demo did not begin.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The port cannot be had.
    #[error(transparent)]
    Port(BindError),
    /// The port would be open to other machines.
    #[error(
        "{0} can be reached from other machines, and the demos do not offer that: choose an \
         address of this machine's own, such as 127.0.0.1:6060"
    )]
    Remote(std::net::SocketAddr),
    /// The runtime or the service cannot be had.
    #[error(transparent)]
    Service(#[from] StartError),
    /// Nothing can be written where the results should go.
    #[error("cannot write to {}: {source}; choose another directory with --out", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Contention cannot be watched.
    #[error(transparent)]
    Rate(RateError),
    /// Signals cannot be listened to.
    #[error("cannot listen for Ctrl-C: {0}")]
    Interrupt(#[source] io::Error),
}

/// Opens the port with every profile there is.
///
/// # Errors
/// If the address is none, is not of this machine alone, or is in use.
pub fn open_port(address: &str) -> Result<DebugServer, SetupError> {
    greenprof_profiler::serve(address).map_err(|error| match error {
        BindError::Remote(address) => SetupError::Remote(address),
        error => SetupError::Port(error),
    })
}

/// Starts the service under load.
///
/// # Errors
/// See [`StartError`].
pub fn start_orders(workers: Option<usize>) -> Result<Service, SetupError> {
    Ok(Service::start(workers)?)
}

/// The directory for results: the one asked for, made if it does not exist, else a fresh one among the temporary files.
/// It can be written to.
///
/// # Errors
/// If it cannot.
pub fn out_directory(asked: Option<&Path>) -> Result<PathBuf, SetupError> {
    match asked {
        Some(path) => {
            let error = |source| SetupError::Directory { path: path.to_owned(), source };
            if path.exists() && !path.is_dir() {
                return Err(error(io::ErrorKind::NotADirectory.into()));
            }
            std::fs::create_dir_all(path).map_err(error)?;
            // Gone again at once; that it could be made is what matters.
            tempfile::tempfile_in(path).map_err(error)?;
            Ok(path.to_owned())
        }
        None => {
            let directory = tempfile::Builder::new().prefix(FRESH_DIRECTORY).tempdir();
            let error = |source| SetupError::Directory { path: std::env::temp_dir(), source };
            Ok(directory.map_err(error)?.keep())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_and_kept() {
        let parent = tempfile::tempdir().unwrap();
        let wanted = parent.path().join("a/b");
        assert_eq!(out_directory(Some(&wanted)).unwrap(), wanted);
        assert!(wanted.read_dir().unwrap().next().is_none(), "the probe is gone");
        let fresh = out_directory(None).unwrap();
        assert!(fresh.is_dir());
        std::fs::remove_dir(fresh).unwrap();
    }

    #[test]
    fn a_file_is_no_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = out_directory(Some(file.path())).unwrap_err().to_string();
        assert!(error.contains(": not a directory; "), "{error}");
        assert!(
            error.starts_with("cannot write to ") && error.ends_with("choose another directory with --out"),
            "{error}"
        );
    }

    #[test]
    fn addresses_of_others_are_refused_with_what_to_choose() {
        let error = open_port("0.0.0.0:0").unwrap_err().to_string();
        assert!(error.contains("such as 127.0.0.1:6060"), "{error}");
    }
}
