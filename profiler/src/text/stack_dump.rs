//! The `goroutine?debug=2` text: the stack of every task, one after another, in the form that Go prints.
//!
//! ```text
//! goroutine 7 [chan receive, 3 minutes] {name: fetcher, svc: "a b"}:
//! app::fetch::next(...)
//! <TAB>/src/app/fetch.rs:41
//! app::fetch::run(...)
//! <TAB>/src/app/fetch.rs:17 +0x52
//! created by app::main in goroutine 1
//! <TAB>/src/app/main.rs:9
//! ```
//!
//! The name of a task travels among the labels: tools that know nothing of greenprof still accept the header, and those
//! that show labels show the name. As in Go, inlined frames carry no offset, leading frames of the runtime are hidden,
//! and a deep stack is cut in its middle.

use std::fmt::Write;

use super::quote::quote_if_needed;
use crate::profile::lookup_address;
use crate::symbolize::names::shown_frames;
use crate::symbolize::{Frame, Symbolizer};

/// Frames shown at each end of a stack that is too deep to be shown whole.
const FRAMES_PER_END: usize = 50;

/// What a dump says of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskDump {
    /// The task's id.
    pub id: u64,
    /// State or wait reason, with remarks such as ` (leaked)` appended.
    pub status: String,
    /// For how long it has been in that state, if at least one minute.
    pub wait_minutes: Option<u64>,
    /// The task's name.
    pub name: Option<String>,
    /// Its labels, sorted by key.
    pub labels: Vec<(String, String)>,
    /// Return addresses, leaf first; `None` if the task runs and did not answer in time.
    pub stack: Option<Vec<usize>>,
    /// Who spawned it; `None` for the first task.
    pub created_by: Option<CreatedBy>,
}

/// The place where a task was spawned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreatedBy {
    /// The spawning function; without it the module of `file` is shown.
    pub function: Option<String>,
    /// Source file.
    pub file: String,
    /// Line.
    pub line: u32,
    /// Id of the spawning task; 0 if a plain thread did.
    pub parent: u64,
}

/// Writes all tasks, separated by blank lines, in the order given.
pub fn write_stack_dump<'a>(tasks: impl IntoIterator<Item = &'a TaskDump>, symbolizer: &mut Symbolizer) -> String {
    symbolizer.refresh();
    let mut text = String::new();
    for (index, task) in tasks.into_iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        write_task(&mut text, task, symbolizer);
    }
    text
}

fn write_task(text: &mut String, task: &TaskDump, symbolizer: &mut Symbolizer) {
    text.push_str(&header(task));
    text.push('\n');
    match &task.stack {
        Some(stack) => write_stack(text, stack, symbolizer),
        None => text.push_str("\tgoroutine running on other thread; stack unavailable\n"),
    }
    if let Some(creator) = &task.created_by {
        let function = match &creator.function {
            Some(function) => function.clone(),
            None => symbolizer.module_path(&creator.file).unwrap_or_else(|| "unknown".to_owned()),
        };
        // Writing to a String cannot fail, here and below.
        let _ = write!(text, "created by {function}");
        if creator.parent != 0 {
            let _ = write!(text, " in goroutine {}", creator.parent);
        }
        let _ = writeln!(text, "\n\t{}:{}", creator.file, creator.line);
    }
}

/// `goroutine ID [STATUS, N minutes] {k: v}:`
fn header(task: &TaskDump) -> String {
    // A bracket in the status would end it early for every reader.
    let status = task.status.replace(['[', ']', '\n', '\r'], " ");
    let mut header = format!("goroutine {} [{status}", task.id);
    if let Some(minutes) = task.wait_minutes.filter(|&minutes| minutes > 0) {
        let _ = write!(header, ", {minutes} minutes");
    }
    header.push(']');
    // The user's own label of that name keeps it.
    let name_key = if task.labels.iter().any(|(key, _)| key == "name") { "task_name" } else { "name" };
    let name = task.name.iter().map(|name| (name_key, name.as_str()));
    let labels = task.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let pairs: Vec<String> = name
        .chain(labels)
        .map(|(key, value)| format!("{}: {}", quote_if_needed(key), quote_if_needed(value)))
        .collect();
    if !pairs.is_empty() {
        let _ = write!(header, " {{{}}}", pairs.join(", "));
    }
    header.push(':');
    header
}

fn write_stack(text: &mut String, stack: &[usize], symbolizer: &mut Symbolizer) {
    let mut frames: Vec<(usize, Option<Frame>)> = Vec::new();
    for &return_address in stack {
        let found = symbolizer.resolve(lookup_address(return_address, false));
        if found.is_empty() {
            frames.push((return_address, None));
        }
        frames.extend(found.iter().map(|frame| (return_address, Some(frame.clone()))));
    }
    let functions: Vec<&str> = frames.iter().map(|(_, frame)| frame.as_ref().map_or("", |f| &*f.function)).collect();
    let frames = &frames[shown_frames(&functions)];
    let elided = frames.len().saturating_sub(2 * FRAMES_PER_END);
    for (index, (return_address, frame)) in frames.iter().enumerate() {
        if elided > 0 && index == FRAMES_PER_END {
            let _ = writeln!(text, "...{elided} frames elided...");
        }
        if elided > 0 && (FRAMES_PER_END..FRAMES_PER_END + elided).contains(&index) {
            continue;
        }
        write_frame(text, *return_address, frame.as_ref());
    }
}

fn write_frame(text: &mut String, return_address: usize, frame: Option<&Frame>) {
    let Some(frame) = frame else {
        // A frame needs both of its lines, or readers lose count.
        let _ = writeln!(text, "{return_address:#x}(...)\n\t?:0");
        return;
    };
    let file = frame.file.as_deref().unwrap_or("?");
    let _ = write!(text, "{}(...)\n\t{file}:{}", frame.function, frame.line);
    if !frame.inlined && frame.function_address != 0 && return_address > frame.function_address {
        let _ = write!(text, " +{:#x}", return_address - frame.function_address);
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::chain::{NAMES, outer, outer_start};

    fn task(id: u64, status: &str) -> TaskDump {
        TaskDump { id, status: status.into(), stack: Some(Vec::new()), ..TaskDump::default() }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn headers_follow_the_grammar() {
        let cases = [
            (task(1, "running"), "goroutine 1 [running]:"),
            (TaskDump { wait_minutes: Some(3), ..task(2, "chan receive") }, "goroutine 2 [chan receive, 3 minutes]:"),
            (TaskDump { wait_minutes: Some(0), ..task(2, "sleep") }, "goroutine 2 [sleep]:"),
            (task(3, "chan send (leaked)"), "goroutine 3 [chan send (leaked)]:"),
            (TaskDump { name: Some("fetcher".into()), ..task(4, "select") }, "goroutine 4 [select] {name: fetcher}:"),
            (
                TaskDump {
                    name: Some("a-b".into()),
                    labels: pairs(&[("k1", "v1"), ("p/q", "x-y"), ("svc", "a b")]),
                    ..task(6, "chan receive (leaked)")
                },
                r#"goroutine 6 [chan receive (leaked)] {name: "a-b", k1: v1, p/q: "x-y", svc: "a b"}:"#,
            ),
            (
                TaskDump { name: Some("t".into()), labels: pairs(&[("name", "mine")]), ..task(7, "idle") },
                "goroutine 7 [idle] {task_name: t, name: mine}:",
            ),
            (TaskDump { labels: pairs(&[("a]:\n", "{}")]), ..task(8, "x]y") }, r#"goroutine 8 [x y] {"a]:\n": "{}"}:"#),
        ];
        for (task, expected) in cases {
            assert_eq!(header(&task), expected);
        }
    }

    #[test]
    fn a_task_without_stack_says_so_and_names_its_creator() {
        let creator = CreatedBy { function: Some("app::main".into()), file: "src/main.rs".into(), line: 9, parent: 1 };
        let running = TaskDump { stack: None, created_by: Some(creator.clone()), ..task(5, "running") };
        let foreign = CreatedBy { function: None, file: "x.c".into(), line: 2, parent: 0 };
        let other = TaskDump { created_by: Some(foreign), ..task(6, "select") };
        assert_eq!(
            write_stack_dump([&running, &other], &mut Symbolizer::new()),
            "goroutine 5 [running]:\n\tgoroutine running on other thread; stack unavailable\n\
             created by app::main in goroutine 1\n\tsrc/main.rs:9\n\n\
             goroutine 6 [select]:\ncreated by unknown\n\tx.c:2\n"
        );
    }

    #[test]
    fn frames_have_two_lines_and_only_real_calls_an_offset() {
        let return_address = outer();
        let dump = TaskDump { stack: Some(vec![return_address, 1]), ..task(1, "select") };
        let text = write_stack_dump([&dump], &mut Symbolizer::new());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], format!("{}(...)", NAMES[0]));
        assert!(lines[2].starts_with('\t') && !lines[2].contains(" +0x"), "{text}");
        assert_eq!(lines[5], format!("{}(...)", NAMES[2]));
        let offset = return_address - outer_start();
        assert!(lines[6].ends_with(&format!(" +{offset:#x}")), "{text}");
        assert_eq!(lines[7..], ["0x1(...)", "\t?:0"]);
    }

    #[test]
    fn a_deep_stack_is_cut_in_the_middle() {
        let deep = TaskDump { stack: Some((1..=103).collect()), ..task(1, "select") };
        let text = write_stack_dump([&deep], &mut Symbolizer::new());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + 100 * 2 + 1);
        assert_eq!(lines[1 + 49 * 2], "0x32(...)");
        assert_eq!(lines[1 + 50 * 2], "...3 frames elided...");
        assert_eq!(lines[1 + 50 * 2 + 1], "0x36(...)");
        let full = TaskDump { stack: Some((1..=100).collect()), ..task(1, "select") };
        assert!(!write_stack_dump([&full], &mut Symbolizer::new()).contains("elided"));
    }
}
