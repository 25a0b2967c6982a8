//! What a demo that is to be looked at says first: what it will do, where to look, and what one should see there.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use crate::{
    console::{self, BOLD, Paint},
    interrupt::Interrupt,
};

/// How long each version of a demo goes on unless it is told otherwise, in seconds.
pub const SECONDS: u64 = 20;

/// How long the versions of a demo go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Length {
    /// Once through their work, to be checked.
    #[default]
    Once,
    /// So long, to be looked at.
    For(Duration),
}

/// What such a demo is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the port is.
    pub address: String,
    /// How many workers.
    pub workers: Option<usize>,
    /// How long each version goes on.
    pub length: Length,
}

/// What a demo says first.
#[derive(Clone, Copy, Debug)]
pub struct Guide<'a> {
    /// What it will do.
    pub does: &'a str,
    /// The view of the page in the browser, and what one sees there.
    pub page: (&'a str, &'a str),
    /// Paths of the port, each with what one sees there.
    pub paths: &'a [(&'a str, &'a str)],
    /// What follows `go tool`, with `URL` for the port's, each with what one sees.
    pub commands: &'a [(&'a str, &'a str)],
}

/// The longest line of text.
const WIDTH: usize = 110;

/// In front of what one sees somewhere.
const SEE: &str = "      ";

/// Text in lines that are not too long, without the last line's end.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = vec![indent.to_owned()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is one");
        if last.len() > indent.len() && last.len() + 1 + word.len() > WIDTH {
            lines.push(format!("{indent}{word}"));
        } else {
            let space = if last.len() > indent.len() { " " } else { "" };
            last.push_str(&format!("{space}{word}"));
        }
    }
    lines.join("\n")
}

impl Guide<'_> {
    /// Prints it.
    pub fn print(&self, address: SocketAddr) {
        console::print(&self.render(address, Paint::for_stdout()));
    }

    fn render(&self, address: SocketAddr, paint: Paint) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}\n{}", paint.text(BOLD, "What it does"), wrapped(self.does, "  "));
        let _ = writeln!(text, "{}", paint.text(BOLD, "Where to look, and what to see"));
        let _ = writeln!(text, "  http://{address}/debug/pprof/ui/#{}\n{}", self.page.0, wrapped(self.page.1, SEE));
        for (path, see) in self.paths {
            let _ = writeln!(text, "  http://{address}/debug/pprof/{path}\n{}", wrapped(see, SEE));
        }
        for (command, see) in self.commands {
            let command = command.replace("URL", &format!("http://{address}/debug/pprof"));
            let _ = writeln!(text, "  go tool {command}\n{}", wrapped(see, SEE));
        }
        text
    }
}

impl Length {
    /// Whether a version that began a while ago is to go on.
    pub fn goes_on(self, elapsed: Duration, interrupt: &Interrupt) -> bool {
        match self {
            Self::Once => false,
            Self::For(length) => elapsed < length && !interrupt.wait(Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_wrapped_between_words() {
        let text = "word ".repeat(60);
        let lines = wrapped(text.trim(), "  ");
        assert!(lines.lines().all(|line| line.starts_with("  word") && line.len() <= WIDTH && !line.ends_with(' ')));
        assert_eq!(lines.split_whitespace().count(), 60);
        assert_eq!(wrapped(&"x".repeat(200), " ").lines().count(), 1);
    }

    #[test]
    fn a_guide_names_the_port() {
        let guide = Guide {
            does: "Nothing.",
            page: ("live", "figures"),
            paths: &[("block?debug=1", "who waits")],
            commands: &[("pprof -top URL/mutex", "who lets others wait")],
        };
        assert_eq!(
            guide.render(([127, 0, 0, 1], 6060).into(), Paint::off()),
            "What it does\n  Nothing.\nWhere to look, and what to see\n  \
             http://127.0.0.1:6060/debug/pprof/ui/#live\n      figures\n  \
             http://127.0.0.1:6060/debug/pprof/block?debug=1\n      who waits\n  \
             go tool pprof -top http://127.0.0.1:6060/debug/pprof/mutex\n      who lets others wait\n"
        );
    }
}
