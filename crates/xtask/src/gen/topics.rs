//! The page of the topics, read from their table in `stream`.
//!
//! The table is a few `match self` functions; this reads their arms as text and refuses what it does not understand.

use anyhow::{Context, bail};

use crate::r#gen::MARK;
use crate::tidy::lines;

/// The page.
pub(crate) fn page(source: &str) -> anyhow::Result<String> {
    let names = arms(source, "name")?;
    let schemas = arms(source, "schema")?;
    let priorities = arms(source, "priority")?;
    let retentions = arms(source, "retention_ms")?;
    let partitions = source
        .lines()
        .find_map(|line| line.strip_prefix("pub const PARTITIONS: i32 = ")?.strip_suffix(';'))
        .context("the table of topics names no PARTITIONS")?;
    let head = format!(
        "{MARK}\n\n# Topics\n\n\
        Every topic has {partitions} partitions. A record's key is its asset id; the partition is chosen as the Java \
        client chooses it (murmur2), so that all records of an asset keep their order. Values are Avro in Confluent \
        framing; the schemas are in `contracts/avro`, the registry's subject is `<topic>-value`.\n\n\
        Priority says which topic shall give way first on a full disk; nothing acts on it yet.\n\n\
        | Topic | Records | Kept | Priority |\n|---|---|---|---|\n"
    );
    let mut rows = vec![head];
    for (variants, name) in &names {
        let [variant] = &variants[..] else { bail!("one name for several topics: {variants:?}") };
        let name = name.trim_matches('"');
        let schema = last_part(lookup(&schemas, variant, "schema")?);
        let kept = retention(lookup(&retentions, variant, "retention_ms")?)?;
        let priority = last_part(lookup(&priorities, variant, "priority")?).to_lowercase();
        rows.push(format!("| `{name}` | {} | {kept} | {priority} |\n", words(schema)));
    }
    Ok(rows.concat())
}

/// Variants and value of an arm.
type Arm = (Vec<String>, String);

/// The arms of the function's `match self`.
fn arms(source: &str, function: &str) -> anyhow::Result<Vec<Arm>> {
    let begin = format!("fn {function}(self)");
    let mut body = String::new();
    let from = lines::shipped(source).into_iter().skip_while(|(_, line)| !line.contains(&begin)).skip(1);
    for (_, line) in from.take_while(|(_, line)| *line != "    }") {
        body.push_str(lines::code(line).trim());
        body.push(' ');
    }
    // rustfmt puts a long value on lines of its own, in braces
    let body = body.replace("=> {", "=>").replace(" } ", ", ");
    let body = body.trim_start_matches("match self {");
    let mut arms = Vec::new();
    for arm in body.split(',').map(str::trim).filter(|arm| !arm.is_empty() && *arm != "}") {
        let (variants, value) = arm.split_once("=>").with_context(|| format!("{function}: {arm:?} is not an arm"))?;
        let variants = variants.split('|').map(|variant| variant.trim().trim_start_matches("Self::").to_owned());
        arms.push((variants.collect(), value.trim().to_owned()));
    }
    if arms.is_empty() {
        bail!("the table of topics has no function {function} with a `match self`");
    }
    Ok(arms)
}

fn lookup<'a>(arms: &'a [Arm], variant: &str, what: &str) -> anyhow::Result<&'a str> {
    arms.iter()
        .find(|(variants, _)| variants.iter().any(|name| name == variant || name == "_"))
        .map(|(_, value)| value.as_str())
        .with_context(|| format!("topic {variant} has no {what}"))
}

/// `Schema::DeadLetter` is `DeadLetter`.
fn last_part(value: &str) -> &str {
    value.rsplit("::").next().unwrap_or(value)
}

/// `DeadLetter` is `dead letter`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// `Some(45 * DAY_MS)` is `45 days`.
fn retention(value: &str) -> anyhow::Result<String> {
    if value == "None" {
        return Ok("for ever".to_owned());
    }
    let days = value.strip_prefix("Some(").and_then(|rest| rest.strip_suffix(" * DAY_MS)"));
    days.map(|days| format!("{days} days")).with_context(|| format!("{value} is not a number of days"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"pub const PARTITIONS: i32 = 12;
impl Topic {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "telemetry.raw",
            Self::Dlq => "dlq.telemetry",
        }
    }
    pub const fn schema(self) -> Schema {
        match self {
            Self::Raw => Schema::Telemetry,
            Self::Dlq => Schema::DeadLetter,
        }
    }
    pub const fn priority(self) -> Priority {
        match self {
            Self::Raw => Priority::Low,
            Self::Other | Self::Dlq => {
                Priority::Critical
            }
        }
    }
    pub const fn retention_ms(self) -> Option<i64> {
        match self {
            Self::Raw => Some(7 * DAY_MS), // a week
            _ => None,
        }
    }
}
"#;

    #[test]
    fn one_row_per_topic() {
        let page = page(TABLE).unwrap();
        assert!(page.contains("| `telemetry.raw` | telemetry | 7 days | low |\n"), "{page}");
        assert!(page.contains("| `dlq.telemetry` | dead letter | for ever | critical |\n"), "{page}");
        assert!(page.contains("has 12 partitions"), "{page}");
    }

    #[test]
    fn a_table_it_does_not_understand_is_refused() {
        assert!(page(&TABLE.replace("7 * DAY_MS", "week()")).is_err());
        assert!(page(&TABLE.replace("fn priority", "fn rank")).is_err());
    }
}
