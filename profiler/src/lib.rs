//! CPU, heap and task profiles of a greenprof runtime, in Go's formats, over one HTTP port.
//!
//! * [`cpu`], [`mod@heap`], [`tasks`]: the profilers.
//! * [`profile`]: the in-memory profile and its encoding as gzipped `profile.proto`.
//! * [`symbolize`]: addresses of this process to functions, files, lines and inlined calls.
//! * [`text`]: the `debug=1` and `debug=2` forms.
//! * [`trace`]: execution traces and the flight recorder, as the port offers them.
//! * [`http`]: the port, and the traits through which profilers plug into it.

#![warn(missing_docs)]

pub mod cpu;
pub mod heap;
pub mod http;
pub mod profile;
mod signal;
pub mod symbolize;
pub mod tasks;
pub mod text;
pub mod trace;

use std::sync::Arc;

use http::{BindError, Capture, DebugServer, NamedProfile, Registry};

/// A registry with every profile that this crate can take. If the program's allocator is
/// [`greenprof_runtime::heap::Heap`], this starts the sampling of allocations, one in 512 KiB ([`heap::start`]).
pub fn registry() -> Registry {
    if greenprof_runtime::heap::is_active() {
        heap::start();
    }
    trace::name_functions();
    let registry = Registry::new();
    let profiles: [Arc<dyn NamedProfile>; 3] =
        [Arc::new(tasks::TaskProfile), Arc::new(heap::HeapProfile::heap()), Arc::new(heap::HeapProfile::allocs())];
    for profile in profiles {
        registry.register(profile).expect("an empty registry takes different names");
    }
    let captures: [Arc<dyn Capture>; 2] = [Arc::new(cpu::CpuProfile), Arc::new(trace::TraceCapture)];
    for capture in captures {
        registry.register_capture(capture).expect("an empty registry takes different names");
    }
    http::register_pages(&registry).expect("an empty registry takes different paths");
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
