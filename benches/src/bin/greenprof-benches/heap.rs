//! The programs that measure allocators: two builds of `heap-cost`, for jemalloc with its profiling and without cannot be in one.

use std::{path::PathBuf, process::Command};

use anyhow::bail;
use greenprof_benches::{peers::Peer, program};

/// The built programs.
#[derive(Debug)]
pub(crate) struct Programs {
    plain: PathBuf,
    profiling: PathBuf,
}

impl Programs {
    /// Builds both.
    pub(crate) fn build() -> anyhow::Result<Self> {
        let build = |folder, what, features| program::build("heap-cost", folder, what, features);
        Ok(Self {
            plain: build("heap-cost/plain", "the allocators", &["hooks", "allocators"])?,
            profiling: build(
                "heap-cost/profiling",
                "jemalloc with its profiling",
                &["hooks", "allocators", "jemalloc-profiling"],
            )?,
        })
    }

    /// The program that measures a peer's allocator.
    pub(crate) fn command(&self, peer: Peer) -> anyhow::Result<Command> {
        let (program, allocator) = match peer {
            Peer::Greenprof | Peer::Malloc | Peer::Mimalloc | Peer::Jemalloc => (&self.plain, peer.name()),
            Peer::JemallocProfiling | Peer::JemallocSampling => (&self.profiling, Peer::Jemalloc.name()),
            _ => bail!("{peer} has no allocator of its own here"),
        };
        let mut command = Command::new(program);
        command.arg(format!("--allocator={allocator}"));
        // Its options would make another allocator of it.
        command.env_remove("_RJEM_MALLOC_CONF").env_remove("MALLOC_CONF");
        if peer == Peer::JemallocSampling {
            // 2^19 bytes, as ours; and as ours, nothing is written at the end.
            command.env("_RJEM_MALLOC_CONF", "prof:true,prof_active:true,lg_prof_sample:19,prof_final:false");
        }
        Ok(command)
    }
}
