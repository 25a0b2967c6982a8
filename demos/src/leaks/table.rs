//! The result for people.

use super::{
    program::{Form, Kind},
    report::{Row, Summary},
    runner::Settings,
    sites::Sites,
};
use crate::{
    console::{BOLD, GREEN, Paint, RED},
    table::{Table, percent, seconds},
};

/// The table, what was wrong, and the means.
pub fn render(rows: &[Row], summary: &Summary, settings: &Settings, paint: Paint) -> String {
    let mut table = Table::new(["program", "form", "frame", ">leaked", ">found", ">recall", ">false", ">time"]);
    for row in rows {
        table.row([
            row.program.id.to_owned(),
            row.form.name(),
            row.frame.name().to_owned(),
            row.expected.total().to_string(),
            row.found.total().to_string(),
            percent(f64::from(row.found.total()), f64::from(row.expected.total())),
            row.false_positives.total().to_string(),
            seconds(row.micros as f64 / 1e6),
        ]);
    }
    let mut text = String::new();
    for (at, line) in table.render("").lines().enumerate() {
        let line = match at.checked_sub(1).map(|at| &rows[at]) {
            None => paint.text(BOLD, line),
            Some(row) if !row.is_sound() => paint.text(RED, line),
            Some(_) => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    let wrong: Vec<&Row> =
        rows.iter().filter(|row| !row.is_sound() || !row.incomplete.is_empty() || !row.why.is_empty()).collect();
    if !wrong.is_empty() {
        text.push('\n');
    }
    for row in wrong {
        let which = format!("{} {} {}", row.program.id, row.form.name(), row.frame.name());
        if !row.false_positives.is_empty() {
            text.push_str(&paint.text(RED, &format!("{which}: reported, and not leaked: {}\n", row.false_positives)));
        }
        if let Some(defect) = row.defects.first() {
            let share = format!("{} of {} runs", row.defects.len(), row.runs);
            text.push_str(&paint.text(RED, &format!("{which}: the program went wrong in {share}: {defect}\n")));
        }
        if let Some(why) = row.incomplete.first() {
            text.push_str(&format!("{which}: incomplete in {} of {} runs: {why}\n", row.incomplete.len(), row.runs));
        }
        row.why.iter().for_each(|why| text.push_str(&format!("{which}: missed {why}\n")));
    }
    text.push('\n');
    let mut means = Table::new(["mean recall", "", ">programs", ">recall", ">floor"]);
    for mean in &summary.means {
        means.row([
            mean.form.to_owned(),
            format!("frame {}", mean.frame),
            mean.programs.to_string(),
            percent(mean.recall, 1.0),
            mean.floor.map_or_else(|| "-".to_owned(), |floor| percent(floor, 1.0)),
        ]);
    }
    text.push_str(&means.render(""));
    let (false_positives, defects) = (summary.false_positives, summary.defects);
    text.push_str(&format!(
        "\ndetector {}: false positives {false_positives}, runs in which a program went wrong {defects}: ",
        settings.detector
    ));
    text.push_str(&if summary.ok { paint.text(GREEN, "PASS") } else { paint.text(RED, "FAIL") });
    text.push('\n');
    text
}

/// Which of the leaks are left in Rust: a table in Markdown. Of a form that ran otherwise than it claims, it says so.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = "| program | leaks as in Go | in Rust | why |\n|---|---|---|---|\n".to_owned();
    for row in rows.iter().filter(|row| row.form.kind == Kind::Rust) {
        let forced = row.program.forms.iter().filter(|form| form.kind == Kind::Forced);
        let leaks = |form: &Form| Sites::of(form.leaks, 1).to_string();
        let as_in_go: Vec<String> = forced.map(leaks).collect();
        let in_rust = match leaks(row.form) {
            _ if row.form.leaks.is_empty() => "**none**".to_owned(),
            same if as_in_go.contains(&same) => "the same".to_owned(),
            other => other,
        };
        let wrong = if row.defects.is_empty() { "" } else { " (went wrong)" };
        text.push_str(&format!(
            "| {}{} | {} | {in_rust}{wrong} | {} |\n",
            row.program.id.rsplit('/').next().unwrap_or(row.program.id),
            if row.form.variant.is_empty() { String::new() } else { format!(", {}", row.form.variant) },
            as_in_go.join("; or "),
            row.form.note
        ));
    }
    text
}
