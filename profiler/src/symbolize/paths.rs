//! Module paths for functions that debug information names only by their last part.
//!
//! With `debug = "line-tables-only"` an inlined function has a bare name (`lock`, `{closure#0}`), no linkage name and no
//! namespace. Its source file is known, though, and rustc names each compilation unit after the crate's root file and
//! the crate (`runtime/src/lib.rs/@/greenprof_runtime.1f0c-cgu.3`). From both follows the module of a file, which is
//! what this table gives. It is a guess in two ways: the type of a method is not in it, and a `#[path]` attribute or an
//! included file misleads it. Where there is a linkage name it is never asked. An incremental build names its units
//! after a hash; there the package's folder has to serve as the crate's name.

/// Which folder belongs to which crate.
#[derive(Debug, Default)]
pub struct CrateRoots {
    roots: Vec<Root>,
}

#[derive(Debug, PartialEq, Eq)]
struct Root {
    /// The root file, such as `/home/me/app/runtime/src/lib.rs`.
    file: String,
    /// Its folder, without the last slash.
    folder: String,
    /// The crate's name.
    name: String,
}

impl CrateRoots {
    /// Takes in one compilation unit: its name and the folder it was compiled in. Units of other compilers are ignored.
    pub fn add_unit(&mut self, unit_name: &str, compiled_in: Option<&str>) {
        let Some((file, unit)) = unit_name.split_once("/@/") else { return };
        let Some((name, _)) = unit.split_once('.') else { return };
        let absolute = match compiled_in {
            Some(folder) if !file.starts_with('/') => Some(format!("{}/{file}", folder.trim_end_matches('/'))),
            _ => None,
        };
        // The relative form is kept as well: `std::panic::Location` reports what rustc was given.
        for file in std::iter::once(file.to_owned()).chain(absolute) {
            let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
            let root = Root { file, folder, name: name.to_owned() };
            if !self.roots.contains(&root) {
                self.roots.push(root);
            }
        }
    }

    /// The module that a Rust source file is, such as `greenprof_runtime::sync::chan`; `None` for other files.
    pub fn module_of(&self, file: &str) -> Option<String> {
        let stem = file.strip_suffix(".rs")?;
        if let Some(root) = self.roots.iter().find(|root| root.file == file) {
            return Some(root.name.clone());
        }
        let inside = self.roots.iter().filter(|root| is_inside(stem, &root.folder));
        // The innermost folder wins; a library and its binaries share one, and modules mostly are the library's.
        let best = inside.max_by_key(|root| (root.folder.len(), root.file.ends_with("/lib.rs")));
        match best {
            Some(root) => Some(join(&root.name, stem[root.folder.len()..].trim_start_matches('/'))),
            None => module_by_folder(stem),
        }
    }
}

fn is_inside(path: &str, folder: &str) -> bool {
    !folder.is_empty() && path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Without a unit to go by: the folder above the last `src` has the package's name, with a version if it was downloaded.
fn module_by_folder(stem: &str) -> Option<String> {
    let (before, inside) = stem.rsplit_once("/src/")?;
    let package = before.rsplit('/').next().filter(|package| !package.is_empty())?;
    let name = match package.rsplit_once('-') {
        Some((name, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => name,
        _ => package,
    };
    Some(join(&name.replace('-', "_"), inside))
}

fn join(crate_name: &str, inside: &str) -> String {
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    match inside {
        "lib" | "main" | "mod" | "" => crate_name.to_owned(),
        _ => format!("{crate_name}::{}", inside.replace('/', "::")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_finds_its_crate_and_module() {
        let mut roots = CrateRoots::default();
        roots.add_unit("runtime/src/lib.rs/@/greenprof_runtime.59c5d0d6-cgu.03", Some("/home/me/greenprof"));
        roots.add_unit("runtime/src/lib.rs/@/greenprof_runtime.59c5d0d6-cgu.04", Some("/home/me/greenprof"));
        roots.add_unit("demos/src/main.rs/@/demo.aaaa-cgu.0", Some("/home/me/greenprof"));
        roots.add_unit("demos/src/lib.rs/@/greenprof_demos.bbbb-cgu.0", Some("/home/me/greenprof/"));
        roots.add_unit("tests/http.rs/@/http.cccc-cgu.0", Some("/home/me/greenprof"));
        roots.add_unit("/rustc/abc/library/core/src/lib.rs/@/core.dddd-cgu.0", Some("/rustc/abc"));
        roots.add_unit("../sysdeps/x86_64/start.S", Some("/build/glibc"));
        assert_eq!(roots.roots.len(), 9, "{roots:?}");
        for (file, module) in [
            ("/home/me/greenprof/runtime/src/sync/chan.rs", Some("greenprof_runtime::sync::chan")),
            ("/home/me/greenprof/runtime/src/sync/mod.rs", Some("greenprof_runtime::sync")),
            ("/home/me/greenprof/runtime/src/lib.rs", Some("greenprof_runtime")),
            ("runtime/src/task/entry.rs", Some("greenprof_runtime::task::entry")),
            ("/home/me/greenprof/demos/src/main.rs", Some("demo")),
            ("/home/me/greenprof/demos/src/leaks/list.rs", Some("greenprof_demos::leaks::list")),
            ("/home/me/greenprof/tests/http.rs", Some("http")),
            ("/rustc/abc/library/core/src/iter/range.rs", Some("core::iter::range")),
            ("/home/me/.rustup/toolchains/x/lib/rustlib/src/rust/library/alloc/src/vec/mod.rs", Some("alloc::vec")),
            ("/home/me/.cargo/registry/src/index/lock-api-0.5.0/src/mutex.rs", Some("lock_api::mutex")),
            ("/build/glibc/string/memcpy.c", None),
            ("elsewhere.rs", None),
        ] {
            assert_eq!(roots.module_of(file).as_deref(), module, "{file}");
        }
    }
}
