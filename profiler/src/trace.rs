//! What execution traces (`greenprof_tracer`) and this crate have of each other: names of functions, and a place on the port.

use std::{
    io::{self, Write},
    sync::Arc,
};

use greenprof_runtime::heap;
use greenprof_tracer::{Builder, FlightRecorder, Format, Frame, Symbolize, Trace};
use parking_lot::Mutex;

use crate::{
    http::{Capture, CaptureError, CaptureSession, Length, NamedProfile, Query, RegisterError, Registry},
    profile::{Profile, ProfileError},
    symbolize,
};

/// Names functions by the debug information of this process's files.
struct Names;

impl Symbolize for Names {
    fn resolve(&self, addresses: &[usize]) -> Vec<Vec<Frame>> {
        let mut symbolizer = symbolize::shared().lock();
        symbolizer.refresh();
        let frame = |frame: &symbolize::Frame| Frame {
            function: frame.function.clone(),
            file: frame.file.clone().unwrap_or_else(|| "".into()),
            line: frame.line,
        };
        addresses.iter().map(|address| symbolizer.resolve(*address).iter().map(frame).collect()).collect()
    }
}

/// From now on functions in traces have names. [`registry`](crate::registry) does this; a program that takes traces without the
/// port calls it before the first.
///
/// ```
/// use greenprof_profiler::trace;
/// use greenprof_runtime::{Runtime, spawn};
///
/// trace::name_functions();
/// let trace = greenprof_tracer::start(Vec::new())?;
/// Runtime::builder().workers(1).build()?.run(|| spawn(|| ()).join().unwrap());
/// let (file, _) = trace.stop()?;
/// assert!(!greenprof_tracer::reader::Summary::read(&file[..])?.tasks().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn name_functions() {
    greenprof_tracer::set_symbolizer(Arc::new(Names));
}

/// The most bytes of a trace that is asked for over the port, unless `max_bytes=` says otherwise: it is kept in memory.
pub const MAX_BYTES: u64 = 256 << 20;

/// Execution traces, as the port offers them: `/debug/pprof/trace?seconds=N`, with Go's default of one second. `max_bytes=N` ends
/// the trace before it gets longer, `format=perfetto` gives it in Perfetto's format.
///
/// ```
/// use greenprof_profiler::{http::{Capture, Query}, trace::TraceCapture};
///
/// let session = TraceCapture.start(&Query::parse("max_bytes=1000000"))?;
/// let file = session.finish()?;
/// assert!(file.starts_with(b"go 1.26 trace"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceCapture;

impl Capture for TraceCapture {
    fn name(&self) -> &str {
        "trace"
    }

    fn description(&self) -> &str {
        "Execution trace of the next second, for `go tool trace`; seconds=N takes another length, max_bytes=N another bound, \
         format=perfetto is for ui.perfetto.dev."
    }

    fn length(&self) -> Length {
        Length::Fractional(1.0)
    }

    fn activity(&self) -> &str {
        "tracing"
    }

    fn start(&self, query: &Query) -> Result<Box<dyn CaptureSession>, CaptureError> {
        let max_bytes = match query.get("max_bytes").map(str::parse) {
            None => MAX_BYTES,
            Some(Ok(bytes)) if (1..=MAX_BYTES).contains(&bytes) => bytes,
            Some(_) => {
                let sentence = format!("invalid value for \"max_bytes\" - must be from 1 to {MAX_BYTES}");
                return Err(CaptureError::BadRequest(sentence));
            }
        };
        let format = format(query).map_err(CaptureError::BadRequest)?;
        match Builder::new().max_bytes(max_bytes).format(format).start(Untracked(Vec::new())) {
            Ok(trace) => Ok(Box::new(Session(trace))),
            Err(error) => Err(CaptureError::Failed(error.to_string())),
        }
    }
}

/// What the parameter `format` asks for.
fn format(query: &Query) -> Result<Format, String> {
    match query.get("format") {
        None | Some("go") => Ok(Format::Go),
        Some("perfetto") => Ok(Format::Perfetto),
        Some(_) => Err("invalid value for \"format\" - must be \"go\" or \"perfetto\"".to_owned()),
    }
}

/// Memory of the port, which is not the program's.
struct Untracked(Vec<u8>);

impl Write for Untracked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        heap::untracked(|| self.0.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Session(Trace<Untracked>);

impl CaptureSession for Session {
    fn finish(self: Box<Self>) -> Result<Vec<u8>, ProfileError> {
        match self.0.stop() {
            Ok((Untracked(bytes), _)) => Ok(bytes),
            Err(error) => Err(ProfileError::Unavailable(error.to_string())),
        }
    }
}

/// What a flight recorder has kept, at `/debug/pprof/flight`. The lock guards the recorder while it writes.
struct Flight {
    recorder: Arc<Mutex<FlightRecorder>>,
    format: Format,
}

/// Offers what a flight recorder keeps, at `/debug/pprof/flight`, with `format=perfetto` in Perfetto's format. It records until the registry is dropped, or
/// `unregister("flight")` is called.
///
/// ```
/// use greenprof_profiler::{registry, trace};
///
/// let registry = registry();
/// trace::register_flight_recorder(&registry, greenprof_tracer::flight_recorder().start()?)?;
/// assert!(registry.get("flight").is_some(), "at /debug/pprof/flight");
/// assert!(registry.unregister("flight"), "and records no more");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`RegisterError`].
pub fn register_flight_recorder(registry: &Registry, recorder: FlightRecorder) -> Result<(), RegisterError> {
    let recorder = Arc::new(Mutex::new(recorder));
    registry.register(Arc::new(Flight { recorder, format: Format::Go }))
}

impl NamedProfile for Flight {
    fn name(&self) -> &str {
        "flight"
    }

    fn description(&self) -> &str {
        "Execution trace of the last seconds, from the flight recorder, for `go tool trace`; format=perfetto is for ui.perfetto.dev."
    }

    fn count(&self) -> usize {
        1
    }

    fn write(&self, debug: i64) -> Result<Vec<u8>, ProfileError> {
        let mut bytes = Vec::new();
        let unavailable = |error: io::Error| ProfileError::Unavailable(error.to_string());
        let stats = self.recorder.lock().dump_as(self.format, &mut bytes).map_err(unavailable)?;
        if debug > 0 {
            return Ok(format!("{} bytes, {} events, {} lost\n", bytes.len(), stats.events, stats.lost).into_bytes());
        }
        Ok(bytes)
    }

    fn collect(&self) -> Option<Profile> {
        None
    }

    fn supports_delta(&self) -> bool {
        false
    }

    fn view(&self, query: &Query) -> Result<Option<Arc<dyn NamedProfile>>, String> {
        let format = format(query)?;
        let other = || Arc::new(Self { recorder: self.recorder.clone(), format }) as Arc<dyn NamedProfile>;
        Ok((format != self.format).then(other))
    }
}
