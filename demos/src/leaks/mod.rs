//! The corpus of known-leaky programs: what leaks in each is known, so that a leak detector can be measured.
//!
//! Each program stands in a file of its own, and knows nothing of detectors. Those in [`simple`], [`patterns`] and [`goker`]
//! leak tasks; those in [`sound`] only look as if they did: their tasks are blocked, can be woken, and are woken
//! afterwards. The leaky ones go back to the kernels of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317), the leak
//! patterns of a study at Uber (CGO 2024, doi:10.1109/CGO57630.2024.10444835), and what Go 1.27 tests its own
//! detector with. They are written anew from descriptions of their bugs.
//!
//! Each leaky program has a natural form, in which the bug occurs as it does in the wild, a forced form, in which gates
//! bring about the bad interleaving each time, and one in idiomatic Rust.
//!
//! [`run`] runs programs, each run in a process of its own ([`child`]), and compares what was reported with what
//! should be ([`verdict`]). [`stress`] makes random programs in which nothing is leaked, and [`matrix`] runs both in all builds.

pub mod child;
pub mod detector;
mod explain;
pub mod goker;
pub mod matrix;
pub mod patterns;
pub mod program;
mod report;
mod runner;
pub mod scene;
pub mod simple;
pub mod sites;
pub mod sound;
pub mod stress;
mod table;
pub mod verdict;

use program::{Form, Kind, Program};
use scene::Frame;

use crate::table::Table;

pub use explain::explain;
pub use runner::{LeaksError, Outcome, Settings, Sort, judge, run};

/// What the files of the programs need.
mod prelude {
    pub(super) use super::{
        program::{Form, Program, Site},
        scene::Scene,
    };
    pub(super) use greenprof_runtime::task::WaitReason::*;

    /// How the programs share what they share.
    #[cfg(feature = "shared")]
    pub(super) use greenprof_runtime::sync::Shared as Arc;
    #[cfg(not(feature = "shared"))]
    pub(super) use std::sync::Arc;
}

/// All programs, in the order in which they are shown.
pub fn programs() -> Vec<&'static Program> {
    let leaky = [simple::PROGRAMS, patterns::PROGRAMS, goker::PROGRAMS].concat();
    leaky.into_iter().chain(sound::programs()).collect()
}

/// The programs that are meant: a whole id, or the beginning of one up to a slash; all if nothing is asked.
///
/// # Errors
/// The first that means none.
pub fn select(asked: &[String]) -> Result<Vec<&'static Program>, String> {
    let means = |asked: &str, id: &str| id == asked || id.strip_prefix(asked).is_some_and(|rest| rest.starts_with('/'));
    let named = |asked: &str, id: &str| id.rsplit('/').next() == Some(asked);
    let all = programs();
    if let Some(none) = asked.iter().find(|asked| !all.iter().any(|of| means(asked, of.id) || named(asked, of.id))) {
        return Err(none.clone());
    }
    let meant = |program: &&Program| {
        asked.is_empty() || asked.iter().any(|asked| means(asked, program.id) || named(asked, program.id))
    };
    Ok(all.into_iter().filter(meant).collect())
}

/// The program with that id.
pub fn program(id: &str) -> Option<&'static Program> {
    programs().into_iter().find(|program| program.id == id)
}

/// The programs and detectors that there are, as tables.
pub fn list() -> String {
    let mut table = Table::new(["program", "forms", "what happens"]);
    for program in programs() {
        let forms: Vec<String> = program.forms.iter().map(Form::name).collect();
        table.row([program.id.to_owned(), forms.join(" "), program.what.to_owned()]);
    }
    let mut detectors = Table::new(["detector", "what it reports"]);
    for entry in detector::DETECTORS {
        detectors.row([entry.name.to_owned(), entry.what.to_owned()]);
    }
    format!("{}\n{}", table.render(""), detectors.render(""))
}

/// The form of a program with that name.
pub fn form(program: &'static Program, name: &str) -> Option<&'static Form> {
    program.forms.iter().find(|form| form.name() == name)
}

/// The frames with which a form is looked at: where tasks are held, or nothing leaks, it makes no difference.
fn frames(form: &Form) -> &'static [Frame] {
    match form.kind {
        Kind::Natural => &[Frame::Returned],
        _ if form.leaks.is_empty() || !form.held.is_empty() => &[Frame::Alive],
        _ => &[Frame::Alive, Frame::Returned],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_corpus_is_complete() {
        let all = programs();
        let ids: HashSet<&str> = all.iter().map(|program| program.id).collect();
        assert_eq!(ids.len(), all.len(), "ids are unique");
        let (sound, leaky): (Vec<&Program>, Vec<&Program>) =
            all.iter().partition(|program| program.id.starts_with("sound/"));
        assert_eq!(leaky.len(), 56);
        assert!(sound.len() >= leaky.len(), "{} programs of which nothing may be reported", sound.len());
        assert!(sound.iter().all(|program| program.must_not_be_reported()));
        for program in &leaky {
            for kind in Kind::ALL {
                assert!(program.forms.iter().any(|form| form.kind == kind), "{} has no {kind:?} form", program.id);
            }
            let noted = |form: &Form| form.kind == Kind::Rust && !form.note.is_empty();
            assert!(program.forms.iter().any(noted), "{} says nothing of Rust", program.id);
        }
        for program in &all {
            let names: HashSet<String> = program.forms.iter().map(Form::name).collect();
            assert_eq!(names.len(), program.forms.len(), "{}: names of forms are unique", program.id);
        }
    }

    #[test]
    fn programs_are_chosen_by_group_id_and_name() {
        let chosen = |asked: &[&str]| {
            select(&asked.iter().map(|&asked| asked.to_owned()).collect::<Vec<_>>()).map(|chosen| chosen.len())
        };
        assert_eq!(chosen(&["goker/etcd_5509"]), Ok(1));
        assert_eq!(chosen(&["etcd_5509", "goker/etcd_5509"]), Ok(1));
        assert_eq!(chosen(&["goker", "simple", "patterns"]), Ok(56));
        assert_eq!(chosen(&["gok"]), Err("gok".to_owned()));
        assert_eq!(chosen(&[]), Ok(programs().len()));
    }
}
