//! What execution traces (`greenprof_tracer`) have from this crate: names of functions.

use std::sync::Arc;

use greenprof_tracer::{Frame, Symbolize};

use crate::symbolize;

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
pub fn name_functions() {
    greenprof_tracer::set_symbolizer(Arc::new(Names));
}
