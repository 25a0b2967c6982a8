//! Why a blocked task is alive, in words: the chain from a root to what can wake it.

use serde_json::{Value, json};

use super::site;
use crate::{
    leak::{Link, WhyAlive},
    symbolize::{self, Symbolizer},
};

pub(super) fn told(task: u64, why: Option<&WhyAlive>) -> Value {
    let mut symbolizer = symbolize::shared().lock();
    symbolizer.refresh();
    let chain: Vec<String> = why.iter().flat_map(|why| &why.chain).map(|link| words(link, &mut symbolizer)).collect();
    let verdict = match why {
        None => "Nobody alive can wake it: it is leaked, or has ended meanwhile.",
        Some(why) if why.chain.is_empty() => "It is running, queued or asleep, so it needs nobody to wake it.",
        Some(_) => "Something live leads to what can wake it. There may be other ways than this one:",
    };
    json!({ "task": task, "alive": why.is_some(), "verdict": verdict, "chain": chain })
}

fn words(link: &Link, symbolizer: &mut Symbolizer) -> String {
    match link {
        Link::Variables(at) => format!("a variable of the program at {at:#x}"),
        Link::ThreadStack(thread, at) => format!("the stack of thread {thread}, at {at:#x}"),
        Link::Register(thread) => format!("a register of thread {thread}"),
        Link::ThreadLocals(thread, at) => format!("a thread-local variable of thread {thread}, at {at:#x}"),
        Link::Timer => "an armed timer".to_owned(),
        Link::OtherMemory(at) => format!("memory that is not the heap's, at {at:#x}"),
        Link::Task(task) => format!("task {task}, which is live"),
        Link::Frame(task, _, 0) => format!("the stack of task {task}"),
        Link::Frame(task, _, place) => {
            let frames = symbolizer.resolve(place.saturating_sub(1));
            // The last of those inlined into each other has the frame.
            let function = frames.last().map_or_else(|| format!("{place:#x}"), |frame| frame.function.to_string());
            format!("the stack of task {task}, in the frame of {function}")
        }
        Link::Block(start, size, offset) => format!("byte {offset} of a block of {size} bytes at {start:#x}"),
        Link::Primitive(number, kind, made) => {
            let made = made.map_or_else(String::new, |at| format!(", made at {}", site(at)));
            format!("a handle or guard of {kind:?} #{number}{made}")
        }
    }
}
