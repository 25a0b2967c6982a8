//! The page at `/debug/pprof/ui/` in a browser: a busy `orders` for everything but leaks, and `deadlock` for those.
//!
//! Needs node, Chromium, and playwright-core, which `.ci/run` installs into `target/browser`. With `GREENPROF_IMAGES=FOLDER` the
//! screenshots of the docs are written.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use serde_json::{Value, json};

/// Node, Chromium, and the folder with playwright-core; or why the test is skipped.
fn tools() -> Option<(String, String, PathBuf)> {
    let find = |names: &[&str]| {
        let starts = |name: &&&str| Command::new(name).arg("--version").output().is_ok_and(|it| it.status.success());
        names.iter().find(starts).map(|name| (*name).to_owned())
    };
    let which = |name: &str| {
        let paths = env::split_paths(&env::var_os("PATH").unwrap_or_default())
            .map(|folder| folder.join(name))
            .collect::<Vec<_>>();
        paths.into_iter().find(|path| path.is_file()).map(|path| path.display().to_string())
    };
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/browser");
    let packages = env::var_os("GREENPROF_PLAYWRIGHT").map_or(installed, PathBuf::from);
    let (node, chromium) =
        (find(&["node"]), find(&["chromium", "chromium-browser", "google-chrome"]).and_then(|it| which(&it)));
    match (node, chromium, packages.join("node_modules/playwright-core").is_dir()) {
        (Some(node), Some(chromium), true) => Some((node, chromium, packages)),
        _ => {
            let needs = "the tests of the page need node, chromium, and playwright-core in target/browser, as .ci/run installs them";
            assert!(env::var_os("CI").is_none(), "{needs}");
            eprintln!("skipped: {needs}");
            None
        }
    }
}

/// A demo whose port is open, until it is dropped.
struct Demo {
    child: Child,
    address: String,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greenprof-demos"));
        command.args(arguments).args(["--addr", "127.0.0.1:0", "--workers", "2"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
        // `orders` names its port on standard error, the others on standard output; both go on being read.
        let (out, error) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (found, address) = std::sync::mpsc::channel();
        for stream in [Box::new(out) as Box<dyn Read + Send>, Box::new(error)] {
            let found = found.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let part = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
                    part.into_iter().for_each(|address| drop(found.send(address.to_owned())));
                }
            });
        }
        drop(found);
        let address = address.recv().expect("an address");
        Self { child, address }
    }

    /// Uses its page, as `tests/browser/page.mjs` does.
    fn browse(&self, (node, chromium, packages): &(String, String, PathBuf), mut wanted: Value) {
        wanted["chromium"] = json!(chromium);
        wanted["packages"] = json!(packages);
        wanted["address"] = json!(format!("http://{}", self.address));
        wanted["images"] = json!(env::var("GREENPROF_IMAGES").ok());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/browser/page.mjs");
        let output = Command::new(node).arg(script).arg(wanted.to_string()).output().expect("node starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_browser_can_use_the_page_of_a_busy_service() {
    let Some(tools) = tools() else { return };
    let orders = Demo::start(&["orders"]);
    orders.browse(&tools, json!({ "hot": "price_order", "label": "tenant=acme", "task": "store-writer" }));
}

#[test]
fn a_browser_finds_a_leak_and_has_it_explained() {
    let Some(tools) = tools() else { return };
    let deadlock = Demo::start(&["deadlock", "--seconds", "600"]);
    deadlock.browse(&tools, json!({ "leak": "transfer to a" }));
}
