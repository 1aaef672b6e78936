//! A Rust file line by line, cut into what ships and what only tests.
//!
//! This reads text, not syntax: good enough because the format is fixed by rustfmt.

/// Lines of a file with their numbers from 1, without the `#[cfg(test)] mod … { … }` at its foot.
pub(crate) fn shipped(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let tail = (0..lines.len()).find(|&at| {
        lines[at] == "#[cfg(test)]"
            && lines[at + 1..]
                .iter()
                .find(|line| !line.starts_with("#["))
                .is_some_and(|line| line.trim_start_matches("pub(crate) ").starts_with("mod ") && line.ends_with('{'))
    });
    let end = tail.unwrap_or(lines.len());
    lines[..end].iter().enumerate().map(|(at, line)| (at + 1, *line)).collect()
}

/// A line without its comment; a `//` inside a string does not begin one.
pub(crate) fn code(line: &str) -> &str {
    let mut in_string = false;
    let mut before = ' ';
    for (at, letter) in line.char_indices() {
        match letter {
            '"' if before != '\\' && before != '\'' => in_string = !in_string,
            '/' if before == '/' && !in_string => return &line[..at - 1],
            _ => {}
        }
        // an escaped backslash does not escape what follows
        before = if letter == '\\' && before == '\\' { ' ' } else { letter };
    }
    line
}

/// The comment of a line, if it has one.
pub(crate) fn comment(line: &str) -> &str {
    &line[code(line).len()..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_at_the_foot_are_cut_off() {
        let text = "a\n#[cfg(test)]\nuse b;\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n    c\n}\n";
        assert_eq!(shipped(text).len(), 3);
        assert_eq!(shipped("a\n#[cfg(test)]\nmod tests;\nb\n").len(), 4);
    }

    #[test]
    fn comments_are_told_from_strings() {
        assert_eq!(code("let a = \"http://x\"; // why"), "let a = \"http://x\"; ");
        assert_eq!(comment("let a = 1; // why"), "// why");
        assert_eq!(code(r#"let a = "\\"; // "why""#), r#"let a = "\\"; "#);
        assert_eq!(code("let quote = '\"'; // why"), "let quote = '\"'; ");
    }
}
