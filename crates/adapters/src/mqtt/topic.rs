//! Topic filters and templates: which topics are meant, and what their levels say.
//!
//! Pure. A filter is checked when settings are read (MQ-03); a template names the levels of a topic (MQ-15).

/// Longest filter or topic, in bytes; the protocol's own limit.
const LENGTH_MAX: usize = 65_535;

/// Why a filter cannot be subscribed to; `None` when it can.
pub fn fault_of_filter(filter: &str) -> Option<&'static str> {
    if filter.is_empty() {
        return Some("is empty");
    }
    if filter.len() > LENGTH_MAX {
        return Some("is longer than 65535 bytes");
    }
    if filter.contains('\0') {
        return Some("has a zero in it");
    }
    let mut levels = match filter.strip_prefix("$share/") {
        None => filter,
        Some(rest) => match rest.split_once('/') {
            Some((group, filter)) if !group.is_empty() && !group.contains(['+', '#']) && !filter.is_empty() => filter,
            _ => return Some("is no shared filter: write $share/group/filter"),
        },
    }
    .split('/')
    .peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Some("has a # that does not stand alone at its end");
        }
        if level.contains('+') && level != "+" {
            return Some("has a + that does not stand alone in its level");
        }
    }
    None
}

/// The filter of a shared subscription without its group.
pub fn unshared(filter: &str) -> (&str, bool) {
    match filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
        Some((_, filter)) => (filter, true),
        None => (filter, false),
    }
}

/// Whether a topic is meant by a valid filter.
pub fn matches(filter: &str, topic: &str) -> bool {
    let (filter, _) = unshared(filter);
    if topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#')) {
        return false;
    }
    let (mut filters, mut topics) = (filter.split('/'), topic.split('/'));
    loop {
        match (filters.next(), topics.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Whether every topic that `narrow` means is meant by `wide` as well.
pub fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wides, mut narrows) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wides.next(), narrows.next()) {
            (Some("#"), _) | (None, None) => return true,
            (_, Some("#")) | (None, Some(_)) | (Some(_), None) => return false,
            (Some("+"), Some(_)) => {}
            (Some(wide), Some(narrow)) if wide == narrow => {}
            _ => return false,
        }
    }
}

/// Whether some topic is meant by both.
pub fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (unshared(a).0.split('/'), unshared(b).0.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(x), Some(y)) if x == "+" || y == "+" || x == y => {}
            _ => return false,
        }
    }
}

/// What a level of a topic says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    Enterprise,
    Site,
    Area,
    Line,
    Cell,
    Asset,
    Parameter,
}

impl Meaning {
    const WORDS: [(&'static str, Self); 7] = [
        ("enterprise", Self::Enterprise),
        ("site", Self::Site),
        ("area", Self::Area),
        ("line", Self::Line),
        ("cell", Self::Cell),
        ("asset", Self::Asset),
        ("param", Self::Parameter),
    ];
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Level(Option<Meaning>),
    /// Everything from here on.
    Rest(Option<Meaning>),
}

/// `site/{area}/{asset}/{param}`; `{}` is any level, `{asset#}` at the end is the rest of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Reads a template, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let levels: Vec<&str> = text.split('/').collect();
        for (place, level) in levels.iter().enumerate() {
            let Some(name) = level.strip_prefix('{').and_then(|level| level.strip_suffix('}')) else {
                if level.contains(['{', '}', '+', '#']) {
                    return Err(format!("{level:?} is neither a text nor a name in braces"));
                }
                parts.push(Part::Text((*level).to_owned()));
                continue;
            };
            let (name, rest) = name.strip_suffix('#').map_or((name, false), |name| (name, true));
            if rest && place + 1 < levels.len() {
                return Err(format!("{level} takes the rest of the topic, so it must be the last"));
            }
            let meaning = match Meaning::WORDS.iter().find(|(word, _)| *word == name) {
                Some((_, meaning)) => Some(*meaning),
                None if name.is_empty() => None,
                None => {
                    let known: Vec<&str> = Meaning::WORDS.iter().map(|(word, _)| *word).collect();
                    return Err(format!("{{{name}}} is not one of {}", known.join(", ")));
                }
            };
            parts.push(if rest { Part::Rest(meaning) } else { Part::Level(meaning) });
        }
        let mut meanings: Vec<Meaning> = parts.iter().filter_map(Part::meaning).collect();
        meanings.sort_unstable();
        if meanings.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("names the same thing twice".to_owned());
        }
        Ok(Self(parts))
    }

    pub fn names(&self, meaning: Meaning) -> bool {
        self.0.iter().any(|part| part.meaning() == Some(meaning))
    }

    /// What the levels of a topic say; `None` when the topic is of another shape.
    pub fn read<'t>(&self, topic: &'t str) -> Option<Vec<(Meaning, &'t str)>> {
        let mut said = Vec::new();
        let mut rest = Some(topic);
        for part in &self.0 {
            let here = rest?;
            if let Part::Rest(meaning) = part {
                said.extend(meaning.map(|meaning| (meaning, here)));
                return Some(said);
            }
            let (level, after) = here.split_once('/').map_or((here, None), |(level, after)| (level, Some(after)));
            match part {
                Part::Text(text) if text != level => return None,
                Part::Level(Some(meaning)) => said.push((*meaning, level)),
                _ => {}
            }
            rest = after;
        }
        rest.is_none().then_some(said)
    }
}

impl Part {
    fn meaning(&self) -> Option<Meaning> {
        match self {
            Self::Text(_) => None,
            Self::Level(meaning) | Self::Rest(meaning) => *meaning,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // MQ-03
    #[test]
    fn filters_are_checked() {
        for good in ["#", "+", "a/+/b", "a//b", "/", "a/#", "+/+", "$share/g/a/#", "$SYS/#"] {
            assert_eq!(fault_of_filter(good), None, "{good}");
        }
        for bad in ["", "a#", "#/a", "a/#/b", "a+", "a/+b/c", "$share/g", "$share//a", "$share/+/a", "a\0"] {
            assert!(fault_of_filter(bad).is_some(), "{bad}");
        }
    }

    // MQ-03
    #[test]
    fn filters_match_whole_levels() {
        for (filter, topic, expected) in [
            ("#", "a/b", true),
            ("a/#", "a", true),
            ("a/#", "ab", false),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a/b/c", false),
            ("+/b", "/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("$share/g/a/+", "a/b", true),
            ("a//b", "a/x/b", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn filters_cover_and_overlap() {
        for (wide, narrow, covered, shared) in [
            ("#", "a/+", true, true),
            ("a/#", "a/b/+", true, true),
            ("a/+", "a/b", true, true),
            ("a/b", "a/+", false, true),
            ("a/+", "+/b", false, true),
            ("a/+", "b/+", false, false),
            ("a/+", "a/#", false, true),
        ] {
            assert_eq!((covers(wide, narrow), overlap(wide, narrow)), (covered, shared), "{wide} {narrow}");
        }
    }

    // MQ-15
    #[test]
    fn templates_name_levels() {
        let template = Template::parse("plant/{area}/{asset}/{param}").unwrap();
        let said = template.read("plant/hall 2/Pump 7/flow").unwrap();
        assert_eq!(said, [(Meaning::Area, "hall 2"), (Meaning::Asset, "Pump 7"), (Meaning::Parameter, "flow")]);
        assert_eq!(template.read("plant/hall/pump"), None);
        assert_eq!(template.read("plant/hall/pump/flow/x"), None);
        let rest = Template::parse("plant/{}/{asset#}").unwrap();
        assert_eq!(rest.read("plant/x/Pump 7/ä").unwrap(), [(Meaning::Asset, "Pump 7/ä")]);
        for bad in ["{asset}/{asset}", "{pump}", "{asset#}/x", "a/+", "a{b}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
