//! One ELF file that is mapped into this process: its debug information, its symbols, and its build id.
//!
//! A module is read from a memory map of the file and keeps borrowing from it: debug information that is not compressed
//! is never copied. `addr2line` parses the tables of a compilation unit when an address first falls into it and keeps
//! them, so the memory of a module grows with what is looked up, up to a small multiple of its line tables.
//!
//! Addresses: the *file address* of an instruction is what the linker assigned (the `p_vaddr` side of the program
//! headers). It is found through the file offset that the kernel reports for a mapping, not by subtracting a load base;
//! so position-independent programs, fixed ones, and segments whose address and offset differ are all the same case.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use gimli::{EndianSlice, RunTimeEndian};
use memmap2::Mmap;
use object::{CompressionFormat, Object, ObjectSection, ObjectSegment, ObjectSymbol, SymbolKind};
use thiserror::Error;

use super::maps::Mapping;
use super::names;
use super::paths::CrateRoots;

/// Largest debug section that is unpacked when a file has compressed ones; a bigger one leaves only the symbol table.
const MAX_UNPACKED_SECTION: u64 = 256 << 20;

/// How many references from a function's entry to its declaration are followed: an inlined call refers to its abstract
/// function, which may refer to a declaration.
const MAX_ORIGINS: usize = 3;

type Slice = EndianSlice<'static, RunTimeEndian>;

/// Why a mapped file cannot be symbolized.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// The file cannot be opened or mapped.
    #[error("the file cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The file is no object file that can be parsed.
    #[error("the file is no ELF file: {0}")]
    Object(#[from] object::Error),
    /// What is mapped is no regular file, so there is nothing to read.
    #[error("what is mapped is no regular file")]
    NotAFile,
    /// The mapped file has been replaced on disk, and what is there now has other addresses.
    #[error("the file was replaced since it was mapped")]
    Replaced,
}

/// One function level at an address, before names are made readable.
#[derive(Debug)]
pub(super) struct RawFrame {
    /// Linker symbol, or the bare name of an inlined function.
    pub name: String,
    /// Whether `name` is only the last part of the function's path.
    pub bare: bool,
    /// Source file.
    pub file: Option<String>,
    /// Line, or 0.
    pub line: u32,
    /// Column, or 0.
    pub column: u32,
    /// Line on which the function begins, or 0.
    pub function_line: u32,
}

/// One entry of the symbol table.
struct Symbol {
    address: u64,
    /// 0 where an assembler gave none: then it reaches to the next symbol.
    size: u64,
    name: &'static str,
}

/// What the module's slices point into.
enum Image {
    File(Mmap),
    /// A copy of the virtual library that the kernel maps.
    Memory(Box<[u8]>),
}

impl std::ops::Deref for Image {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Image::File(map) => map,
            Image::Memory(bytes) => bytes,
        }
    }
}

/// One loaded ELF file.
///
/// Field order matters: everything that borrows from `_unpacked` and `_image` is declared, and so dropped, before them.
pub(super) struct Module {
    context: Option<addr2line::Context<Slice>>,
    dwarf: Option<Arc<gimli::Dwarf<Slice>>>,
    symbols: Vec<Symbol>,
    /// Read when first asked for: only builds with line tables alone need it, and it visits every compilation unit.
    crate_roots: OnceCell<CrateRoots>,
    build_id: String,
    segments: Vec<Segment>,
    _unpacked: Vec<Box<[u8]>>,
    _image: Image,
}

/// A `PT_LOAD` program header.
struct Segment {
    offset: u64,
    file_size: u64,
    address: u64,
}

impl Module {
    /// Opens the file behind a mapping.
    pub fn load(mapping: &Mapping) -> Result<Self, ModuleError> {
        if mapping.is_vdso() {
            return Self::parse(Image::Memory(copy_of_memory(mapping)));
        }
        let file = open(mapping)?;
        // SAFETY: a mapped program or library is not truncated while it runs (the kernel refuses writes to a running
        // program, and package managers and linkers replace libraries by renaming); the map is read-only and private.
        let map = unsafe { Mmap::map(&file)? };
        Self::parse(Image::File(map))
    }

    fn parse(image: Image) -> Result<Self, ModuleError> {
        // SAFETY: the bytes live on the heap or in a memory map, neither of which moves when `image` does, and `image` is
        // stored in the same module as everything that borrows from it and dropped last. No `'static` slice leaves
        // this file.
        let bytes: &'static [u8] = unsafe { std::slice::from_raw_parts(image.as_ptr(), image.len()) };
        let object = object::File::parse(bytes)?;
        let segments = object
            .segments()
            .map(|segment| {
                let (offset, file_size) = segment.file_range();
                Segment { offset, file_size, address: segment.address() }
            })
            .collect();
        let build_id = object.build_id().ok().flatten().unwrap_or_default();
        let mut unpacked = Vec::new();
        let dwarf = load_dwarf(&object, &mut unpacked).map(Arc::new);
        Ok(Self {
            context: dwarf.clone().and_then(|dwarf| addr2line::Context::from_arc_dwarf(dwarf).ok()),
            dwarf,
            symbols: read_symbols(&object),
            crate_roots: OnceCell::new(),
            build_id: build_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            segments,
            _unpacked: unpacked,
            _image: image,
        })
    }

    /// GNU build id in hex; empty if the file has none.
    pub fn build_id(&self) -> &str {
        &self.build_id
    }

    /// Which source folder belongs to which crate.
    pub fn crate_roots(&self) -> &CrateRoots {
        self.crate_roots.get_or_init(|| self.dwarf.as_deref().map(read_crate_roots).unwrap_or_default())
    }

    /// The file address of a byte of the file, if a segment loads it.
    pub fn file_address(&self, offset: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|s| offset >= s.offset && offset - s.offset < s.file_size)?;
        Some(segment.address + (offset - segment.offset))
    }

    /// Name and first file address of the symbol that covers a file address.
    pub fn symbol(&self, address: u64) -> Option<(&str, u64)> {
        let after = self.symbols.partition_point(|symbol| symbol.address <= address);
        let symbol = self.symbols.get(after.checked_sub(1)?)?;
        let covered = symbol.size == 0 || address - symbol.address < symbol.size;
        covered.then_some((symbol.name, symbol.address))
    }

    /// The functions at a file address, innermost first; the last is the one that has code of its own.
    pub fn frames(&self, address: u64) -> Vec<RawFrame> {
        let mut frames = self.dwarf_frames(address);
        let symbol = self.symbol(address);
        match (frames.last_mut(), symbol) {
            (Some(outermost), Some((name, start))) => {
                // A linkage name in the debug information is nearer to the source than one of several aliases.
                if outermost.bare {
                    outermost.name = name.to_owned();
                    outermost.bare = false;
                }
                if outermost.function_line == 0 {
                    outermost.function_line = self.line_at(start);
                }
            }
            (None, Some((name, _))) => frames.push(RawFrame {
                name: name.to_owned(),
                bare: false,
                file: None,
                line: 0,
                column: 0,
                function_line: 0,
            }),
            _ => {}
        }
        // A level without any name says nothing; a reader would take it for the function itself.
        frames.retain(|frame| !frame.name.is_empty());
        frames
    }

    fn line_at(&self, address: u64) -> u32 {
        let Some(context) = &self.context else { return 0 };
        context.find_location(address).ok().flatten().and_then(|location| location.line).unwrap_or(0)
    }

    fn dwarf_frames(&self, address: u64) -> Vec<RawFrame> {
        let Some(context) = &self.context else { return Vec::new() };
        let Ok(mut found) = context.find_frames(address).skip_all_loads() else { return Vec::new() };
        let unit = context.find_dwarf_and_unit(address).skip_all_loads();
        let mut frames = Vec::new();
        // An error in the middle of a chain keeps what was read: the inner levels are right.
        while let Ok(Some(frame)) = found.next() {
            let name = frame.function.as_ref().and_then(|name| name.raw_name().ok()).unwrap_or(Cow::Borrowed(""));
            let location = frame.location.as_ref();
            let declared = frame.dw_die_offset.zip(unit).and_then(|(offset, unit)| declared_line(unit, offset));
            frames.push(RawFrame {
                bare: !names::is_mangled(&name),
                name: name.into_owned(),
                file: location.and_then(|location| location.file).map(str::to_owned),
                line: location.and_then(|location| location.line).unwrap_or(0),
                column: location.and_then(|location| location.column).unwrap_or(0),
                function_line: declared.unwrap_or(0),
            });
        }
        frames
    }
}

/// Opens the file that was mapped, and not one that has taken its name since.
fn open(mapping: &Mapping) -> Result<File, ModuleError> {
    if !mapping.deleted {
        // Devices can be mapped executable too, and opening one may do anything.
        if !mapping.path.is_absolute() || !std::fs::metadata(&mapping.path)?.is_file() {
            return Err(ModuleError::NotAFile);
        }
        return Ok(File::open(&mapping.path)?);
    }
    // The link leads to the running program even when its name is gone, which is the usual case: a rebuild.
    let own = std::fs::read_link("/proc/self/exe")?;
    let own = own.to_string_lossy();
    if Path::new(own.strip_suffix(" (deleted)").unwrap_or(&own)) == mapping.path {
        return Ok(File::open("/proc/self/exe")?);
    }
    Err(ModuleError::Replaced)
}

/// The virtual library has no file; it is a few pages, so they are copied.
fn copy_of_memory(mapping: &Mapping) -> Box<[u8]> {
    // SAFETY: the kernel maps these pages readable at exec and nothing unmaps or writes them while the process runs; the
    // range was just read from /proc/self/maps.
    unsafe { std::slice::from_raw_parts(mapping.start as *const u8, mapping.end - mapping.start) }.into()
}

/// All debug sections, or `None` if the file has none that can be used.
fn load_dwarf(object: &object::File<'static>, unpacked: &mut Vec<Box<[u8]>>) -> Option<gimli::Dwarf<Slice>> {
    let endian = if object.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    object.section_by_name(".debug_info")?;
    let load = |id: gimli::SectionId| -> Result<Slice, ()> {
        let bytes = match object.section_by_name(id.name()) {
            Some(section) => section_bytes(&section, unpacked).ok_or(())?,
            None => &[],
        };
        Ok(EndianSlice::new(bytes, endian))
    };
    gimli::Dwarf::load(load).ok()
}

/// The bytes of a section: borrowed from the image, or unpacked if they are zlib-compressed.
fn section_bytes(section: &object::Section<'static, '_>, unpacked: &mut Vec<Box<[u8]>>) -> Option<&'static [u8]> {
    let packed = section.compressed_data().ok()?;
    match packed.format {
        CompressionFormat::None => Some(packed.data),
        CompressionFormat::Zlib if packed.uncompressed_size <= MAX_UNPACKED_SECTION => {
            let mut bytes = Vec::new();
            let mut reader = std::io::Read::take(flate2::read::ZlibDecoder::new(packed.data), packed.uncompressed_size);
            std::io::Read::read_to_end(&mut reader, &mut bytes).ok()?;
            unpacked.push(bytes.into_boxed_slice());
            let kept = unpacked.last()?;
            // SAFETY: as for the image: heap bytes that do not move with their box, dropped after what borrows them.
            Some(unsafe { std::slice::from_raw_parts(kept.as_ptr(), kept.len()) })
        }
        _ => None,
    }
}

/// Function symbols by address, one per address.
fn read_symbols(object: &object::File<'static>) -> Vec<Symbol> {
    let mut symbols: Vec<Symbol> = object
        .symbols()
        .chain(object.dynamic_symbols())
        .filter(|symbol| symbol.is_definition() && symbol.kind() == SymbolKind::Text)
        .filter_map(|symbol| {
            let name = symbol.name().ok().filter(|name| !name.is_empty())?;
            Some(Symbol { address: symbol.address(), size: symbol.size(), name })
        })
        .collect();
    // Of several names for one place (`write`, `__write`, `__GI_write`) the plainest is the one people know.
    symbols.sort_by_key(|symbol| {
        let underscores = symbol.name.bytes().take_while(|&byte| byte == b'_').count();
        (symbol.address, underscores, symbol.name.len(), symbol.name)
    });
    symbols.dedup_by_key(|symbol| symbol.address);
    symbols.shrink_to_fit();
    symbols
}

/// Reads the name of every compilation unit. Only the first entry of each is decoded.
fn read_crate_roots(dwarf: &gimli::Dwarf<Slice>) -> CrateRoots {
    let mut roots = CrateRoots::default();
    let mut units = dwarf.units();
    while let Ok(Some(header)) = units.next() {
        let Ok(unit) = dwarf.unit(header) else { continue };
        let (Some(name), folder) = (unit.name, unit.comp_dir) else { continue };
        roots.add_unit(&name.to_string_lossy(), folder.map(|folder| folder.to_string_lossy()).as_deref());
    }
    roots
}

/// The line on which a function is declared, following an inlined call to its function.
fn declared_line(unit: gimli::UnitRef<'_, Slice>, offset: gimli::UnitOffset) -> Option<u32> {
    let mut offset = offset;
    for _ in 0..MAX_ORIGINS {
        let entry = unit.entry(offset).ok()?;
        if let Some(line) = entry.attr_value(gimli::DW_AT_decl_line).and_then(|value| value.udata_value()) {
            return u32::try_from(line).ok();
        }
        let origin =
            entry.attr_value(gimli::DW_AT_abstract_origin).or_else(|| entry.attr_value(gimli::DW_AT_specification))?;
        // A reference into another unit happens with link-time optimization; the line is then left unknown.
        let gimli::AttributeValue::UnitRef(next) = origin else { return None };
        offset = next;
    }
    None
}
