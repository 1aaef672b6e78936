//! The results file as a table for people: the newest line of every figure.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::say;

/// Prints it as Markdown.
pub fn print(results: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(results).with_context(|| format!("cannot read {}", results.display()))?;
    say::line("| # | ratio of | median | 95 % | quiet | commit |\n|---|---|---|---|---|---|");
    for row in newest(&text)?.values() {
        say::line(&line(row));
    }
    Ok(())
}

/// Newest line by number and name; a line with a verdict is not replaced by one without.
fn newest(text: &str) -> anyhow::Result<BTreeMap<(u32, String), Value>> {
    let mut rows: BTreeMap<(u32, String), Value> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let row: Value = serde_json::from_str(line).context("a line of the results is not JSON")?;
        let id = row["id"].as_str().unwrap_or_default();
        let number = id.strip_prefix('B').and_then(|number| number.parse().ok()).unwrap_or(u32::MAX);
        let key = (number, row["name"].as_str().unwrap_or_default().to_owned());
        let judged = |row: &Value| row["verdict"] == "ok";
        if judged(&row) || !rows.get(&key).is_some_and(judged) {
            rows.insert(key, row);
        }
    }
    Ok(rows)
}

fn line(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let number = |key: &str| row[key].as_f64().unwrap_or_default();
    let quiet = if text("verdict") == "ok" { "yes" } else { "no verdict: machine busy" };
    format!(
        "| {} | {} | {:.3} | {:.3} to {:.3} | {quiet} | {} |",
        text("id"),
        text("name"),
        number("ratio"),
        number("low"),
        number("high"),
        text("commit")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_line_with_a_verdict_counts() {
        let text = r#"{"id":"B13","name":"a","ratio":1.0,"low":0.9,"high":1.1,"verdict":"ok","commit":"1"}
{"id":"B13","name":"a","ratio":2.0,"low":1.9,"high":2.1,"verdict":"ok","commit":"2"}
{"id":"B13","name":"a","ratio":3.0,"low":2.9,"high":3.1,"verdict":"no verdict: machine busy","commit":"3"}
{"id":"B1","name":"b","ratio":4.0,"low":3.9,"high":4.1,"verdict":"no verdict: machine busy","commit":"3"}
"#;
        let lines: Vec<String> = newest(text).unwrap().values().map(line).collect();
        assert_eq!(
            lines,
            [
                "| B1 | b | 4.000 | 3.900 to 4.100 | no verdict: machine busy | 3 |",
                "| B13 | a | 2.000 | 1.900 to 2.100 | yes | 2 |"
            ]
        );
    }
}
