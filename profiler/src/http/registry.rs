//! Which profiles the port offers. A registry is a cheap handle; servers and profilers share one.

use std::sync::Arc;

use parking_lot::RwLock;
use thiserror::Error;

use super::{CpuCapture, NamedProfile};

/// Names under `/debug/pprof/` that are no named profiles, so none may hide behind them.
const RESERVED: [&str; 4] = ["cmdline", "profile", "symbol", "trace"];

/// Why a profile was not registered.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// Empty, with a slash, or the name of a built-in page.
    #[error("{0:?} cannot be the name of a profile")]
    BadName(String),
    /// There is one of that name.
    #[error("a profile named {0:?} is registered already")]
    Duplicate(String),
}

/// The profiles that can be asked for.
#[derive(Clone, Default)]
pub struct Registry {
    inner: Arc<RwLock<Inner>>,
}

/// Protected by the lock: only the list itself. It is never held while a profile is asked for anything.
#[derive(Default)]
struct Inner {
    profiles: Vec<Arc<dyn NamedProfile>>,
    cpu: Option<Arc<dyn CpuCapture>>,
}

impl Registry {
    /// A registry without profiles.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a profile.
    pub fn register(&self, profile: Arc<dyn NamedProfile>) -> Result<(), RegisterError> {
        let name = profile.name().to_owned();
        if name.is_empty() || name.contains('/') || RESERVED.contains(&name.as_str()) {
            return Err(RegisterError::BadName(name));
        }
        let mut inner = self.inner.write();
        if inner.profiles.iter().any(|known| known.name() == name) {
            return Err(RegisterError::Duplicate(name));
        }
        inner.profiles.push(profile);
        Ok(())
    }

    /// Takes a profile out; whether there was one.
    pub fn unregister(&self, name: &str) -> bool {
        let mut inner = self.inner.write();
        let before = inner.profiles.len();
        inner.profiles.retain(|profile| profile.name() != name);
        inner.profiles.len() < before
    }

    /// Sets what takes CPU profiles.
    pub fn set_cpu(&self, cpu: Arc<dyn CpuCapture>) {
        self.inner.write().cpu = Some(cpu);
    }

    /// The profile of that name.
    pub fn get(&self, name: &str) -> Option<Arc<dyn NamedProfile>> {
        self.inner.read().profiles.iter().find(|profile| profile.name() == name).cloned()
    }

    /// All profiles, by name.
    pub fn profiles(&self) -> Vec<Arc<dyn NamedProfile>> {
        let mut profiles = self.inner.read().profiles.clone();
        profiles.sort_by(|a, b| a.name().cmp(b.name()));
        profiles
    }

    /// What takes CPU profiles, if anything does.
    pub fn cpu(&self) -> Option<Arc<dyn CpuCapture>> {
        self.inner.read().cpu.clone()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let profiles = self.profiles();
        let names: Vec<&str> = profiles.iter().map(|profile| profile.name()).collect();
        f.debug_struct("Registry").field("profiles", &names).field("cpu", &self.cpu().is_some()).finish()
    }
}
