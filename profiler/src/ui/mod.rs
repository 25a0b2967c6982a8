//! The page at `/debug/pprof/ui/`: what the program does, as a picture, in any browser and without the internet.
//!
//! ```text
//!   browser                                        port
//!   index.html, *.js, style.css      ◀── GET ───   assets   embedded files, nothing from elsewhere
//!   which profiles there are         ◀── GET ───   kinds    asks the registry
//!   figures, each second             ◀── GET ───   live     the sums that `/metrics` tells, too
//!   a capture, kept in the browser   ◀── GET ───   ../NAME  the endpoints that every other tool uses
//!   its flame graph                  ◀── POST ──   flame    one capture, or two to compare
//!   its timeline                     ◀── POST ──   timeline a window of an execution trace
//!   leaked tasks, who waits for whom ◀── GET ───   ../goroutineleak?format=json
//!   why a task is not leaked         ◀── GET ───   ../why?format=json
//! ```
//!
//! The server keeps nothing for the page. A capture is the file that `go tool pprof` reads: the browser saves it as it is, and
//! sends it back to have it drawn. So each profile that the port offers can be drawn without its own code, and files from elsewhere,
//! too.
//!
//! The page obeys the port's rules: a token's cookie is sent by the browser, and what is posted carries `X-Greenprof`. Its
//! content security policy allows nothing but files of this folder, and no inline scripts and styles.

mod assets;
mod drawing;
mod flame;
mod kinds;
mod live;
mod timeline;

use std::sync::Arc;

use greenprof_runtime::heap;
use hyper::{
    StatusCode,
    header::{self, HeaderValue},
};
use serde_json::Value;

use crate::http::{
    Page, RegisterError, Registry,
    reply::{self, Reply},
};

/// Where the page is.
const ROOT: &str = "/debug/pprof/ui/";

/// Puts the page and what it asks for into a registry.
///
/// # Errors
/// If there are pages of these paths already.
pub fn register(registry: &Registry) -> Result<(), RegisterError> {
    for asset in assets::all() {
        registry.register_page(Arc::new(asset))?;
    }
    let data: [Arc<dyn Page>; 4] =
        [Arc::new(kinds::Kinds), Arc::new(live::Live), Arc::new(&flame::FLAME), Arc::new(&timeline::TIMELINE)];
    data.into_iter().try_for_each(|page| registry.register_page(page))
}

/// 200 with data for the page's scripts.
fn json(value: &Value) -> Reply {
    let text = heap::untracked(|| value.to_string());
    let mut reply = reply::reply(StatusCode::OK, HeaderValue::from_static("application/json"), text);
    // What is true now is not, the next time.
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
