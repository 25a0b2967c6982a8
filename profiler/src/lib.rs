//! CPU and task profiles of a greenprof runtime, in Go's formats, over one HTTP port.
//!
//! * [`profile`]: the in-memory profile and its encoding as gzipped `profile.proto`.
//! * [`symbolize`]: addresses of this process to functions, files, lines and inlined calls.
//! * [`text`]: the `debug=1` and `debug=2` forms.
//! * [`http`]: the port, and the traits through which profilers plug into it.

#![warn(missing_docs)]

pub mod cpu;
pub mod http;
pub mod profile;
mod signal;
pub mod symbolize;
pub mod tasks;
pub mod text;

use std::sync::Arc;

use http::{BindError, DebugServer, Registry};

/// A registry with every profile that this crate can take.
pub fn registry() -> Registry {
    let registry = Registry::new();
    registry.set_cpu(Arc::new(cpu::CpuProfile));
    registry.register(Arc::new(tasks::TaskProfile)).expect("an empty registry takes any name");
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
