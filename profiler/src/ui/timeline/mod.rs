//! `timeline`: what a posted execution trace has in a window of time, as rows of bars.
//!
//! | parameter | meaning |
//! |---|---|
//! | `from=N`, `to=N` | the window, in nanoseconds from the beginning of the trace; without them all of it |
//! | `columns=N` | how many bars fit beside each other: what is narrower is put together |
//! | `task=N` | this task has a row in any case |
//!
//! The answer has three kinds of rows. *Processors* and *workers* show which task ran, *tasks* in which state they were and why.
//! Arrows lead from where a task was made runnable to where it ran then. Each task with a row is summed up over the whole trace.
//!
//! The file may come from anybody. It is read one generation at a time by the reader of `greenprof_tracer`, which checks it; rows,
//! bars, arrows and sums are bounded, and what was left out is counted. It is read three times: memory matters more here.

mod bars;
mod scan;

use std::{collections::HashMap, sync::Arc};

use greenprof_tracer::reader::{Frame, Summary, TaskSummary};
use serde_json::{Value, json};

use super::drawing::Drawing;
use crate::http::Query;
use scan::{Scan, Survey, Window};

/// The most bytes that may be posted. A second of a busy service has some megabytes.
const MAX_BODY: usize = 32 << 20;

/// Bars beside each other unless the query says otherwise, and at the most.
const COLUMNS: (u64, u64) = (1000, 4000);

/// Frames of a stack that are shown.
const FRAMES: usize = 24;

pub(super) static TIMELINE: Drawing =
    Drawing::new("/debug/pprof/ui/timeline", "an execution trace", MAX_BODY, timeline);

fn number(query: &Query, name: &str) -> Result<Option<u64>, String> {
    let read = |text: &str| text.parse().map_err(|_| format!("invalid value for {name:?} - must be a whole number"));
    query.get(name).map(read).transpose()
}

fn timeline(query: &Query, trace: &[u8]) -> Result<Value, String> {
    let (from, to) = (number(query, "from")?.unwrap_or(0), number(query, "to")?.unwrap_or(u64::MAX));
    if from >= to {
        return Err("invalid window - \"from\" must be less than \"to\"".to_owned());
    }
    let columns = number(query, "columns")?.unwrap_or(COLUMNS.0).clamp(1, COLUMNS.1);
    let wanted = number(query, "task")?;
    let survey = Survey::read(trace, from, to, wanted).map_err(|error| error.to_string())?;
    let duration = survey.duration;
    let to = to.min(duration.max(1));
    let window = Window { from: from.min(to - 1), to, bar: (to - from.min(to - 1)).div_ceil(columns) };
    let scan = Scan::read(trace, window, &survey.shown).map_err(|error| error.to_string())?;
    let named = scan.named();
    let summary = Summary::read_of(trace, |id| named.contains(&id)).map_err(|error| error.to_string())?;
    let of: HashMap<u64, &TaskSummary> = summary.tasks().into_iter().map(|task| (task.id, task)).collect();
    let mut reasons: Vec<Arc<str>> = Vec::new();
    let bars =
        |row: &bars::Row| row.bars.iter().map(|bar| json!([bar.start, bar.length, bar.what, bar.count])).collect();
    let lane = |(id, row): (&u64, &bars::Row)| json!({ "id": id, "bars": Value::Array(bars(row)) });
    let processors: Vec<Value> = scan.processors.iter().map(lane).collect();
    let workers: Vec<Value> = scan.workers.iter().map(lane).collect();
    let tasks: Vec<Value> = scan
        .tasks
        .iter()
        .map(|(id, task)| {
            let bars = task.row.bars.iter().map(|bar| {
                let reason = place(&mut reasons, &bar.reason);
                json!([bar.start, bar.length, bar.what, bar.count, reason])
            });
            let bars: Vec<Value> = bars.collect();
            json!({ "id": id, "bars": bars, "longest_wait": wait(&task.longest), "summary": of.get(id).map(|it| sum(it)) })
        })
        .collect();
    let arrows =
        scan.arrows.iter().map(|arrow| json!([arrow.at, arrow.by, arrow.task, arrow.ran, arrow.from, arrow.to]));
    let arrows: Vec<Value> = arrows.collect();
    let names: serde_json::Map<String, Value> =
        named.iter().filter_map(|id| Some((id.to_string(), Value::from(&*of.get(id)?.name)))).collect();
    Ok(json!({
        "duration_nanoseconds": duration,
        "from": window.from,
        "to": window.to,
        "events": summary.totals().events(),
        "generations": summary.totals().generations,
        "tasks_of_trace": survey.tasks,
        "processors": processors,
        "workers": workers,
        "tasks": tasks,
        "tasks_left_out": survey.tasks - survey.shown.len(),
        "arrows": arrows,
        "arrows_left_out": scan.arrows_left_out,
        "names": names,
        "reasons": reasons.iter().map(|reason| &**reason).collect::<Vec<_>>(),
    }))
}

/// The place of a reason in the list of all, which is short.
fn place(reasons: &mut Vec<Arc<str>>, reason: &Arc<str>) -> usize {
    reasons.iter().position(|known| known == reason).unwrap_or_else(|| {
        reasons.push(reason.clone());
        reasons.len() - 1
    })
}

fn wait(wait: &scan::Wait) -> Value {
    let frame = |frame: &Frame| json!({ "function": &*frame.function, "file": &*frame.file, "line": frame.line });
    json!({
        "nanoseconds": wait.length,
        "reason": &*wait.reason,
        "stack": wait.stack.iter().take(FRAMES).map(frame).collect::<Vec<_>>(),
    })
}

fn sum(task: &TaskSummary) -> Value {
    let waits = task.blocked.iter().map(|(reason, (time, count))| json!([&**reason, time, count]));
    json!({
        "name": &*task.name,
        "running": task.running,
        "runnable": task.runnable,
        "syscall": task.syscall,
        "waits": waits.collect::<Vec<_>>(),
        "starts": task.latency.count(),
        "latency_p50": task.latency.quantile(0.5),
        "latency_p99": task.latency.quantile(0.99),
        "ended": task.ended,
    })
}

#[cfg(test)]
mod tests {
    use greenprof_runtime::{Runtime, sync::Chan, task};

    use super::*;

    fn traced() -> Vec<u8> {
        let trace = greenprof_tracer::start(Vec::new()).unwrap();
        Runtime::builder().workers(1).build().unwrap().run(|| {
            let (there, back) = (Chan::<u32>::new(), Chan::<u32>::new());
            let (receive, answer) = (there.clone(), back.clone());
            let echo = move || receive.iter().take(50).for_each(|value| answer.send(value).unwrap());
            let echo = task::Builder::new().name("echo").spawn(echo).unwrap();
            for value in 0..50 {
                there.send(value).unwrap();
                assert_eq!(back.recv(), Some(value));
            }
            echo.join().unwrap();
        });
        trace.stop().unwrap().0
    }

    #[test]
    fn a_trace_becomes_rows_that_agree_with_its_summary() {
        let file = traced();
        let drawn = timeline(&Query::parse("columns=4000"), &file).unwrap();
        let echo = drawn["tasks"].as_array().unwrap().iter().find(|task| task["summary"]["name"] == "echo").unwrap();
        let id = echo["id"].as_u64().unwrap();
        let ran: u64 = drawn["processors"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row["bars"].as_array().unwrap())
            .filter(|bar| bar[2] == id)
            .map(|bar| bar[1].as_u64().unwrap())
            .sum();
        let summed = echo["summary"]["running"].as_u64().unwrap();
        assert!(ran > 0 && ran <= summed, "{ran} of {summed}");
        let arrows = drawn["arrows"].as_array().unwrap();
        assert!(arrows.iter().filter(|arrow| arrow[2] == id).count() >= 25, "{arrows:?}");
        // Each arrow goes forward in time.
        assert!(arrows.iter().all(|arrow| arrow[0].as_u64() <= arrow[3].as_u64()), "{arrows:?}");

        // A window has nothing outside of it, and the task that was asked for.
        let (from, to) = (summed / 4, summed / 2 + 1000);
        let query = format!("from={from}&to={to}&task={id}");
        let window = timeline(&Query::parse(&query), &file).unwrap();
        assert!(window["tasks"].as_array().unwrap().iter().any(|task| task["id"] == id));
        for row in window["tasks"].as_array().unwrap() {
            for bar in row["bars"].as_array().unwrap() {
                let (start, length) = (bar[0].as_u64().unwrap(), bar[1].as_u64().unwrap());
                assert!(from <= start && start + length <= to, "{bar}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_sentence() {
        let file = traced();
        for (query, body, part) in [
            ("", &b"no trace"[..], "this is no trace"),
            ("from=x", &file, "must be a whole number"),
            ("from=9&to=9", &file, "must be less than"),
            ("from=18446744073709551615", &file, "must be less than"),
        ] {
            let error = timeline(&Query::parse(query), body).unwrap_err();
            assert!(error.contains(part), "{query}: {error}");
        }
        // Beyond the end there is nothing, which is no error.
        let late = timeline(&Query::parse("from=999999999999"), &file).unwrap();
        assert!(late["arrows"].as_array().unwrap().is_empty(), "{late}");
    }
}
