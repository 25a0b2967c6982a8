//! `/debug/pprof/why?task=ID`: why a task is alive, with names. Without a task, those that can be asked about.

use std::{collections::HashSet, fmt::Write};

use greenprof_runtime::{
    heap,
    task::TaskId,
    world::{self, TaskInfo, TaskState},
};
use hyper::{StatusCode, header::HeaderValue};
use serde_json::{Value, json};

use super::{DetectError, Link, WhyAlive, json::place, why_alive};
use crate::{
    http::{
        Ask, Page,
        reply::{self, Reply},
    },
    profile::lookup_address,
    symbolize::{Symbolizer, names::shown_allocation},
};

/// Tasks that are listed to choose from.
const MOST_LISTED: usize = 200;

pub(crate) struct WhyPage;

impl Page for WhyPage {
    fn path(&self) -> &str {
        "/debug/pprof/why"
    }

    fn description(&self) -> &str {
        "Why a task is not leaked, by ?task=ID: the chain of words from a root to what can wake it. Asking for it stops the \
         program while its memory is looked through."
    }

    fn answer(&self, ask: &Ask) -> Reply {
        if !heap::is_active() {
            return reply::error(StatusCode::SERVICE_UNAVAILABLE, DetectError::NoHeap);
        }
        let json = match ask.query.get("format") {
            None => false,
            Some("json") => true,
            Some(other) => {
                let message = format!("there is no format {other:?}: say json, or leave it out");
                return reply::error(StatusCode::BAD_REQUEST, message);
            }
        };
        let Some(asked) = ask.query.get("task") else { return reply::text(heap::untracked(choice)) };
        let find = |number: u64| heap::untracked(|| world::tasks(0).iter().find(|t| t.id.get() == number).cloned());
        let Ok(number) = asked.parse() else {
            return reply::error(StatusCode::BAD_REQUEST, format!("`task={asked}` is no number of a task: `task=7`"));
        };
        let Some(task) = find(number) else {
            return reply::error(
                StatusCode::NOT_FOUND,
                format!("there is no task {number}: it has ended, or never was"),
            );
        };
        match why_alive(task.id) {
            Err(error) => reply::error(StatusCode::INTERNAL_SERVER_ERROR, error),
            Ok(why) => heap::untracked(|| {
                let verdict = verdict(&task, why.as_ref());
                if json { reply_json(&task, why.as_ref(), &verdict) } else { reply_text(why.as_ref(), &verdict) }
            }),
        }
    }
}

fn reply_text(why: Option<&WhyAlive>, verdict: &str) -> Reply {
    let mut text = format!("{verdict}\n");
    for (at, line) in why.iter().flat_map(|why| why.explain()).enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:>3}  {line}", at + 1);
    }
    reply::text(text)
}

fn reply_json(task: &TaskInfo, why: Option<&WhyAlive>, verdict: &str) -> Reply {
    let chain: Vec<String> = why.map(WhyAlive::explain).unwrap_or_default();
    let answer: Value = json!({
        "task": task.id.get(),
        "name": task.name,
        "live": why.is_some(),
        "verdict": verdict,
        "spawned_at": place(task.spawn_site),
        "chain": chain,
    });
    reply::reply(StatusCode::OK, HeaderValue::from_static("application/json"), format!("{answer:#}\n"))
}

/// What has come out, in a sentence.
fn verdict(task: &TaskInfo, why: Option<&WhyAlive>) -> String {
    let name = task.name.as_deref().map_or_else(String::new, |name| format!(" {name:?}"));
    let what = match (why, task.state) {
        (None, _) => "has no chain that keeps it alive: it is leaked, or has ended meanwhile",
        (Some(why), _) if !why.chain.is_empty() => "is alive, because of this chain, the root first:",
        (Some(_), TaskState::Waiting(_)) => "is a root itself: a timer ends its wait, or it was about to be woken",
        (Some(_), _) => "is a root itself: it is running or runnable",
    };
    format!("task {}{name} {what}", task.id)
}

/// The tasks that wait, with how to ask about one.
fn choice() -> String {
    let tasks = world::tasks(0);
    let mut waiting: Vec<&TaskInfo> = tasks.iter().filter(|task| matches!(task.state, TaskState::Waiting(_))).collect();
    waiting.sort_by_key(|task| task.id);
    let mut text = "ask with ?task=ID why a task is alive; these wait now:\n".to_owned();
    for task in waiting.iter().take(MOST_LISTED) {
        let TaskState::Waiting(reason) = task.state else { continue };
        let name = task.name.as_deref().unwrap_or_default();
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "  {:>8}  {:<28}  {name}", task.id.get(), reason.as_str());
    }
    if waiting.len() > MOST_LISTED {
        let _ = writeln!(text, "  and {} more", waiting.len() - MOST_LISTED);
    }
    text
}

impl WhyAlive {
    /// The chain in words, a line for each link, with the names of functions, and with the places where heap blocks were
    /// allocated if those were sampled. Looks symbols up, which takes a while the first time.
    pub fn explain(&self) -> Vec<String> {
        heap::untracked(|| {
            let mut symbolizer = crate::symbolize::shared().lock();
            symbolizer.refresh();
            let mut known = HashSet::new();
            self.chain.iter().map(|link| in_words(link, &mut symbolizer, &mut known)).collect()
        })
    }
}

/// A link in words. `known` are the tasks that were named before.
fn in_words(link: &Link, symbolizer: &mut Symbolizer, known: &mut HashSet<TaskId>) -> String {
    match *link {
        Link::Variables(at) => format!("a static variable at {at:#x}"),
        Link::ThreadStack(thread, at) => format!("the stack of thread {thread}, at {at:#x}"),
        Link::Register(thread) => format!("a register of thread {thread}"),
        Link::ThreadLocals(thread, at) => format!("a thread-local variable of thread {thread}, at {at:#x}"),
        Link::Timer => "an armed timer".to_owned(),
        Link::OtherMemory(at) => format!("memory outside of the heap, at {at:#x}"),
        Link::Task(task) => format!("{}, which is live", named(task, known)),
        Link::Frame(task, at, 0) => format!("the stack of {}, at {at:#x}", named(task, known)),
        Link::Frame(task, _, place) => {
            let frames = symbolizer.resolve(lookup_address(place, false));
            let function = frames.first().map_or_else(
                || format!("{place:#x}"),
                |frame| {
                    let file = frame.file.as_deref().unwrap_or("?");
                    format!("{} ({file}:{})", frame.function, frame.line)
                },
            );
            format!("the stack of {}, in the frame of {function}", named(task, known))
        }
        Link::Block(start, size, offset) => {
            let allocated = allocation(start, symbolizer).map_or_else(String::new, |at| format!(", allocated by {at}"));
            format!("a heap block of {size} bytes at {start:#x}{allocated}, in its word at byte {offset}")
        }
        Link::Primitive(number, kind, created) => {
            let made = created.map_or_else(String::new, |at| format!(" made at {at}"));
            format!("{kind:?} {number}{made}: a handle or guard that can wake")
        }
    }
}

/// The task with its name, when it is met for the first time.
fn named(task: TaskId, known: &mut HashSet<TaskId>) -> String {
    let name = if known.insert(task) {
        world::tasks(0).iter().find(|info| info.id == task).and_then(|info| info.name.clone())
    } else {
        None
    };
    name.map_or_else(|| format!("task {task}"), |name| format!("task {task} {name:?}"))
}

/// Where a block was allocated, if it is a sample: the innermost function that is not the allocator's.
fn allocation(start: usize, symbolizer: &mut Symbolizer) -> Option<String> {
    let stack = crate::heap::allocation(start)?;
    let frames: Vec<_> =
        stack.iter().flat_map(|address| symbolizer.resolve(lookup_address(*address, false)).to_vec()).collect();
    let functions: Vec<&str> = frames.iter().map(|frame| &*frame.function).collect();
    let frame = frames.get(shown_allocation(&functions).start)?;
    Some(format!("{} ({}:{})", frame.function, frame.file.as_deref().unwrap_or("?"), frame.line))
}
