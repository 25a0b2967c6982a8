//! `kinds`: what this program's port offers, so that the page shows that and nothing else.

use serde_json::{Value, json};

use crate::http::{Ask, Length, Page, Registry, reply::Reply};

pub(super) struct Kinds;

impl Page for Kinds {
    fn path(&self) -> &str {
        "/debug/pprof/ui/kinds"
    }

    fn description(&self) -> &str {
        ""
    }

    fn answer(&self, ask: &Ask) -> Reply {
        super::json(&kinds(&ask.registry))
    }
}

fn kinds(registry: &Registry) -> Value {
    let profiles = registry.profiles().into_iter().map(|profile| {
        json!({
            "name": profile.name(),
            "description": profile.description(),
            "unavailable": profile.unavailable(),
            "changes": profile.supports_delta(),
        })
    });
    let captures = registry.captures().into_iter().map(|capture| {
        let (seconds, fraction) = match capture.length() {
            Length::Whole(seconds) => (seconds.into(), false),
            Length::Fractional(seconds) => (seconds, true),
        };
        json!({
            "name": capture.name(),
            "description": capture.description(),
            "seconds": seconds,
            "fraction": fraction,
        })
    });
    let rates = registry
        .rates()
        .into_iter()
        .map(|rate| json!({ "name": rate.name(), "description": rate.description(), "value": rate.get() }));
    json!({
        "program": program(),
        "process": std::process::id(),
        "profiles": profiles.collect::<Vec<_>>(),
        "captures": captures.collect::<Vec<_>>(),
        "rates": rates.collect::<Vec<_>>(),
    })
}

/// The file name of this program, as it was called.
fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_default();
    std::path::Path::new(&called).file_name().unwrap_or(&called).to_string_lossy().into_owned()
}
