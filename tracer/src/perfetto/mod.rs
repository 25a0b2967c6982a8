//! Traces for Perfetto's viewer: the same events, in its protobuf format.
//!
//! They are made from the generations that `go` has built, by [`reader`](crate::reader): so what the program
//! records, and what it costs the program, is the same, and so are order and validity. What is recorded of Go programs can be
//! converted as well ([`convert`]). One generation is in memory at a time.
//!
//! What is shown, and on which track, stands at the head of `picture.rs`.

mod interner;
mod messages;
mod packets;
mod picture;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};

use greenprof_runtime::heap;
use thiserror::Error;

use crate::reader::{Item, ReadError, Stream};
use picture::{Origin, Picture};

/// Why a trace was not converted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// It could not be read, or is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The result could not be written.
    #[error("the converted trace could not be written: {0}")]
    Write(io::Error),
}

/// Converts a trace in Go's format, of Go 1.26 or later or of greenprof, to Perfetto's. If it is damaged, what was before the damage
/// is written.
///
/// ```
/// let trace = greenprof_tracer::start(Vec::new())?;
/// let (for_go, _) = trace.stop()?;
/// let mut for_perfetto = Vec::new();
/// greenprof_tracer::perfetto::convert(&for_go[..], &mut for_perfetto)?;
/// assert!(!for_perfetto.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`ConvertError`].
pub fn convert(source: impl Read, mut writer: impl Write) -> Result<(), ConvertError> {
    // A trace in Go's format does not say which process it is of.
    let origin = Origin { process: 1, name: "program".into(), is_own: false };
    let mut converter = Converter::new(origin, u64::MAX);
    let read = converter.feed(&mut writer, |stream, each| stream.read(source, each));
    let written = converter.finish(&mut writer);
    read?;
    written.map_err(ConvertError::Write)
}

/// Converts generations as they come.
pub(crate) struct Converter {
    stream: Stream,
    picture: Picture,
    is_full: bool,
}

impl Converter {
    /// For a trace of this process, of so many bytes at the most.
    pub(crate) fn of_this_process(max_bytes: u64) -> Self {
        let name = std::env::args_os().next().map(std::path::PathBuf::from);
        let name = name.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
        let origin =
            Origin { process: std::process::id(), name: name.unwrap_or_else(|| "program".into()), is_own: true };
        Self::new(origin, max_bytes)
    }

    fn new(origin: Origin, max_bytes: u64) -> Self {
        Self { stream: Stream::new(), picture: Picture::new(origin, max_bytes), is_full: false }
    }

    /// Adds a generation, without what a file begins with. Whether more would fit.
    pub(crate) fn add(&mut self, generation: &[u8], writer: &mut impl Write) -> io::Result<bool> {
        match self.feed(writer, |stream, each| stream.add(generation, each)) {
            Ok(()) => Ok(!self.is_full),
            Err(ConvertError::Write(error)) => Err(error),
            Err(ConvertError::Read(error)) => Err(io::Error::other(error)),
        }
    }

    /// Ends the trace.
    pub(crate) fn finish(mut self, writer: &mut impl Write) -> io::Result<()> {
        heap::untracked(|| self.picture.finish());
        self.picture.packets.flush(writer, true)?;
        writer.flush()
    }

    fn feed<W: Write>(
        &mut self,
        writer: &mut W,
        read: impl FnOnce(&mut Stream, &mut dyn FnMut(Item<'_>)) -> Result<(), ReadError>,
    ) -> Result<(), ConvertError> {
        let Self { stream, picture, is_full } = self;
        let mut written = Ok(());
        let mut each = |item: Item<'_>| {
            *is_full |= !picture.packets.has_room();
            if *is_full || written.is_err() {
                return;
            }
            match item {
                Item::Generation(moment) => picture.packets.begin_generation(moment),
                Item::Event(event) => picture.add(event),
            }
            written = picture.packets.flush(writer, false);
        };
        let read = heap::untracked(|| read(stream, &mut each));
        written.map_err(ConvertError::Write)?;
        Ok(read?)
    }
}
