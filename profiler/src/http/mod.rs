//! The port: profiles over HTTP with the paths, parameters, headers and error bodies of Go's `net/http/pprof`.
//!
//! The server ([`DebugServer`]) is one OS thread with a runtime of its own, so it answers even when every worker of the
//! program is stuck. It knows no profiler; those plug into a [`Registry`] through the traits of `kinds`:
//!
//! | what | trait | where | put in by |
//! |---|---|---|---|
//! | the state of something, or its change | [`NamedProfile`] | `/debug/pprof/NAME` | [`Registry::register`] |
//! | something recorded for a while | [`Capture`] | `/debug/pprof/NAME?seconds=` | [`Registry::register_capture`] |
//! | anything else | [`Page`] | its own path | [`Registry::register_page`] |
//! | a sampling rate | [`Rate`] | a key at `/debug/greenprof/rates` | [`Registry::register_rate`] |
//! | figures | prometheus-client's `Collector` | `/metrics` | [`Registry::register_metrics`] |
//!
//! Whatever may take long (collecting, symbolizing, compressing) runs on further threads, at most
//! [`server::MAX_BLOCKING_THREADS`] at a time, so that one request never delays the next.
//!
//! How a request passes: [`server`] accepts and bounds it, [`Handler`] has `guard` decide who may ask, `route` finds what answers,
//! `capture` does what takes time, [`reply`] gives all answers one shape.

#![expect(
    clippy::result_large_err,
    reason = "a refusal is an answer, which would be moved as often without the Result"
)]

mod capture;
mod guard;
mod handler;
mod index;
mod kinds;
mod limits;
mod pages;
mod query;
mod registry;
pub mod reply;
mod route;
pub mod server;
mod session;
mod stall;
mod token;

pub use capture::MAX_SECONDS;
pub use handler::Handler;
pub use kinds::{Ask, Capture, CaptureError, CaptureSession, Length, NamedProfile, Page, Rate};
pub use pages::register_pages;
pub use query::Query;
pub use registry::{RegisterError, Registry};
pub use server::{BindError, Builder, DebugServer};
pub use token::{Token, TokenError};
