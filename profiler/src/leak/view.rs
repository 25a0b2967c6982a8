//! What a query asks of `/debug/pprof/goroutineleak`.
//!
//! | query | answer |
//! |---|---|
//! | nothing | the leaked tasks |
//! | `mode=fork` | the same, looked for in a copy of the process |
//! | `settle=1s` | the same, when the tasks have come to rest |
//! | `passes=3` | what three detections agree on |
//! | `format=json` | the whole report: tasks, stacks, primitives, deadlocks, the wait graph, what it cost, and what is blocked besides |
//! | `format=json&limit=100` | the same, with no list longer than that, and what tells most first |
//! | `format=dot` | the wait graph, for Graphviz |
//! | `tier=2&longer=10s` | a heuristic: tasks that have been blocked for so long and are not leaked |
//! | `tier=2&growth=10s` | a heuristic: growth by spawn site, in so long |

use std::{thread, time::Duration};

use greenprof_runtime::heap;

use super::{LeakProfile, Mode, Options, Snapshot, blocked_longer_than, detect, endpoint, passes};
use crate::{
    http::NamedProfile,
    profile::{Profile, ProfileError, ValueType, encode},
    symbolize, tasks,
};

/// Longer than anybody waits for an answer.
const MOST: Duration = Duration::from_secs(3600);

/// In which form leaked tasks are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As Go's tools expect it: a profile, or text.
    #[default]
    Go,
    /// For programs.
    Json {
        /// No list is longer than this: those come first that tell most.
        limit: Option<usize>,
    },
    /// The wait graph in Graphviz's language.
    Dot,
}

/// An answer of the port.
///
/// ```
/// use greenprof_profiler::{http::Query, leak::{Format, View}};
///
/// let query = Query::parse("format=json&limit=100");
/// let view = View::parse(|name| query.get(name))?;
/// assert!(matches!(view, View::Leaked(_, Format::Json { limit: Some(100) })));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The leaked tasks.
    Leaked(Options, Format),
    /// Tasks that have been blocked for so long, and are not leaked.
    Blocked(Duration),
    /// Growth by spawn site in so long.
    Growth(Duration),
}

impl View {
    /// Reads the parameters of a query.
    ///
    /// # Errors
    /// One sentence that says what may be asked for.
    pub fn parse<'q>(get: impl Fn(&str) -> Option<&'q str>) -> Result<Self, String> {
        let duration = |name: &str| get(name).map(|text| duration(name, text)).transpose();
        let mode = match get("mode") {
            None | Some("stop") => Mode::Stop,
            Some("fork") => Mode::Fork,
            Some(other) => return Err(format!("there is no mode {other:?}: say stop or fork")),
        };
        let passes = match get("passes") {
            None => 1,
            Some(text) => match text.parse() {
                Ok(count @ 1..=passes::MOST) => count,
                _ => return Err(format!("`passes={text}` is no number from 1 to {}: say `passes=3`", passes::MOST)),
            },
        };
        let limit = get("limit")
            .map(|text| text.parse().map_err(|_| format!("`limit={text}` is no number: say `limit=100`")))
            .transpose()?;
        let format = match get("format") {
            None => Format::Go,
            Some("json") => Format::Json { limit },
            Some("dot") => Format::Dot,
            Some(other) => return Err(format!("there is no format {other:?}: say json or dot, or leave it out")),
        };
        if limit.is_some() && !matches!(format, Format::Json { .. }) {
            return Err("`limit` belongs to `format=json`: say both, or leave it out".to_owned());
        }
        let settle = duration("settle")?.unwrap_or_default();
        let options = Options { mode, settle, passes, ..Options::default() };
        match (get("tier"), duration("longer")?, duration("growth")?) {
            (None | Some("1"), None, None) => Ok(Self::Leaked(options, format)),
            (None | Some("1"), _, _) => Err("`longer` and `growth` belong to `tier=2`".to_owned()),
            (Some("2"), _, _) if format != Format::Go => {
                Err("`format` belongs to `tier=1`: say one of them".to_owned())
            }
            (Some("2"), Some(longer), None) => Ok(Self::Blocked(longer)),
            (Some("2"), None, Some(growth)) => Ok(Self::Growth(growth)),
            (Some("2"), _, _) => Err("`tier=2` needs either `longer` or `growth`, `longer=10s` for example".to_owned()),
            (Some(other), _, _) => Err(format!("there is no tier {other:?}: say 1 or 2")),
        }
    }
}

/// `10s`, `500ms`, `2m`, or a number of seconds.
fn duration(name: &str, text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let of = |milliseconds: u64| Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(milliseconds)?));
    let duration = match unit {
        "ms" => of(1),
        "" | "s" => of(1000),
        "m" => of(60_000),
        _ => None,
    };
    duration
        .filter(|duration| *duration <= MOST)
        .ok_or_else(|| format!("`{name}={text}` is no time of at most an hour: say `{name}=10s`, or 500ms, or 2m"))
}

impl NamedProfile for View {
    fn name(&self) -> &str {
        "goroutineleak"
    }

    fn description(&self) -> &str {
        match self {
            Self::Leaked(..) => "All leaked tasks.",
            Self::Blocked(_) => "Tasks that have been blocked for long.",
            Self::Growth(_) => "Growth of the number of tasks by spawn site.",
        }
    }

    fn count(&self) -> usize {
        LeakProfile.count()
    }

    fn write(&self, debug: i64) -> Result<Vec<u8>, ProfileError> {
        match self {
            Self::Leaked(options, format) => endpoint::write(options, *format, debug),
            Self::Blocked(longer) => heap::untracked(|| write_blocked(*longer, debug)),
            Self::Growth(_) if debug <= 0 => {
                Err(ProfileError::Unavailable("growth by spawn site is a text: add `debug=1`".to_owned()))
            }
            Self::Growth(time) => {
                let earlier = Snapshot::take();
                thread::sleep(*time);
                Ok(Snapshot::take().diff(&earlier).to_string().into_bytes())
            }
        }
    }

    fn content_type(&self, debug: i64) -> Option<&'static str> {
        match self {
            Self::Leaked(_, Format::Json { .. }) => Some("application/json"),
            Self::Leaked(_, Format::Dot) => Some("text/vnd.graphviz; charset=utf-8"),
            _ => LeakProfile.content_type(debug),
        }
    }

    fn collect(&self) -> Option<Profile> {
        None
    }

    fn supports_delta(&self) -> bool {
        false
    }

    fn unavailable(&self) -> Option<String> {
        match self {
            Self::Leaked(..) => LeakProfile.unavailable(),
            Self::Blocked(_) | Self::Growth(_) => None,
        }
    }
}

/// Without a report, leaked tasks are among them, and the answer says so.
fn write_blocked(longer: Duration, debug: i64) -> Result<Vec<u8>, ProfileError> {
    let suspects = blocked_longer_than(longer);
    let (suspects, remark) = match detect() {
        Ok(report) => match report.incomplete() {
            None => (suspects.without(&report), None),
            Some(reason) => (suspects, Some(reason.to_string())),
        },
        Err(error) => (suspects, Some(error.to_string())),
    };
    let remark = remark.map(|reason| format!("leaked tasks are among them: {reason}"));
    if debug > 0 {
        let remark = remark.map(|remark| format!("# {remark}\n")).unwrap_or_default();
        return Ok((suspects.to_string() + &remark).into_bytes());
    }
    let snapshot = tasks::Snapshot { tasks: suspects.tasks };
    let mut profile = tasks::profile_as(ValueType::new("blocked", "count"), &snapshot);
    profile.comments.push(format!("heuristic: blocked for at least {longer:?}, but something live may wake them"));
    profile.comments.extend(remark);
    encode::encode(&profile, &mut symbolize::shared().lock())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &'static [(&str, &str)]) -> Result<View, String> {
        View::parse(|name| query.iter().find(|(key, _)| *key == name).map(|(_, value)| *value))
    }

    #[test]
    fn queries_are_understood() {
        let plain = Options { passes: 1, ..Options::default() };
        assert_eq!(parse(&[]), Ok(View::Leaked(plain, Format::Go)));
        assert_eq!(parse(&[("format", "dot")]), Ok(View::Leaked(plain, Format::Dot)));
        let Ok(View::Leaked(options, format)) = parse(&[("passes", "3"), ("format", "json")]) else { panic!("leaks") };
        assert_eq!((options.passes, format), (3, Format::Json { limit: None }));
        assert_eq!(
            parse(&[("format", "json"), ("limit", "7")]),
            Ok(View::Leaked(plain, Format::Json { limit: Some(7) }))
        );
        let Ok(View::Leaked(options, _)) = parse(&[("mode", "fork"), ("settle", "20ms")]) else { panic!("leaks") };
        assert_eq!((options.mode, options.settle), (Mode::Fork, Duration::from_millis(20)));
        assert_eq!(parse(&[("tier", "2"), ("longer", "10s")]), Ok(View::Blocked(Duration::from_secs(10))));
        assert_eq!(parse(&[("tier", "2"), ("growth", "2m")]), Ok(View::Growth(Duration::from_secs(120))));
        assert_eq!(parse(&[("tier", "2"), ("longer", "7")]), Ok(View::Blocked(Duration::from_secs(7))));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let bad: [&'static [(&str, &str)]; 14] = [
            &[("passes", "0")],
            &[("passes", "many")],
            &[("format", "xml")],
            &[("format", "json"), ("tier", "2"), ("longer", "1s")],
            &[("format", "json"), ("limit", "-1")],
            &[("limit", "10")],
            &[("mode", "copy")],
            &[("tier", "3")],
            &[("tier", "2")],
            &[("longer", "10s")],
            &[("tier", "2"), ("longer", "1s"), ("growth", "1s")],
            &[("tier", "2"), ("longer", "s")],
            &[("tier", "2"), ("longer", "10h")],
            &[("settle", "99999999999999999999s")],
        ];
        for query in bad {
            let message = parse(query).expect_err("an error");
            assert!(message.contains("say") || message.contains("tier=2"), "{message}");
        }
    }
}
