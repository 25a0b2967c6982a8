//! CPU, heap, contention and task profiles of a greenprof runtime, in Go's formats, over one HTTP port.
//!
//! * [`cpu`], [`mod@heap`], [`contention`], [`tasks`], [`threads`], [`wall`]: the profilers; [`custom`]: profiles of the
//!   program's own.
//! * [`profile`]: the in-memory profile and its encoding as gzipped `profile.proto`.
//! * [`symbolize`]: addresses of this process to functions, files, lines and inlined calls.
//! * [`text`]: the `debug=1` and `debug=2` forms.
//! * [`self_test`]: whether the program was built so that its stacks can be walked.
//! * [`metrics`]: what `/metrics` tells.
//! * [`watch`]: captures that a threshold makes.
//! * [`trace`]: execution traces and the flight recorder, as the port offers them.
//! * [`ui`]: the page at `/debug/pprof/ui/`.
//! * [`http`]: the port, and the traits through which profilers plug into it.

#![deny(missing_docs)]

pub mod contention;
pub mod cpu;
pub mod custom;
pub mod heap;
pub mod http;
mod interval;
pub mod leak;
pub mod metrics;
mod process;
pub mod profile;
mod random;
mod records;
pub mod self_test;
mod signal;
pub mod symbolize;
pub mod tasks;
pub mod text;
pub mod threads;
pub mod trace;
pub mod ui;
mod unwind;
pub mod wall;
pub mod watch;

use std::sync::Arc;

pub use contention::{block_profile_rate, mutex_profile_fraction, set_block_profile_rate, set_mutex_profile_fraction};
use http::{BindError, Capture, DebugServer, NamedProfile, Rate, Registry};

/// A registry with every profile that this crate can take. If the program's allocator is
/// [`greenprof_runtime::heap::Heap`], this starts the sampling of allocations, one in 512 KiB ([`heap::start`]).
///
/// ```
/// use greenprof_profiler::http::DebugServer;
///
/// let registry = greenprof_profiler::registry();
/// let profiles: Vec<String> = registry.profiles().iter().map(|profile| profile.name().to_owned()).collect();
/// assert!(profiles.iter().any(|name| name == "goroutine"), "{profiles:?}");
/// // For a port with other settings than those of `serve`:
/// let port = DebugServer::builder().address("127.0.0.1:0").registry(registry).max_connections(4).bind()?;
/// port.shutdown();
/// # Ok::<(), greenprof_profiler::http::BindError>(())
/// ```
pub fn registry() -> Registry {
    self_test::warn();
    if greenprof_runtime::heap::is_active() {
        heap::start();
    }
    trace::name_functions();
    let registry = Registry::new();
    let profiles: [Arc<dyn NamedProfile>; 7] = [
        Arc::new(tasks::TaskProfile),
        Arc::new(heap::HeapProfile::heap()),
        Arc::new(heap::HeapProfile::allocs()),
        Arc::new(contention::ContentionProfile::block()),
        Arc::new(contention::ContentionProfile::mutex()),
        Arc::new(threads::ThreadProfile),
        Arc::new(leak::LeakProfile),
    ];
    for profile in profiles {
        registry.register(profile).expect("an empty registry takes different names");
    }
    registry.register_source(custom::all);
    let captures: [Arc<dyn Capture>; 3] =
        [Arc::new(cpu::CpuProfile), Arc::new(trace::TraceCapture), Arc::new(wall::WallProfile)];
    for capture in captures {
        registry.register_capture(capture).expect("an empty registry takes different names");
    }
    let rates: [Arc<dyn Rate>; 4] = [
        Arc::new(cpu::CpuRate),
        Arc::new(heap::HeapRate),
        Arc::new(contention::BlockRate),
        Arc::new(contention::MutexRate),
    ];
    for rate in rates {
        registry.register_rate(rate).expect("an empty registry takes different names");
    }
    metrics::register(&registry);
    registry.register_lost("profile", cpu::lost);
    registry.register_lost("heap", heap::lost);
    registry.register_lost("block", contention::block_lost);
    registry.register_lost("mutex", contention::mutex_lost);
    http::register_pages(&registry).expect("an empty registry takes different paths");
    registry.register_page(Arc::new(leak::WhyPage)).expect("an empty registry takes different paths");
    ui::register(&registry).expect("an empty registry takes different paths");
    registry
}

/// Opens the port with every profile, on `address`, which must be a loopback address (port 0 chooses a free one).
/// [`DebugServer::builder`] has the settings for anything else.
///
/// ```
/// let port = greenprof_profiler::serve("127.0.0.1:0")?;
/// println!("http://{}/debug/pprof/ui/", port.local_addr());
/// # Ok::<(), greenprof_profiler::http::BindError>(())
/// ```
///
/// # Errors
/// See [`BindError`].
pub fn serve(address: &str) -> Result<DebugServer, BindError> {
    DebugServer::builder().address(address).registry(registry()).bind()
}
