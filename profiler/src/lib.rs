//! CPU, heap and task profiles of a greenprof runtime, in Go's formats, over one HTTP port.
//!
//! * [`cpu`], [`mod@heap`], [`tasks`]: the profilers.
//! * [`profile`]: the in-memory profile and its encoding as gzipped `profile.proto`.
//! * [`symbolize`]: addresses of this process to functions, files, lines and inlined calls.
//! * [`text`]: the `debug=1` and `debug=2` forms.
//! * [`http`]: the port, and the traits through which profilers plug into it.

#![warn(missing_docs)]

pub mod cpu;
pub mod heap;
pub mod http;
pub mod leak;
pub mod profile;
mod signal;
pub mod symbolize;
pub mod tasks;
pub mod text;

use std::sync::Arc;

use http::{BindError, DebugServer, NamedProfile, Registry};

/// A registry with every profile that this crate can take. If the program's allocator is
/// [`greenprof_runtime::heap::Heap`], this starts the sampling of allocations, one in 512 KiB ([`heap::start`]).
pub fn registry() -> Registry {
    if greenprof_runtime::heap::is_active() {
        heap::start();
    }
    let registry = Registry::new();
    registry.set_cpu(Arc::new(cpu::CpuProfile));
    let profiles: [Arc<dyn NamedProfile>; 3] =
        [Arc::new(tasks::TaskProfile), Arc::new(heap::HeapProfile::heap()), Arc::new(heap::HeapProfile::allocs())];
    for profile in profiles {
        registry.register(profile).expect("an empty registry takes different names");
    }
    registry
}

/// Opens the port with every profile, on `address`, which must be a loopback address (port 0 chooses a free one).
/// [`DebugServer::builder`] has the settings for anything else.
///
/// # Errors
/// See [`BindError`].
pub fn serve(address: &str) -> Result<DebugServer, BindError> {
    DebugServer::builder().address(address).registry(registry()).bind()
}
