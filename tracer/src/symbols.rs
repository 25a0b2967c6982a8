//! Names for addresses. Whoever can read debug information registers itself; without one, functions are called by their addresses.

use std::sync::Arc;

use parking_lot::RwLock;

/// One function at an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Its name.
    pub function: Arc<str>,
    /// Its source file; empty if unknown.
    pub file: Arc<str>,
    /// The line; 0 if unknown.
    pub line: u32,
}

/// What turns addresses into functions.
///
/// ```
/// use std::sync::Arc;
/// use greenprof_tracer::{Frame, Symbolize, set_symbolizer};
///
/// /// Calls every function by its address, in decimal.
/// struct Decimal;
/// impl Symbolize for Decimal {
///     fn resolve(&self, addresses: &[usize]) -> Vec<Vec<Frame>> {
///         let frame = |at: &usize| Frame { function: at.to_string().into(), file: "".into(), line: 0 };
///         addresses.iter().map(|address| vec![frame(address)]).collect()
///     }
/// }
///
/// assert_eq!(&*Decimal.resolve(&[17])[0][0].function, "17");
/// set_symbolizer(Arc::new(Decimal));
/// ```
pub trait Symbolize: Send + Sync {
    /// The functions at each address in turn, innermost first: several where calls were inlined, none if nothing is known. For
    /// a return address, the one before it is passed. Called on a thread of the tracer's, which runs no task.
    fn resolve(&self, addresses: &[usize]) -> Vec<Vec<Frame>>;
}

static SYMBOLIZER: RwLock<Option<Arc<dyn Symbolize>>> = RwLock::new(None);

/// Sets who names the functions in traces from now on. `greenprof_profiler::registry` does this.
pub fn set_symbolizer(symbolizer: Arc<dyn Symbolize>) {
    *SYMBOLIZER.write() = Some(symbolizer);
}

/// The functions at addresses, innermost first; at least one for each.
pub(crate) fn resolve(addresses: &[usize]) -> Vec<Vec<Frame>> {
    let symbolizer = SYMBOLIZER.read().clone();
    let mut all = symbolizer.map_or_else(Vec::new, |symbolizer| symbolizer.resolve(addresses));
    all.resize(addresses.len(), Vec::new());
    for (frames, address) in all.iter_mut().zip(addresses) {
        if frames.is_empty() {
            frames.push(Frame { function: format!("{address:#x}").into(), file: "".into(), line: 0 });
        }
    }
    all
}
