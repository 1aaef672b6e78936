//! Texts of strangers on a terminal and in a configuration (G-11).
//!
//! Pure. A name, a payload, a unit may hold anything: control characters, colours for a terminal, letters that turn the
//! line around. What is printed is escaped, not dropped, so that a person sees that there is something.

use model::ids::{NAME_LENGTH_MAX, normalise};

/// True for what a terminal or a reader of YAML would act on instead of showing it.
fn acts(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}')
        || matches!(letter, '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

/// As JSON and YAML write it; letters that act are all within 16 bits.
fn escape(letter: char, out: &mut String) {
    out.push_str("\\u");
    let code = u32::from(letter);
    out.extend([12, 8, 4, 0].iter().filter_map(|shift| char::from_digit(code >> shift & 0xF, 16)));
}

/// For a terminal: at most `max` letters, what acts is escaped, and an ellipsis where something was cut.
pub fn shown(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max * 4));
    for (place, letter) in text.chars().enumerate() {
        if place >= max {
            out.push('…');
            break;
        }
        if acts(letter) { escape(letter, &mut out) } else { out.push(letter) }
    }
    out
}

/// A text in double quotes as YAML and JSON both read it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            letter if acts(letter) => escape(letter, &mut out),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// A name after the project's grammar, whatever the text is.
pub fn name_of(text: &str) -> String {
    let begin = text.trim_start_matches(|letter: char| !letter.is_ascii_alphanumeric());
    // what is too long keeps its end: that is where names differ; a letter of its own takes one byte after all
    let letters: Vec<char> = begin.chars().collect();
    let end: String = letters[letters.len().saturating_sub(NAME_LENGTH_MAX)..].iter().collect();
    let end = end.trim_start_matches(|letter: char| !letter.is_ascii_alphanumeric());
    normalise(end).unwrap_or_else(|_| "value".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // REC-24
    #[test]
    fn every_text_becomes_a_name() {
        assert_eq!(name_of("Motor 1/Speed"), "motor_1_speed");
        assert_eq!(name_of("_äöü"), "value");
        assert_eq!(name_of(&"x".repeat(500)).len(), NAME_LENGTH_MAX);
        assert!(name_of(&format!("{}end", "_x".repeat(100))).ends_with("end"));
    }

    // G-11
    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        assert_eq!(shown("a\u{1b}[2Jb\r\nc", 80), "a\\u001b[2Jb\\u000d\\u000ac");
        assert_eq!(shown("\u{202E}gpj.exe\u{85}", 80), "\\u202egpj.exe\\u0085");
        assert_eq!(shown("äöü", 2), "äö…");
        assert_eq!(shown("äö", 2), "äö");
    }

    // G-11: what was quoted is read back the same, by both readers
    #[test]
    fn a_quoted_text_is_read_back() {
        for text in
            ["", "plain", "a\"b\\c", "line\nbreak", "\u{0}\u{7f}\u{85}\u{2028}\u{202E}", "°C", "x: [1, #2]", "\u{FEFF}"]
        {
            let quoted = quoted(text);
            assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text, "{quoted}");
            assert!(!quoted.chars().any(acts), "{quoted}");
        }
    }
}
