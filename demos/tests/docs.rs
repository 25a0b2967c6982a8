//! The docs, held against what they speak of: links lead somewhere, functions are in the files that are named beside them, and
//! commands can be run. So none of them rots unseen.
//!
//! Commands are the lines of code blocks and the code in tables that begin as in [`checked`]. Those of the demos are parsed by the
//! binary; requests are made to a running `orders`; for `cargo` the package and the target must exist. What needs another
//! machine or a tool that the tests do not bring is listed in [`ELSEWHERE`].

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Beginnings of commands that are not run here, and why.
const ELSEWHERE: [(&str, &str); 7] = [
    ("kubectl ", "needs a cluster"),
    ("rustup ", "changes the toolchain"),
    ("cargo +nightly ", "needs a nightly toolchain"),
    ("cargo check --target ", "needs the target's library"),
    ("cd tests/data/go-http", "makes the table that other tests use"),
    ("mdbook ", "not installed"),
    ("curl -X POST -H 'X-Greenprof: 1' -d '{\"tasks\"", "answered only by programs that offer it"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// All pages: the README, the docs, and the READMEs of folders.
fn pages() -> Vec<PathBuf> {
    fn add(folder: &Path, pages: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let name = entry.file_name().into_string().expect("UTF-8");
            if path.is_dir() && !["target", ".git", "node_modules"].contains(&name.as_str()) {
                add(&path, pages);
            } else if name.ends_with(".md") {
                pages.push(path);
            }
        }
    }
    let mut pages = Vec::new();
    add(&root(), &mut pages);
    pages.sort();
    assert!(pages.len() > 20, "{pages:?}");
    pages
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The name by which a heading is linked to, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = read(&page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, place) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            let target = if path.is_empty() { page.clone() } else { page.parent().expect("a folder").join(path) };
            let has = |text: &str| {
                text.lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| anchor(line.trim_start_matches('#')) == place)
            };
            if !target.exists() || (!place.is_empty() && !has(&read(&target))) {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_book_has_every_page_of_the_docs() {
    let docs = root().join("docs");
    let summary = read(&docs.join("SUMMARY.md"));
    for page in pages().iter().filter_map(|page| page.strip_prefix(&docs).ok()) {
        let link = format!("({})", page.display());
        assert!(page == Path::new("SUMMARY.md") || summary.contains(&link), "SUMMARY.md lacks {link}");
    }
}

#[test]
fn functions_are_where_the_docs_say() {
    let mut count = 0;
    for page in pages() {
        // `name` (`file`), with a line's end between the two at the most.
        for part in read(&page).split("` (`").collect::<Vec<_>>().windows(2) {
            let (before, after) = (part[0], part[1]);
            let (Some(name), Some(file)) = (before.rsplit('`').next(), after.split('`').next()) else { continue };
            if file.ends_with(".rs") && file.contains("/src/") {
                let text = read(&root().join(file));
                assert!(declares(&text, name), "{}: there is no {name} in {file}", page.display());
                count += 1;
            }
        }
    }
    assert!(count > 40, "{count} functions: is the form still `name` (`file`)?");
}

/// Whether a source file declares something of this name: its mention, or a call, is not where it is.
fn declares(text: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|it: char| it.is_alphanumeric() || it == '_');
    ["fn ", "struct ", "enum ", "trait ", "const ", "static ", "type ", "macro_rules! "]
        .iter()
        .map(|kind| format!("{kind}{name}"))
        .any(|declared| text.match_indices(&declared).any(|(at, it)| ends(&text[at + it.len()..])))
}

/// The commands of a page: whole lines of code blocks, and code in tables and texts.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut is_fenced = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        is_fenced ^= line.trim_start().starts_with("```");
        if is_fenced || line.starts_with("    ") {
            let mut command = line.trim().to_owned();
            while let Some(first) = command.strip_suffix('\\') {
                command = format!("{first} {}", lines.next().unwrap_or_default().trim());
            }
            commands.push(command);
        } else {
            commands.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    commands
        .iter()
        .flat_map(|line| line.split(" && "))
        .map(|line| line.trim().to_owned())
        .filter(|line| checked(line))
        .collect()
}

/// Whether a line is a command, and not the name of a tool.
fn checked(line: &str) -> bool {
    let line = without_variables(line);
    let begins = ["cargo ", "greenprof-demos ", "go tool ", "curl ", "kubectl ", "rustup ", "cd ", "mdbook "];
    begins.iter().any(|start| line.starts_with(start)) && !matches!(line, "go tool pprof" | "go tool trace")
}

/// Without assignments in front.
fn without_variables(line: &str) -> &str {
    let mut rest = line;
    loop {
        let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
        let is_assignment =
            first.split_once('=').is_some_and(|(name, _)| name.chars().all(|it| it.is_ascii_uppercase() || it == '_'));
        if !is_assignment || more.is_empty() {
            return rest;
        }
        // A value in quotes may have blanks.
        rest = match first.matches('"').count() {
            1 => more.split_once("\" ").map_or("", |(_, more)| more),
            _ => more,
        };
    }
}

/// The words of a command, as a shell takes them; up to a comment, a pipe or a redirection.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in line.chars().chain([' ']) {
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if letter == open => quote = None,
            (None, ' ') if !word.is_empty() => words.push(std::mem::take(&mut word)),
            (None, ' ') => {}
            (None, '#' | '|' | '>' | '<') if word.is_empty() => break,
            _ => word.push(letter),
        }
    }
    words
}

/// A service whose port the requests of the docs go to.
struct Orders {
    child: Child,
    address: String,
}

impl Orders {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greenprof-demos"));
        command
            .args(["orders", "--addr", "127.0.0.1:0", "--workers", "1"])
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        let mut child = command.spawn().expect("the binary");
        let mut said = String::new();
        BufReader::new(child.stderr.as_mut().expect("piped")).read_line(&mut said).expect("a line");
        let address =
            said.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address").to_owned();
        Self { child, address }
    }

    /// The status of an answer, with what was said.
    fn ask(&self, url: &str, body: Option<&str>, headers: &[String]) -> (u16, String) {
        let path = url.split_once("://").map_or(url, |(_, rest)| rest).split_once('/').map_or("", |(_, path)| path);
        // As long as it takes to see that there is an answer.
        let path =
            ["seconds=2", "seconds=5"].iter().fold(path.to_owned(), |path, long| path.replace(long, "seconds=1"));
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout");
        let method = if body.is_some() { "POST" } else { "GET" };
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let body = body.unwrap_or("");
        let length = body.len();
        let head = format!("{method} /{path} HTTP/1.1\r\nHost: {}\r\n{headers}", self.address);
        write!(stream, "{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let text = String::from_utf8_lossy(&answer[..answer.len().min(2000)]).into_owned();
        (text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), text)
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the demos' binary understands the arguments: what stands before `--help` is parsed first.
fn parses(arguments: &[String]) -> Result<(), String> {
    // `FILE` and the like stand for what the reader has.
    let output =
        Command::new(env!("CARGO_BIN_EXE_greenprof-demos")).args(arguments).arg("--help").output().expect("the binary");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The value behind an option, given as `--name value`.
fn after<'a>(words: &'a [String], names: &[&str]) -> Option<&'a str> {
    words.iter().position(|word| names.contains(&word.as_str())).and_then(|at| words.get(at + 1)).map(String::as_str)
}

/// For `cargo`: the package and the target that are named exist; demos' arguments are understood.
fn cargo(words: &[String]) -> Result<(), String> {
    let package = after(words, &["-p", "--package"]).map(|name| name.trim_start_matches("greenprof-"));
    let Some(package) = package else {
        let workspace =
            words.iter().any(|word| word == "--workspace") || words.get(1).is_some_and(|word| word == "fmt");
        return if workspace { Ok(()) } else { Err("names no package".to_owned()) };
    };
    let folder = root().join(package);
    let own = words.iter().position(|word| word == "--").unwrap_or(words.len());
    for (option, place) in
        [("--test", "tests"), ("--bench", "benches"), ("--bin", "src/bin"), ("--example", "examples")]
    {
        if let Some(name) = after(&words[..own], &[option]) {
            let found =
                folder.join(place).join(format!("{name}.rs")).exists() || folder.join(place).join(name).is_dir();
            if !found {
                return Err(format!("there is no {name} in {package}/{place}"));
            }
        }
    }
    if !folder.join("Cargo.toml").exists() {
        return Err(format!("there is no package {package}"));
    }
    match words.get(own + 1..) {
        Some(arguments) if package == "demos" && words[1] == "run" && !words.contains(&"--example".to_owned()) => {
            parses(arguments)
        }
        _ => Ok(()),
    }
}

fn check(line: &str, orders: &Orders) -> Result<(), String> {
    let line = without_variables(line);
    if ELSEWHERE.iter().any(|(start, _)| line.starts_with(start)) {
        return Ok(());
    }
    let words = words(line);
    match words[0].as_str() {
        "cargo" => cargo(&words),
        "greenprof-demos" => parses(&words[1..]),
        "curl" | "go" => {
            let Some(url) = words.iter().find(|word| word.contains("/debug/") || word.ends_with("/metrics")) else {
                // Of a file.
                return if words[0] == "go" { Ok(()) } else { Err("asks for nothing".to_owned()) };
            };
            if !url.starts_with("http") && !url.contains(":6060") {
                return Ok(());
            }
            let headers: Vec<String> = after(&words, &["-H"]).map(str::to_owned).into_iter().collect();
            match orders.ask(url, after(&words, &["-d"]), &headers) {
                (200, _) => Ok(()),
                (status, text) => Err(format!("{status}: {text}")),
            }
        }
        other => Err(format!("nothing is known of {other}")),
    }
}

#[test]
fn commands_can_be_run() {
    let orders = Orders::start();
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for page in pages() {
        for command in commands(&read(&page)) {
            // What is written twice is asked once.
            if seen.insert(command.clone())
                && let Err(why) = check(&command, &orders)
            {
                wrong.push(format!("{}: {command}: {why}", page.display()));
            }
        }
    }
    assert!(seen.len() > 30, "{seen:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_wrong_command_is_noticed() {
    let orders = Orders::start();
    for command in [
        "cargo run -p greenprof-demos -- orders --colour",
        "cargo run -p greenprof-demos -- dance",
        "cargo run -p greenprof-nothing",
        "cargo bench -p greenprof-benches --bench nothing",
        "cargo build",
        "greenprof-demos tour --seconds x",
        "curl http://127.0.0.1:6060/debug/pprof/nothing",
        "go tool pprof -top 'http://127.0.0.1:6060/debug/pprof/nothing?seconds=1'",
        "curl -d '{\"nothing\": 1}' -H 'X-Greenprof: 1' http://127.0.0.1:6060/debug/greenprof/rates",
    ] {
        assert!(check(command, &orders).is_err(), "{command}");
    }
    let text = "a `go tool pprof` and\n\n    A=1 B=\"x y\" cargo test -p greenprof-demos \\\n      --lib # why\n\n`curl x/debug/y`";
    assert_eq!(commands(text), ["A=1 B=\"x y\" cargo test -p greenprof-demos  --lib # why", "curl x/debug/y"]);
    assert_eq!(words(without_variables(&commands(text)[0])), ["cargo", "test", "-p", "greenprof-demos", "--lib"]);
}

#[test]
fn the_readme_shows_the_example_that_has_everything() {
    let example = read(&root().join("demos/examples/embed.rs"));
    let start = example.find("use ").expect("a use");
    let end = example.find("\n}\n").expect("the end of main") + 3;
    let code = &example[start..end];
    assert!(read(&root().join("README.md")).contains(code), "the README lacks\n{code}");
    let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines < 10, "{lines} lines for everything");
}
