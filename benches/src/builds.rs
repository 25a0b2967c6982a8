//! The two builds of the binary `workload`: with hooks and without.

use std::path::{Path, PathBuf};

use crate::{program, sample::Hooks};

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

/// Builds both.
///
/// # Errors
/// If cargo cannot build them here.
pub fn build() -> anyhow::Result<Programs> {
    let build = |folder, what, features| program::build("workload", folder, what, features);
    Ok(Programs {
        with_hooks: build("hooks-cost/with", "the workloads with hooks", &["hooks"])?,
        without_hooks: build("hooks-cost/without", "the workloads without hooks", &[])?,
    })
}
