//! The page at `/debug/pprof/ui/` in a browser: a busy `orders` for everything but leaks, and `deadlock` for those; and what the README
//! promises first, a flame graph after one command.
//!
//! Needs node, Chromium, and playwright-core, which `.ci/run` installs into `target/browser`. With `GREENPROF_IMAGES=FOLDER` the
//! screenshots of the docs are written.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Instant,
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
    /// What it says about other addresses of the port.
    more: Receiver<String>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greenprof-demos"));
        command.args(arguments).args(["--addr", "127.0.0.1:0", "--workers", "2"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
        // `orders` names its port on standard error, the others on standard output; both go on being read.
        let (out, error) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (found, more) = mpsc::channel();
        for stream in [Box::new(out) as Box<dyn Read + Send>, Box::new(error)] {
            let found = found.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let url = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next());
                    url.into_iter().for_each(|url| drop(found.send(url.to_owned())));
                }
            });
        }
        drop(found);
        let first = more.recv().expect("an address");
        let address = first.split('/').next().expect("a host and a port").to_owned();
        Self { child, address, more }
    }

    /// Uses its page, as `tests/browser/page.mjs` does.
    fn browse(&self, tools: &(String, String, PathBuf), wanted: Value) {
        self.script("page.mjs", tools, wanted);
    }

    /// Runs a script of `tests/browser`. Gives what it prints.
    fn script(&self, name: &str, (node, chromium, packages): &(String, String, PathBuf), mut wanted: Value) -> String {
        wanted["chromium"] = json!(chromium);
        wanted["packages"] = json!(packages);
        wanted["address"] = json!(format!("http://{}", self.address));
        wanted["images"] = json!(env::var("GREENPROF_IMAGES").ok());
        let script = format!("{}/../tests/browser/{name}", env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(node).arg(script).arg(wanted.to_string()).output().expect("node starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
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

/// Only that it comes is asserted: how long it takes depends on the machine, and is printed (`-- --nocapture`).
#[test]
fn the_command_of_the_readme_leads_to_a_flame_graph() {
    let Some(tools) = tools() else { return };
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    let (_, rest) = readme.split_once("(To see a flame graph in the browser first: `").expect("the README says how");
    let command = rest.split('`').next().expect("a command");
    let arguments = command.strip_prefix("cargo run --release -p greenprof-demos -- ").expect("of the demos");
    let began = Instant::now();
    let demo = Demo::start(&arguments.split_whitespace().collect::<Vec<_>>());
    let said = began.elapsed();
    let url = demo.more.recv().expect("the address of a first capture");
    assert!(url.contains("capture=profile"), "{url}");
    let wanted = json!({ "url": format!("http://{url}"), "hot": "price_order" });
    let printed = demo.script("first.mjs", &tools, wanted);
    let took: Value = serde_json::from_str(&printed).expect("JSON");
    let seconds = |key: &str| took[key].as_f64().expect("a number") / 1000.0;
    println!(
        "{:.1} s from the command to the first flame graph: {:.2} s until it had said where to look, {:.1} s until there was a \
         browser, {:.1} s for the capture of 5 s and its {} frames",
        said.as_secs_f64() + seconds("frames"),
        said.as_secs_f64(),
        seconds("browser"),
        seconds("frames") - seconds("browser"),
        took["count"],
    );
}
