//! What the demos write: results to standard output, everything on the way there to standard error.
//!
//! Colour and moving bars only where a person looks; elsewhere the same facts are plain lines.

use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// A colour of the terminal, as its escape sequence.
#[derive(Clone, Copy, Debug)]
pub struct Colour(&'static str);

/// For what went well.
pub const GREEN: Colour = Colour("\x1b[32m");
/// For what did not.
pub const RED: Colour = Colour("\x1b[1;31m");
/// For headings.
pub const BOLD: Colour = Colour("\x1b[1m");

/// Paints text, or leaves it as it is.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Paints if standard output is a terminal, and nobody has asked for no colour by the variable `NO_COLOR`.
    pub fn for_stdout() -> Self {
        Self { on: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// Never paints.
    pub const fn off() -> Self {
        Self { on: false }
    }

    /// The text in that colour.
    pub fn text(self, colour: Colour, text: &str) -> String {
        if self.on { format!("{}{text}\x1b[0m", colour.0) } else { text.to_owned() }
    }
}

/// Writes to standard output. A reader that has gone away, as `head` does, is no error.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line to standard error, under whatever moves there.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// One step of a longer job: a bar or a spinner on a terminal, else a line when it starts and one when it ends.
#[derive(Debug)]
pub struct Step {
    what: String,
    bar: Option<ProgressBar>,
    /// Whether a line has said that it is under way; only where there is no bar.
    announced: Cell<bool>,
}

/// How long a step may take before a line says that it is under way.
const SILENCE: Duration = Duration::from_secs(2);

impl Step {
    /// Shows that a step has started. With a length it is a bar that fills in that time.
    pub fn start(what: &str, length: Option<Duration>) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let (bar, template) = match length {
                Some(length) => (ProgressBar::new(length.as_millis() as u64), "{spinner} {msg} [{bar:30}] {elapsed}"),
                None => (ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}"),
            };
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.with_style(style).with_message(what.to_owned())
        });
        let announced = match length {
            Some(length) if bar.is_none() && length >= SILENCE => {
                note(&format!("{what} ({:.0} s) ...", length.as_secs_f64()));
                true
            }
            _ => false,
        };
        Self { what: what.to_owned(), bar, announced: Cell::new(announced) }
    }

    /// Shows how far it is.
    pub fn tick(&self, elapsed: Duration) {
        let Some(bar) = &self.bar else {
            if elapsed > SILENCE && !self.announced.replace(true) {
                note(&format!("{} ...", self.what));
            }
            return;
        };
        match bar.length() {
            Some(length) => bar.set_position(length.min(elapsed.as_millis() as u64)),
            None => bar.tick(),
        }
    }

    /// Says how things stand on a terminal, in place; elsewhere as [`Step::tick`] does.
    pub fn progress(&self, text: String, elapsed: Duration) {
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
        self.tick(elapsed);
    }

    /// Says how things stand: in place on a terminal, else as a further line.
    pub fn say(&self, text: String, elapsed: Duration) {
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => note(&text),
        }
        self.announced.set(true);
        self.tick(elapsed);
    }

    /// Replaces it by a line that says what came of it.
    pub fn done(self, result: &str) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        note(&format!("{}: {result}", self.what));
    }

    /// Removes it.
    pub fn clear(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_only_where_it_is_on() {
        assert_eq!(Paint::off().text(RED, "FAIL"), "FAIL");
        assert_eq!(Paint { on: true }.text(RED, "FAIL"), "\x1b[1;31mFAIL\x1b[0m");
    }
}
