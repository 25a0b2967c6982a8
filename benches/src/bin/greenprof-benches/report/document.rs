//! Tables in a document: what stands between two marks is replaced by the report of a section.

use std::{fs, path::Path};

use anyhow::{Context, bail};

/// The line after which a section's table stands.
fn mark(section: &str) -> String {
    format!("<!-- report: {section} -->")
}

const END: &str = "<!-- end of report -->";

/// Puts a section's table into a file.
pub(crate) fn update(file: &Path, section: &str, table: &str) -> anyhow::Result<()> {
    let before = fs::read_to_string(file).with_context(|| format!("{} could not be read", file.display()))?;
    let after = replace(&before, section, table).with_context(|| format!("{} was not changed", file.display()))?;
    fs::write(file, after).with_context(|| format!("{} could not be written", file.display()))
}

/// The document with another table in the place of the section's.
pub(crate) fn replace(document: &str, section: &str, table: &str) -> anyhow::Result<String> {
    let mark = mark(section);
    let Some((before, rest)) = document.split_once(&mark) else {
        bail!("it has no line `{mark}` for the table to stand below");
    };
    let Some((_, after)) = rest.split_once(END) else {
        bail!("no line `{END}` follows `{mark}`");
    };
    Ok(format!("{before}{mark}\n\n{}\n\n{END}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let document = "# Head\n<!-- report: a -->\nold\n<!-- end of report -->\nbetween\n\
                        <!-- report: b -->\n<!-- end of report -->\ntail\n";
        let once = replace(document, "b", "| new |\n").unwrap();
        assert_eq!(once, document.replace("b -->\n<", "b -->\n\n| new |\n\n<"));
        assert_eq!(replace(&once, "b", "| new |").unwrap(), once, "again is the same");
        let other = replace(&once, "a", "x").unwrap();
        assert!(other.starts_with("# Head\n<!-- report: a -->\n\nx\n\n<!-- end") && other.contains("| new |"));
    }

    #[test]
    fn a_document_without_a_place_is_an_error() {
        let error = replace("nothing", "heap", "x").unwrap_err();
        assert_eq!(error.to_string(), "it has no line `<!-- report: heap -->` for the table to stand below");
        assert!(replace("<!-- report: heap -->\n", "heap", "x").is_err());
    }
}
