//! `/debug/pprof/goroutineleak`: the leaked tasks, in the forms of the task profile. Each request is a detection.

use std::{sync::Arc, time::Duration};

use greenprof_runtime::heap;

use super::{DetectError, Format, Options, Report, View, blocked_longer_than, detect_with, graph, json, text};
use crate::{
    http::{NamedProfile, Query},
    profile::{Profile, ProfileError, ValueType, encode},
    symbolize,
    tasks::{self, Snapshot},
};

/// The profile as the port offers it.
///
/// ```
/// use greenprof_profiler::{http::NamedProfile, leak::LeakProfile};
///
/// assert_eq!(LeakProfile.name(), "goroutineleak"); // as Go's
/// assert_eq!(LeakProfile.count(), 0, "nobody has looked yet");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LeakProfile;

impl NamedProfile for LeakProfile {
    fn name(&self) -> &str {
        "goroutineleak"
    }

    fn description(&self) -> &str {
        "Stack traces of all leaked tasks: those that wait for what no live task can bring about. Asking for it stops the \
         program while its memory is looked through."
    }

    /// As many as the last detection has found: a look costs a stop of the world.
    fn count(&self) -> usize {
        super::last_count()
    }

    fn write(&self, debug: i64) -> Result<Vec<u8>, ProfileError> {
        write(&Options::default(), Format::Go, debug)
    }

    fn collect(&self) -> Option<Profile> {
        None
    }

    fn supports_delta(&self) -> bool {
        false
    }

    fn view(&self, query: &Query) -> Result<Option<Arc<dyn NamedProfile>>, String> {
        Ok(Some(Arc::new(View::parse(|name| query.get(name))?)))
    }

    fn unavailable(&self) -> Option<String> {
        (!heap::is_active()).then(|| DetectError::NoHeap.to_string())
    }
}

/// The leaked tasks as the port shows them.
pub(super) fn write(options: &Options, format: Format, debug: i64) -> Result<Vec<u8>, ProfileError> {
    let report = detect_with(options).map_err(|error| ProfileError::Unavailable(error.to_string()))?;
    heap::untracked(|| match format {
        Format::Go => write_profile(&report, debug),
        Format::Json { limit } => {
            let blocked = blocked_longer_than(Duration::ZERO).without(&report);
            let value = json::report(&report, &blocked, limit, &mut symbolize::shared().lock());
            Ok(format!("{value:#}\n").into_bytes())
        }
        Format::Dot => Ok(graph::dot(&report).into_bytes()),
    })
}

/// As Go's tools expect it.
fn write_profile(report: &Report, debug: i64) -> Result<Vec<u8>, ProfileError> {
    let snapshot = snapshot(report);
    let mut symbolizer = symbolize::shared().lock();
    match debug {
        ..=0 => encode::encode(&profile(report, &snapshot), &mut symbolizer),
        1 => {
            let text = tasks::text_of("goroutineleak", &snapshot, &mut symbolizer);
            Ok((text + &text::remarks(report) + &text::graph(report)).into_bytes())
        }
        _ => {
            drop(symbolizer);
            let all = tasks::snapshot();
            let remark = |task: &tasks::Task| match (report.is_leaked(task.id), report.incomplete()) {
                (true, _) => " (leaked)",
                (false, Some(_)) if report.tasks.iter().any(|leak| leak.id() == task.id) => " (perhaps leaked)",
                _ => "",
            };
            Ok(tasks::dump_with(&all, &mut symbolize::shared().lock(), remark).into_bytes())
        }
    }
}

/// The reported tasks; those of an incomplete scan, too, which are marked.
pub(super) fn snapshot(report: &Report) -> Snapshot {
    Snapshot { tasks: report.tasks.iter().map(|leak| leak.task.clone()).collect() }
}

fn profile(report: &Report, snapshot: &Snapshot) -> Profile {
    let mut profile = tasks::profile_as(ValueType::new("goroutineleak", "count"), snapshot);
    profile.comments.extend(text::remarks(report).lines().map(|line| line.trim_start_matches("# ").to_owned()));
    profile
}
