//! A stackful M:N runtime for green threads that can be looked into while it runs.
//!
//! A *task* is a green thread with a stack of its own; *workers* are the OS threads that run tasks. Tasks wait on
//! the primitives of [`sync`] and [`time`], which park the task and leave its worker free. What the runtime does is
//! told to whoever listens through [`hooks`]; what it *is* at a moment (tasks, their stacks, what they wait for, which
//! thread runs which task) is read through [`world`].
//!
//! ```
//! use greenprof_runtime::{Runtime, spawn, sync::Chan};
//!
//! let sum = Runtime::builder().workers(2).build()?.run(|| {
//!     let numbers = Chan::with_capacity(4);
//!     let producer = numbers.clone();
//!     spawn(move || {
//!         for n in 1..=10 {
//!             producer.send(n).expect("nobody closes the channel early");
//!         }
//!         producer.close();
//!     });
//!     numbers.iter().sum::<u32>()
//! });
//! assert_eq!(sum, 55);
//! # Ok::<(), greenprof_runtime::BuildError>(())
//! ```
//!
//! # What a task may not do
//!
//! A task may continue on another OS thread after every wait. Safe Rust has no way to say so, which leaves one rule to
//! the programmer: a reference to a `thread_local!` value must not be held across anything that waits. Values that are
//! not `Send`, an `Rc` for example, may live on a task's stack: only one thread runs the task at any time, and moving
//! it orders the memory accesses. Guards of `std::sync` locks must not be held across a wait either, because such a
//! lock has to be released by the OS thread that took it.

#![deny(missing_docs)]

#[cfg(not(target_os = "linux"))]
compile_error!("greenprof runs on Linux only: it needs futexes, POSIX CPU timers and /proc");

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("greenprof has a context switch for x86_64 and aarch64 only");

pub mod context;
mod error;
#[cfg(not(loom))]
pub mod heap;
#[cfg(loom)]
#[path = "heap/mock.rs"]
mod heap;
pub mod hooks;
pub mod labels;
mod scheduler;
pub mod sync;
mod sys;
pub mod task;
pub mod time;
pub mod world;

pub use error::{BuildError, SpawnError};
pub use scheduler::{Builder, Handle, Runtime, ShutdownReport};
pub use task::{JoinHandle, spawn, yield_now};
pub use time::sleep;
