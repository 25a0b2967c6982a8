//! Drawing files that are posted: what `flame` and `timeline` have in common.
//!
//! Whoever may ask may make the program work, so files are bounded, and one of a kind is drawn at a time.

use greenprof_runtime::heap;
use hyper::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::Value;

use crate::http::{
    Ask, Page, Query,
    reply::{self, Reply},
};

/// A kind of file that can be drawn.
pub(super) struct Drawing {
    path: &'static str,
    /// What is posted, in two words.
    file: &'static str,
    max_body: usize,
    draw: fn(&Query, &[u8]) -> Result<Value, String>,
    /// Held while one is drawn; protects nothing but the program's memory.
    turn: Mutex<()>,
}

impl Drawing {
    pub(super) const fn new(
        path: &'static str,
        file: &'static str,
        max_body: usize,
        draw: fn(&Query, &[u8]) -> Result<Value, String>,
    ) -> Self {
        Self { path, file, max_body, draw, turn: Mutex::new(()) }
    }
}

/// A reference, because the turn is the process's: registries may be several.
impl Page for &'static Drawing {
    fn path(&self) -> &str {
        self.path
    }

    fn description(&self) -> &str {
        ""
    }

    fn max_body(&self) -> usize {
        self.max_body
    }

    fn changes(&self) -> &'static [Method] {
        &[Method::POST]
    }

    fn answer(&self, ask: &Ask) -> Reply {
        if ask.method != Method::POST {
            let how = format!("post {} to this path to have it drawn, as the page at /debug/pprof/ui/ does", self.file);
            return reply::error(StatusCode::BAD_REQUEST, how);
        }
        let _turn = self.turn.lock();
        match heap::untracked(|| (self.draw)(&ask.query, &ask.body)) {
            Ok(value) => super::json(&value),
            Err(message) => reply::error(StatusCode::BAD_REQUEST, message),
        }
    }
}
