//! Addresses of this process -> functions, files and lines, inlined calls included.
//!
//! Everything here runs when a profile is served, on an ordinary thread: it reads files, allocates and takes a lock, so
//! nothing of it may be called from a signal handler, a hook or a stopped world. Those record raw addresses only.
//!
//! Memory: at most [`MAX_CACHED_ADDRESSES`] addresses are remembered, with their strings shared; when the next one would
//! exceed that, all are forgotten (a profile rarely has a tenth of it, so no cleverer rule pays). Beyond that the
//! parsed tables of the mapped files are kept, which are bounded by the files' debug information, and which go when a
//! file is unmapped.

#[cfg(test)]
pub(crate) mod chain;
pub mod maps;
mod module;
pub mod names;
mod paths;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

pub use maps::Mapping;
use module::Module;

/// Addresses remembered at a time. With the usual two or three frames each this is below 8 MiB.
pub const MAX_CACHED_ADDRESSES: usize = 32_768;

/// One function level at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Readable name; see [`names`].
    pub function: Arc<str>,
    /// Name as the linker knows it, or as debug information has it for an inlined function.
    pub raw_name: Arc<str>,
    /// Source file.
    pub file: Option<Arc<str>>,
    /// Line, 0 if unknown.
    pub line: u32,
    /// Column, 0 if unknown.
    pub column: u32,
    /// Line on which the function begins, 0 if unknown.
    pub function_line: u32,
    /// Where the code begins that the address lies in: the function itself, or the one it is inlined into. 0 if unknown.
    pub function_address: usize,
    /// Whether this level was inlined into the next.
    pub inlined: bool,
}

/// Frames of one address, innermost first. Empty if nothing is known about it.
pub type Frames = Arc<[Frame]>;

/// Resolves addresses of the running process.
pub struct Symbolizer {
    mappings: Vec<Mapping>,
    /// By the file's identity; `None` for files that cannot be read, so that they are not tried again and again.
    modules: HashMap<ModuleKey, Option<Module>>,
    resolved: HashMap<usize, Frames>,
    strings: HashSet<Arc<str>>,
}

type ModuleKey = (maps::FileId, std::path::PathBuf);

impl Default for Symbolizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Symbolizer {
    /// A symbolizer that knows what is mapped now.
    pub fn new() -> Self {
        let mut symbolizer =
            Self { mappings: Vec::new(), modules: HashMap::new(), resolved: HashMap::new(), strings: HashSet::new() };
        symbolizer.refresh();
        symbolizer
    }

    /// Looks again at what is mapped. Call it before a batch of lookups: libraries come and go.
    pub fn refresh(&mut self) {
        // An unreadable maps file leaves the old list: most of it is still true.
        let Ok(mappings) = maps::read() else { return };
        if mappings == self.mappings {
            return;
        }
        self.mappings = mappings;
        self.resolved.clear();
        self.strings.clear();
        let live: HashSet<ModuleKey> = self.mappings.iter().map(module_key).collect();
        self.modules.retain(|key, _| live.contains(key));
    }

    /// The executable mappings, in address order.
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// Index in [`Symbolizer::mappings`] of the one that holds `address`.
    pub fn mapping_index(&self, address: usize) -> Option<usize> {
        let after = self.mappings.partition_point(|mapping| mapping.start <= address);
        let index = after.checked_sub(1)?;
        self.mappings[index].contains(address).then_some(index)
    }

    /// GNU build id of a mapping's file in hex; empty if it has none.
    pub fn build_id(&mut self, mapping_index: usize) -> String {
        let mapping = &self.mappings[mapping_index];
        module_of(&mut self.modules, mapping).map_or_else(String::new, |module| module.build_id().to_owned())
    }

    /// The functions at `address`, innermost first. For a return address, pass the address minus one.
    pub fn resolve(&mut self, address: usize) -> Frames {
        if let Some(frames) = self.resolved.get(&address) {
            return frames.clone();
        }
        if self.resolved.len() >= MAX_CACHED_ADDRESSES {
            self.resolved.clear();
            self.strings.clear();
        }
        let frames: Frames = self.look_up(address).into();
        self.resolved.insert(address, frames.clone());
        frames
    }

    /// The Rust module of a source file as rustc names it, such as `app::worker` for `app/src/worker.rs`, if the main
    /// program was compiled from it.
    pub fn module_path(&mut self, file: &str) -> Option<String> {
        let index = self.mapping_index(own_code())?;
        let mapping = &self.mappings[index];
        module_of(&mut self.modules, mapping)?.crate_roots().module_of(file)
    }

    fn look_up(&mut self, address: usize) -> Vec<Frame> {
        let Some(index) = self.mapping_index(address) else { return Vec::new() };
        let mapping = &self.mappings[index];
        let Some(module) = module_of(&mut self.modules, mapping) else { return Vec::new() };
        let offset = mapping.file_offset + (address - mapping.start) as u64;
        let Some(file_address) = module.file_address(offset) else { return Vec::new() };
        let function_address = match module.symbol(file_address) {
            Some((_, start)) => address.saturating_sub((file_address - start) as usize),
            None => 0,
        };
        let raw = module.frames(file_address);
        let outermost = raw.len().saturating_sub(1);
        raw.into_iter()
            .enumerate()
            .map(|(level, raw)| Frame {
                function: intern(&mut self.strings, &readable_name(module, &raw)),
                raw_name: intern(&mut self.strings, &raw.name),
                file: raw.file.as_deref().map(|file| intern(&mut self.strings, file)),
                line: raw.line,
                column: raw.column,
                function_line: raw.function_line,
                function_address,
                inlined: level < outermost,
            })
            .collect()
    }
}

/// The symbolizer of this process, shared by all that writes profiles, so that files are read only once.
///
/// ```
/// use greenprof_profiler::symbolize;
///
/// let mut symbolizer = symbolize::shared().lock();
/// symbolizer.refresh();
/// let frames = symbolizer.resolve(symbolize::shared as *const () as usize);
/// println!("{}", frames.first().map_or("no debug information", |frame| &*frame.function));
/// ```
pub fn shared() -> &'static Mutex<Symbolizer> {
    static SHARED: LazyLock<Mutex<Symbolizer>> = LazyLock::new(|| Mutex::new(Symbolizer::new()));
    &SHARED
}

fn module_key(mapping: &Mapping) -> ModuleKey {
    (mapping.file.clone(), mapping.path.clone())
}

fn module_of<'a>(modules: &'a mut HashMap<ModuleKey, Option<Module>>, mapping: &Mapping) -> Option<&'a Module> {
    modules.entry(module_key(mapping)).or_insert_with(|| Module::load(mapping).ok()).as_ref()
}

/// An address inside the file that this crate was linked into.
fn own_code() -> usize {
    own_code as fn() -> usize as usize
}

fn readable_name(module: &Module, raw: &module::RawFrame) -> String {
    if !raw.bare {
        return names::readable(&raw.name);
    }
    let name = names::simplify(&raw.name);
    match raw.file.as_deref().and_then(|file| module.crate_roots().module_of(file)) {
        Some(path) => format!("{path}::{name}"),
        None => name,
    }
}

fn intern(strings: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(known) = strings.get(text) {
        return known.clone();
    }
    let new: Arc<str> = text.into();
    strings.insert(new.clone());
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use chain::{NAMES, OUTER_LINE, outer, outer_start};

    #[test]
    fn an_inline_chain_comes_out_innermost_first() {
        let mut symbolizer = Symbolizer::new();
        let frames = symbolizer.resolve(outer() - 1);
        let names: Vec<&str> = frames.iter().map(|frame| &*frame.function).collect();
        assert_eq!(names, NAMES);
        assert_eq!(frames.iter().map(|frame| frame.inlined).collect::<Vec<_>>(), [true, true, false]);
        for frame in frames.iter() {
            let file = frame.file.as_deref().expect("a file");
            assert!(file.ends_with("symbolize/chain.rs"), "{file}");
            assert!(frame.line > 0);
            assert_eq!(frame.function_address, outer_start());
        }
        assert_eq!(frames[2].line, OUTER_LINE + 1);
        assert_eq!(frames[2].function_line, OUTER_LINE);
    }

    #[test]
    fn a_libc_function_is_found_by_its_symbol_and_garbage_is_not() {
        let mut symbolizer = Symbolizer::new();
        // SAFETY: a lookup by name among the loaded libraries; the name is a NUL-terminated literal.
        let malloc = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"malloc".as_ptr()) } as usize;
        let frames = symbolizer.resolve(malloc + 1);
        assert_eq!(&*frames.last().expect("a symbol").raw_name, "malloc");
        assert_eq!(frames[0].function_address, malloc);
        assert!(symbolizer.resolve(0).is_empty());
        assert!(symbolizer.resolve(usize::MAX).is_empty());
        let data = &raw const symbolizer as usize;
        assert!(symbolizer.resolve(data).is_empty());
    }

    #[test]
    fn the_virtual_library_has_symbols() {
        let mut symbolizer = Symbolizer::new();
        let Some(index) = symbolizer.mappings().iter().position(Mapping::is_vdso) else { return };
        let range = symbolizer.mappings()[index].start..symbolizer.mappings()[index].end;
        let found = range
            .step_by(16)
            .any(|address| symbolizer.resolve(address).iter().any(|frame| frame.function.contains("clock_gettime")));
        assert!(found);
    }

    #[test]
    fn the_cache_stays_within_its_bound() {
        let mut symbolizer = Symbolizer::new();
        for address in 0..MAX_CACHED_ADDRESSES + 10 {
            symbolizer.resolve(address);
        }
        assert!(symbolizer.resolved.len() <= MAX_CACHED_ADDRESSES);
        assert!(!symbolizer.resolve(outer() - 1).is_empty());
    }

    #[test]
    fn a_source_file_has_a_module_path() {
        let mut symbolizer = Symbolizer::new();
        // The crate's name is in the debug information only of builds that are not incremental; else it is the folder's.
        let path = symbolizer.module_path(file!()).expect("a Rust file");
        assert!(["greenprof_profiler::symbolize", "profiler::symbolize"].contains(&path.as_str()), "{path}");
        assert_eq!(symbolizer.module_path("/elsewhere/file.c"), None);
    }
}
