//! Rules on single Rust files: opening words, length, topic names, unfinished work.

use anyhow::{Context, bail};

use crate::tidy::{Finding, lines};
use crate::workspace::Source;

/// Longer files are refused, tests at their foot not counted.
const LINES_MAX: usize = 1000;
/// Longer files say why in their head.
const LINES_EXPLAINED: usize = 600;
/// How such a file begins its explanation.
const EXPLANATION: &str = "//! Long because: ";
/// The one file that names topics.
pub(crate) const TOPICS_FILE: &str = "crates/stream/src/topics.rs";

/// Words that mean "not finished". Put together here so that this file does not find itself.
const UNFINISHED: [&str; 4] =
    [concat!("to", "do!("), concat!("unimplemen", "ted!("), concat!("FIX", "ME"), concat!("XX", "X")];
const LATER: &str = concat!("TO", "DO");

/// All rules on one file. `topics` are the names that only [`TOPICS_FILE`] may spell.
pub(crate) fn check(file: &Source, topics: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let first = file.text.lines().next().unwrap_or_default();
    if !first.starts_with("//! ") {
        let remedy = "begin the file with `//!`: its job, its invariants, where to look next";
        findings.push(Finding::new(&file.path, 1, "does not say what it is", remedy));
    }
    let shipped = lines::shipped(&file.text);
    findings.extend(length(file, shipped.len()));
    findings.extend(unfinished(file));
    if !is_test(&file.path) && file.path != TOPICS_FILE {
        findings.extend(topic_names_spelt(file, &shipped, topics));
    }
    findings
}

/// Tests and examples may spell topic names: they look at the stream from outside.
fn is_test(path: &str) -> bool {
    ["/tests/", "/examples/", "/benches/"].iter().any(|part| path.contains(part)) || path.ends_with("/tests.rs")
}

fn length(file: &Source, count: usize) -> Option<Finding> {
    if count > LINES_MAX {
        let what = format!("{count} lines, {LINES_MAX} are the limit");
        return Some(Finding::new(&file.path, 1, what, "it holds two ideas: give each a file"));
    }
    let explained =
        file.text.lines().take_while(|line| line.starts_with("//!")).any(|line| line.starts_with(EXPLANATION));
    if count > LINES_EXPLAINED && !explained {
        let what = format!("{count} lines without a reason");
        let remedy = format!("split it, or say `{EXPLANATION}...` in its head");
        return Some(Finding::new(&file.path, 1, what, remedy));
    }
    None
}

fn unfinished(file: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for word in UNFINISHED.iter().filter(|word| line.contains(**word)) {
            let what = format!("{} left behind", word.trim_end_matches('('));
            findings.push(Finding::new(&file.path, at + 1, what, "finish it, or leave it out and say so"));
        }
        let comment = lines::comment(line);
        let with_issue = |rest: &str| {
            rest.strip_prefix("(#").is_some_and(|rest| {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                digits > 0 && rest[digits..].starts_with(')')
            })
        };
        if comment.match_indices(LATER).any(|(at, _)| !with_issue(&comment[at + LATER.len()..])) {
            let what = format!("{LATER} without an issue");
            findings.push(Finding::new(&file.path, at + 1, what, format!("write {LATER}(#123), or do it")));
        }
    }
    findings
}

fn topic_names_spelt(file: &Source, shipped: &[(usize, &str)], topics: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in shipped {
        let code = lines::code(line);
        for topic in topics.iter().filter(|topic| code.contains(&format!("\"{topic}\""))) {
            let remedy = format!("use stream::Topic::...name() of {TOPICS_FILE}");
            findings.push(Finding::new(&file.path, *number, format!("spells the topic {topic:?}"), remedy));
        }
    }
    findings
}

/// The names in the table of topics.
pub(crate) fn topic_names(files: &[Source]) -> anyhow::Result<Vec<String>> {
    let file =
        files.iter().find(|file| file.path == TOPICS_FILE).with_context(|| format!("{TOPICS_FILE} is missing"))?;
    let names: Vec<String> = lines::shipped(&file.text)
        .into_iter()
        .filter_map(|(_, line)| line.trim().strip_prefix("Self::")?.split_once(" => \"")?.1.strip_suffix("\","))
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        bail!("{TOPICS_FILE} names no topic as `Self::Variant => \"name\",`: teach xtask its new form");
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let file = Source { path: path.to_owned(), text: text.to_owned() };
        check(&file, &["telemetry.raw".to_owned()]).iter().map(ToString::to_string).collect()
    }

    const FILE: &str = "crates/x/src/lib.rs";

    #[test]
    fn a_file_says_what_it_is() {
        assert!(findings(FILE, "//! Does things.\n").is_empty());
        assert!(findings(FILE, "// Does things.\n")[0].starts_with("crates/x/src/lib.rs:1: does not say"));
        assert_eq!(findings(FILE, "").len(), 1);
    }

    #[test]
    fn long_files_explain_themselves_and_very_long_ones_are_refused() {
        let lines = |count: usize| "\n".repeat(count);
        assert!(findings(FILE, &format!("//! A.\n{}", lines(598))).is_empty());
        assert!(findings(FILE, &format!("//! A.\n{}", lines(601)))[0].contains("602 lines without a reason"));
        assert!(findings(FILE, &format!("//! A.\n//! Long because: a table.\n{}", lines(601))).is_empty());
        let refused = findings(FILE, &format!("//! A.\n//! Long because: a table.\n{}", lines(1001)));
        assert!(refused[0].contains("1000 are the limit"), "{refused:?}");
        let tests = format!("//! A.\n#[cfg(test)]\nmod tests {{\n{}}}\n", lines(2000));
        assert!(findings(FILE, &tests).is_empty());
    }

    #[test]
    fn topics_are_named_in_one_place() {
        let text = "//! A.\nlet t = \"telemetry.raw\";\n";
        assert!(findings(FILE, text)[0].starts_with("crates/x/src/lib.rs:2: spells the topic"));
        assert!(findings(TOPICS_FILE, text).is_empty());
        assert!(findings("crates/x/tests/it/main.rs", text).is_empty());
        assert!(findings(FILE, "//! A.\n// like \"telemetry.raw\"\n").is_empty());
        assert!(findings(FILE, "//! A.\n#[cfg(test)]\nmod tests {\n    \"telemetry.raw\"\n}\n").is_empty());
    }

    #[test]
    fn unfinished_work_is_found_also_in_tests() {
        for word in UNFINISHED {
            assert_eq!(findings("crates/x/tests/it/main.rs", &format!("//! A.\n// {word}\n")).len(), 1, "{word}");
        }
        assert_eq!(findings(FILE, &format!("//! A.\n// {LATER}: later\n")).len(), 1);
        assert!(findings(FILE, &format!("//! A.\n// {LATER}(#12): later\n")).is_empty());
        assert_eq!(findings(FILE, &format!("//! A.\n// {LATER}(#): later\n")).len(), 1);
    }

    #[test]
    fn topic_names_are_read_from_their_table() {
        let text =
            "//! A.\n    match self {\n        Self::Raw => \"telemetry.raw\",\n        Self::Raw => Schema::A,\n";
        let file = Source { path: TOPICS_FILE.to_owned(), text: text.to_owned() };
        assert_eq!(topic_names(&[file]).unwrap(), ["telemetry.raw"]);
        assert!(topic_names(&[Source { path: TOPICS_FILE.to_owned(), text: String::new() }]).is_err());
    }
}
