//! The tokens of a Protobuf file.

/// Brackets inside of each other; more are refused.
const DEPTH_MAX: usize = 64;

/// Splits a file; comments and white space are gone, brackets belong together.
pub(super) fn tokens(text: &str) -> Result<Vec<&str>, String> {
    let mut out = Vec::new();
    let mut open = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = rest.trim_start();
            continue;
        }
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
            continue;
        }
        if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").ok_or("a comment does not end")?.1;
            continue;
        }
        let length = match first {
            '"' | '\'' => quoted(rest, first).ok_or("a text does not end")?,
            _ if word(first) => rest.find(|character| !word(character)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        match first {
            '{' | '[' | '(' => open.push(first),
            '}' | ']' | ')' => {
                let opened = open.pop().ok_or("a bracket closes what was not opened")?;
                if !matches!((opened, first), ('{', '}') | ('[', ']') | ('(', ')')) {
                    return Err(format!("{opened} is closed by {first}"));
                }
            }
            _ if first.is_control() => return Err("there is a control character".to_owned()),
            _ => {}
        }
        if open.len() > DEPTH_MAX {
            return Err(format!("brackets are nested more than {DEPTH_MAX} deep"));
        }
        out.push(&rest[..length]);
        rest = &rest[length..];
    }
    match open.last() {
        Some(open) => Err(format!("{open} is not closed")),
        None => Ok(out),
    }
}

fn word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '.')
}

/// Bytes of a text with its quotes.
fn quoted(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (index, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\n' => return None,
            _ if character == quote => return Some(index + 1),
            _ => {}
        }
    }
    None
}
