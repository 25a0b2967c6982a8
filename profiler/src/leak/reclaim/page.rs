//! `/debug/greenprof/reclaim`: POST detects leaked tasks and reclaims them, all or those that the body names.

use std::collections::HashSet;

use greenprof_runtime::heap;
use hyper::{Method, StatusCode, header::HeaderValue};
use serde_json::{Value, json};

use super::{Options, Outcome, Reclamation, reclaim_if};
use crate::{
    http::{
        Ask, Page,
        reply::{self, Reply},
    },
    leak::{DetectError, Leak, Report, View, detect_with},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) struct ReclaimPage;

impl Page for ReclaimPage {
    fn path(&self) -> &str {
        "/debug/greenprof/reclaim"
    }

    fn description(&self) -> &str {
        "How many tasks were reclaimed. POST unwinds the leaked tasks, all or {\"tasks\": [ID, ...]}: their destructors run, and \
         their memory comes back."
    }

    fn changes(&self) -> &'static [Method] {
        &[Method::POST]
    }

    fn answer(&self, ask: &Ask) -> Reply {
        if ask.method != Method::POST {
            return reply::reply(StatusCode::OK, JSON, format!("{}\n", json!({ "unwound": super::evicted() })));
        }
        if !heap::is_active() {
            return reply::error(StatusCode::SERVICE_UNAVAILABLE, DetectError::NoHeap);
        }
        let wanted = match tasks(&ask.body) {
            Ok(wanted) => wanted,
            Err(message) => return reply::error(StatusCode::BAD_REQUEST, message),
        };
        let options = match View::parse(|name| ask.query.get(name)) {
            Ok(View::Leaked(options, _)) => options,
            Ok(_) => {
                return reply::error(StatusCode::BAD_REQUEST, "only leaked tasks can be reclaimed: leave `tier` out");
            }
            Err(message) => return reply::error(StatusCode::BAD_REQUEST, message),
        };
        // In the program's heap: destructors run meanwhile, on other threads.
        let report = match detect_with(&options) {
            Ok(report) => report,
            Err(error) => return reply::error(StatusCode::INTERNAL_SERVER_ERROR, error),
        };
        if let Some(reason) = report.incomplete() {
            let message = format!("nothing was reclaimed, as it is not certain what is leaked: {reason}");
            return reply::error(StatusCode::SERVICE_UNAVAILABLE, message);
        }
        let is_wanted = |leak: &Leak| wanted.as_ref().is_none_or(|wanted| wanted.contains(&leak.id().get()));
        let reclamation = reclaim_if(&report, &Options::default(), is_wanted);
        reply::reply(StatusCode::OK, JSON, format!("{:#}\n", told(&report, &reclamation, wanted.as_ref())))
    }
}

/// The tasks that the body names; `None` for all.
fn tasks(body: &[u8]) -> Result<Option<HashSet<u64>>, String> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let bad = || "the body must be empty, or {\"tasks\": [7, 9]} with numbers of tasks".to_owned();
    let body: Value = serde_json::from_slice(body).map_err(|error| format!("{}: {error}", bad()))?;
    let object = body.as_object().filter(|object| object.keys().all(|key| key == "tasks")).ok_or_else(bad)?;
    let tasks = object.get("tasks").and_then(Value::as_array).ok_or_else(bad)?;
    tasks.iter().map(Value::as_u64).collect::<Option<_>>().map(Some).ok_or_else(bad)
}

fn told(report: &Report, reclamation: &Reclamation, wanted: Option<&HashSet<u64>>) -> Value {
    let tasks: Vec<Value> = reclamation
        .tasks
        .iter()
        .map(|(id, outcome)| {
            let (word, reason) = match outcome {
                Outcome::Reclaimed => ("reclaimed", None),
                Outcome::Pending => ("pending", Some("it was told to unwind, and has not ended yet".to_owned())),
                Outcome::Refused(reason) => ("refused", Some(reason.to_string())),
            };
            let name = report.leaked().iter().find(|leak| leak.id() == *id).and_then(|leak| leak.task.name.clone());
            json!({ "id": id.get(), "name": name, "outcome": word, "reason": reason })
        })
        .collect();
    let mut others: Vec<u64> = wanted.into_iter().flatten().copied().collect();
    others.retain(|id| !reclamation.tasks.iter().any(|(task, _)| task.get() == *id));
    others.sort_unstable();
    json!({
        "reclaimed": reclamation.reclaimed(),
        "pending": reclamation.tasks.iter().filter(|(_, outcome)| *outcome == Outcome::Pending).count(),
        "refused": reclamation.tasks.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Refused(_))).count(),
        "not_leaked": others,
        "tasks": tasks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_name_tasks() {
        assert_eq!(tasks(b" \n"), Ok(None));
        assert_eq!(tasks(br#"{"tasks": [7, 9, 7]}"#), Ok(Some(HashSet::from([7, 9]))));
        for body in ["[7]", "{}", r#"{"tasks": 7}"#, r#"{"tasks": ["7"]}"#, r#"{"tasks": [7], "all": true}"#, "{"] {
            let message = tasks(body.as_bytes()).expect_err(body);
            assert!(message.starts_with("the body must be empty, or"), "{message}");
        }
    }
}
