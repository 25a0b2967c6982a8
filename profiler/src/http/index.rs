//! The page at `/debug/pprof/`: what can be asked for, with counts, links and one sentence each.
//!
//! It lists what exists and nothing else. It is one file without scripts, so it works in any browser and offline.

use std::fmt::Write;

use super::query::encode;
use super::registry::Registry;
use super::reply::escape;

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>/debug/pprof/</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font: 600 1.4rem ui-monospace, monospace; }
table { border-collapse: collapse; margin: 1.5rem 0; }
th, td { text-align: left; padding: .25rem 1.5rem .25rem 0; border-bottom: 1px solid #8884; }
td:first-child, th:first-child { text-align: right; font-variant-numeric: tabular-nums; }
dt { font-weight: 600; margin-top: .6rem; }
dd { margin: 0; }
code { font-family: ui-monospace, monospace; }
</style>
</head>
<body>
<h1>/debug/pprof/</h1>
<p>Append <code>?debug=1</code> to a profile for its text, <code>?debug=0</code> for the file that
<code>go tool pprof</code> reads.</p>
";

/// One row.
struct Entry {
    name: String,
    /// What the link adds to the name.
    query: &'static str,
    count: usize,
    description: String,
}

/// Renders the page. Asks every profile for its count, so it belongs on a thread that may block.
pub(super) fn render(registry: &Registry) -> String {
    let mut entries: Vec<Entry> = registry
        .profiles()
        .iter()
        .map(|profile| Entry {
            name: profile.name().to_owned(),
            query: "?debug=1",
            count: profile.count(),
            description: match profile.unavailable() {
                None => profile.description().to_owned(),
                Some(reason) => format!("{} Not available: {reason}.", profile.description()),
            },
        })
        .collect();
    let has_tasks = entries.iter().any(|entry| entry.name == "goroutine");
    let mut page = |name: &str, query, description: &str| {
        entries.push(Entry { name: name.to_owned(), query, count: 0, description: description.to_owned() });
    };
    page("cmdline", "", "The command line of this program.");
    page("symbol", "", "Names for the addresses in the query, joined by +.");
    for capture in registry.captures() {
        page(capture.name(), "", capture.description());
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));

    let mut html = HEAD.to_owned();
    html.push_str("<table>\n<thead><tr><th>Count</th><th>Profile</th></tr></thead>\n<tbody>\n");
    for Entry { name, query, count, .. } in &entries {
        let shown = escape(name);
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(html, "<tr><td>{count}</td><td><a href=\"{}{query}\">{shown}</a></td></tr>", encode(name));
    }
    html.push_str("</tbody>\n</table>\n");
    if has_tasks {
        html.push_str("<p><a href=\"goroutine?debug=2\">full goroutine stack dump</a></p>\n");
    }
    let mut pages = registry.pages();
    pages.retain(|page| !page.description().is_empty());
    if !pages.is_empty() {
        html.push_str("<h2>Pages</h2>\n<dl>\n");
        for page in &pages {
            let path = escape(page.path());
            let _ = writeln!(html, "<dt><a href=\"{path}\">{path}</a></dt><dd>{}</dd>", escape(page.description()));
        }
        html.push_str("</dl>\n");
    }
    html.push_str("<h2>Profiles</h2>\n<dl>\n");
    for Entry { name, description, .. } in &entries {
        let _ = writeln!(html, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(description));
    }
    html.push_str("</dl>\n</body>\n</html>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::route::tests::{Fake, FakeCpu};
    use std::sync::Arc;

    #[test]
    fn the_page_lists_what_exists_and_escapes_names() {
        let registry = Registry::new();
        let empty = render(&registry);
        assert!(empty.contains("\"cmdline\"") && empty.contains("\"symbol\""));
        assert!(!empty.contains("\"profile\"") && !empty.contains("goroutine?debug=2"));

        registry.register_capture(Arc::new(FakeCpu::default())).expect("a new name");
        registry.register(Arc::new(Fake::named("goroutine"))).expect("a new name");
        registry.register(Arc::new(Fake::named("a<b>\"c"))).expect("a new name");
        let page = render(&registry);
        assert!(page.contains("<td>3</td><td><a href=\"goroutine?debug=1\">goroutine</a>"), "{page}");
        assert!(page.contains("href=\"a%3Cb%3E%22c?debug=1\">a&lt;b&gt;&#34;c<"), "{page}");
        assert!(page.contains("goroutine?debug=2") && page.contains("\"profile\""));
        let order: Vec<usize> = ["a%3Cb", "\"cmdline\"", "\"goroutine?", "\"profile\"", "\"symbol\""]
            .map(|at| page.find(at).expect(at))
            .to_vec();
        assert!(order.is_sorted(), "{page}");
    }
}
