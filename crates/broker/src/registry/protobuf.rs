//! Protobuf schemas, as text or as a serialised file descriptor in base64: are they written whole, are they the same.
//!
//! Only their outer form is read (comments, texts, braces); names and numbers of fields are not checked.

/// Braces inside of each other; more are refused.
const DEPTH_MAX: usize = 64;
/// What the first statement of a file may begin with.
const FIRST_WORDS: [&str; 8] = ["syntax", "edition", "package", "import", "option", "message", "enum", "service"];

/// Equal for texts that differ in comments and white space only.
pub(super) fn canonical(text: &str) -> Result<String, String> {
    let trimmed = text.trim();
    if is_descriptor(trimmed) {
        return Ok(trimmed.to_owned());
    }
    let tokens = tokens(trimmed)?;
    let first = tokens.split(' ').next().unwrap_or_default();
    if !FIRST_WORDS.contains(&first) {
        return Err(format!("a Protobuf file does not begin with {:?}", first.chars().take(40).collect::<String>()));
    }
    Ok(tokens)
}

/// Clients that have no text send the descriptor itself. A descriptor begins with its file name: field 1, a text.
pub(super) fn is_descriptor(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let body = text.trim_end_matches('=');
    let name = body.starts_with('C') && matches!(body.as_bytes().get(1), Some(b'g'..=b'v'));
    text.len().is_multiple_of(4) && text.len() - body.len() <= 2 && name && body.bytes().all(digit)
}

/// The tokens of a file with one space between them.
fn tokens(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
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
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    match (open.last(), out.ends_with([';', '}'])) {
        (Some(open), _) => Err(format!("{open} is not closed")),
        (None, false) => Err("the last statement does not end".to_owned()),
        (None, true) => Ok(out),
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

#[cfg(test)]
mod tests {
    use super::*;

    // STR-20
    #[test]
    fn files_that_differ_in_comments_and_white_space_are_the_same() {
        let one = "syntax = \"proto3\"; // as ever\nmessage M {\n  /* a */ string a = 1;\n}\n";
        let other = "syntax=\"proto3\";message M{string a=1;}";
        assert_eq!(canonical(one).unwrap(), canonical(other).unwrap());
        assert_ne!(canonical(one).unwrap(), canonical(&other.replace("=1", "=2")).unwrap());
        assert_eq!(canonical("CgdhLnByb3Rv").unwrap(), "CgdhLnByb3Rv");
    }

    #[test]
    fn what_is_not_a_file_is_refused() {
        let deep = format!("message M {}{}", "{".repeat(100), "}".repeat(100));
        for text in [
            "",
            "hello",
            "{\"type\":\"long\"}",
            "message M {",
            "message M }",
            "message M (}",
            "import \"a",
            "/* x",
            &deep,
        ] {
            assert!(canonical(text).is_err(), "{text}");
        }
    }
}
