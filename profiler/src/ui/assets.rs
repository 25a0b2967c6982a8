//! The page's files.

use bytes::Bytes;
use hyper::{
    StatusCode,
    header::{self, HeaderName, HeaderValue},
};

use super::ROOT;
use crate::http::{
    Ask, Page,
    reply::{self, Reply},
};

/// Files of this port, and nothing else: no inline scripts or styles, no other host, no frame around it. Pictures are drawn by the
/// scripts; `data:` is the empty icon, for which the browser would ask otherwise.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// One file.
#[derive(Debug)]
pub(super) struct Asset {
    path: String,
    content_type: &'static str,
    text: &'static str,
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = Asset> {
    [
        ("", HTML, include_str!("assets/index.html")),
        ("style.css", STYLE, include_str!("assets/style.css")),
        ("app.js", SCRIPT, include_str!("assets/app.js")),
        ("capture.js", SCRIPT, include_str!("assets/capture.js")),
        ("chart.js", SCRIPT, include_str!("assets/chart.js")),
        ("dom.js", SCRIPT, include_str!("assets/dom.js")),
        ("flame.js", SCRIPT, include_str!("assets/flame.js")),
        ("format.js", SCRIPT, include_str!("assets/format.js")),
        ("graph.js", SCRIPT, include_str!("assets/graph.js")),
        ("lanes.js", SCRIPT, include_str!("assets/lanes.js")),
        ("leaks.js", SCRIPT, include_str!("assets/leaks.js")),
        ("live.js", SCRIPT, include_str!("assets/live.js")),
        ("perfetto.js", SCRIPT, include_str!("assets/perfetto.js")),
        ("timeline.js", SCRIPT, include_str!("assets/timeline.js")),
        ("trace.js", SCRIPT, include_str!("assets/trace.js")),
        ("waits.js", SCRIPT, include_str!("assets/waits.js")),
    ]
    .into_iter()
    .map(|(name, content_type, text)| Asset { path: format!("{ROOT}{name}"), content_type, text })
}

impl Page for Asset {
    fn path(&self) -> &str {
        &self.path
    }

    fn description(&self) -> &str {
        if self.path == ROOT { "This program in the browser: live figures, flame graphs and captures." } else { "" }
    }

    fn answer(&self, _ask: &Ask) -> Reply {
        let body = Bytes::from_static(self.text.as_bytes());
        let mut reply = reply::reply(StatusCode::OK, HeaderValue::from_static(self.content_type), body);
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
            // Another build of the program has other files at the same address.
            (header::CACHE_CONTROL, "no-cache"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ] {
            reply.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        reply
    }
}
