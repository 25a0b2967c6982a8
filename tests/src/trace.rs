//! `go tool trace`, as far as tests look at its answers.

use std::{
    collections::{HashSet, VecDeque},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
};

use crate::go;

/// The tool itself, so that a server that is ended does not leave one behind that `go` has started.
static TOOL: LazyLock<PathBuf> = LazyLock::new(|| {
    let output = go::command().args(["tool", "-n", "trace"]).output().expect("go starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().into()
});

/// Writes a trace to a file.
pub fn save(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

/// Our reader accepts the trace, and finds as many events of each kind as Go's.
///
/// # Panics
/// If not.
pub fn assert_counts_agree(file: &Path, bytes: &[u8]) {
    let totals = greenprof_tracer::reader::read(bytes, |_| ()).expect("a valid trace");
    let wire = debug(file, "wire");
    for (code, name) in [
        (10, "ProcStart"),
        (11, "ProcStop"),
        (13, "ProcStatus"),
        (14, "GoCreate"),
        (16, "GoStart"),
        (17, "GoDestroy"),
        (19, "GoStop"),
        (20, "GoBlock"),
        (21, "GoUnblock"),
        (22, "GoSyscallBegin"),
        (23, "GoSyscallEnd"),
        (37, "HeapAlloc"),
        (39, "GoLabel"),
        (40, "UserTaskBegin"),
        (41, "UserTaskEnd"),
        (42, "UserRegionBegin"),
        (43, "UserRegionEnd"),
        (44, "UserLog"),
        (48, "GoStatusStack"),
    ] {
        let theirs = wire.lines().filter(|line| line.split_whitespace().next() == Some(name)).count() as u64;
        assert_eq!(totals.by_code[code], theirs, "{name} in {}", file.display());
    }
}

/// `go tool trace -d=MODE FILE`.
///
/// # Panics
/// If the tool refuses the file, with what it says.
pub fn debug(file: &Path, mode: &str) -> String {
    let output = Command::new(&*TOOL).arg(format!("-d={mode}")).arg(file).output().expect("the tool starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "-d={mode} {}: {}", file.display(), &error[..error.len().min(6000)]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `go tool trace -pprof=KIND FILE`, as `go tool pprof -traces` shows it.
pub fn profile(file: &Path, kind: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("profile");
    std::fs::write(&path, profile_bytes(file, kind)).expect("written");
    go::pprof(["-traces".as_ref(), path.as_os_str()])
}

/// The profile itself.
///
/// # Panics
/// If the tool refuses the file.
pub fn profile_bytes(file: &Path, kind: &str) -> Vec<u8> {
    let output = Command::new(&*TOOL).arg(format!("-pprof={kind}")).arg(file).output().expect("the tool starts");
    assert!(output.status.success(), "-pprof={kind}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The texts of some pages of the web server.
///
/// # Panics
/// If one does not answer.
pub fn pages(file: &Path, paths: &[&str]) -> Vec<String> {
    let server = Server::start(file);
    let address = server.address.parse().expect("an address");
    let page = |path: &&str| {
        let answer = crate::client::get(address, path);
        assert_eq!(answer.status, 200, "{path}");
        String::from_utf8_lossy(&answer.body).into_owned()
    };
    paths.iter().map(page).collect()
}

/// The pages from which all others are reached, and those to which nothing links.
const ROOTS: [&str; 10] = [
    "/",
    "/trace",
    "/jsontrace",
    "/jsontrace?view=thread",
    "/goroutines",
    "/usertasks",
    "/userregions",
    "/mmu",
    "/mmu?mode=plot",
    "/sched?raw=1",
];

/// Asks for all pages, those that they link to included, until there are none that were not seen or `most` have been.
///
/// # Panics
/// If one does not answer, or the tool logs an error.
pub fn assert_pages_answer(file: &Path, most: usize) {
    let server = Server::start(file);
    let address = server.address.parse().expect("an address");
    let mut pages: VecDeque<String> = ROOTS.map(str::to_owned).into();
    let mut seen: HashSet<String> = pages.iter().cloned().collect();
    let mut asked = 0;
    while let Some(page) = pages.pop_front()
        && asked < most
    {
        asked += 1;
        let answer = crate::client::get(address, &page);
        assert_eq!(answer.status, 200, "{page}: {}", String::from_utf8_lossy(&answer.body));
        let text = String::from_utf8_lossy(&answer.body);
        let links = text.split("href=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(link, _)| link);
        for link in links.filter(|link| link.starts_with('/') && !link.starts_with("/static/")) {
            let link = link.replace("&amp;", "&").replace("&#43;", "+").replace(' ', "%20");
            // Pictures of profiles need Graphviz, the profiles themselves do not. The viewer's data is what it asks for.
            let is_profile = ["/io", "/block", "/syscall", "/sched", "/region"].iter().any(|it| link.starts_with(it));
            let link = match link.strip_prefix("/trace?") {
                Some(query) => format!("/jsontrace?{query}"),
                None if is_profile => format!("{link}{}raw=1", if link.contains('?') { '&' } else { '?' }),
                None => link,
            };
            let link = link.split_once('#').map_or(link.clone(), |(page, _)| page.to_owned());
            if seen.insert(link.clone()) {
                pages.push_back(link);
            }
        }
    }
    let said = server.end();
    assert!(!said.contains("Encountered error") && !said.contains("Lost"), "{said}");
}

/// The web server of the tool on a file; ended when it is dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: String,
    errors: std::thread::JoinHandle<String>,
}

impl Server {
    /// Starts it, and waits until it serves.
    pub fn start(file: &Path) -> Self {
        let mut child = Command::new(&*TOOL)
            .arg("-http=127.0.0.1:0")
            .arg(file)
            .env("BROWSER", "true")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let mut said = String::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("the tool has ended:\n{said}"));
            said.push_str(&line);
            said.push('\n');
            if let Some((_, rest)) = line.split_once("http://") {
                break rest.trim_end_matches('/').to_owned();
            }
        };
        let errors = std::thread::spawn(move || {
            lines.for_each(|line| {
                said.push_str(&line);
                said.push('\n');
            });
            said
        });
        Self { child, address, errors }
    }

    /// Ends it, and gives all that it has logged.
    pub fn end(mut self) -> String {
        assert!(self.child.try_wait().expect("a child").is_none(), "the tool has ended by itself");
        self.child.kill().expect("it runs");
        let _ = self.child.wait();
        let empty = std::thread::spawn(String::new);
        std::mem::replace(&mut self.errors, empty).join().expect("text")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
