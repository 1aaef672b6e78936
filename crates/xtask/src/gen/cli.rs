//! The page of the command line, from `--help` of every command.

use crate::r#gen::MARK;

/// Runs the binary with arguments and returns what it prints.
type Ask<'a> = &'a dyn Fn(&[&str]) -> anyhow::Result<String>;

/// The page.
pub(crate) fn page(ask: Ask<'_>) -> anyhow::Result<String> {
    let mut parts = vec![format!("{MARK}\n\n# Command line\n")];
    describe(ask, &mut Vec::new(), &mut parts)?;
    Ok(parts.join("\n"))
}

/// Appends a command and those below it.
fn describe(ask: Ask<'_>, command: &mut Vec<String>, parts: &mut Vec<String>) -> anyhow::Result<()> {
    let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
    arguments.push("--help");
    let help = ask(&arguments)?;
    let title = std::iter::once("streamforge").chain(command.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    let text: Vec<&str> = help.lines().map(str::trim_end).collect();
    parts.push(format!("## `{title}`\n\n```text\n{}\n```\n", text.join("\n").trim_end()));
    for name in commands(&help) {
        command.push(name);
        describe(ask, command, parts)?;
        command.pop();
    }
    Ok(())
}

/// Names in the section `Commands:` of a help text.
fn commands(help: &str) -> Vec<String> {
    let section = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    section
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_below_a_command_gets_its_part() {
        let ask = |arguments: &[&str]| {
            Ok(match arguments {
                ["--help"] => {
                    "All.\n\nCommands:\n  ctl   Look\n          at it\n  help  Print\n\nOptions:\n  -h\n".to_owned()
                }
                ["ctl", "--help"] => "Look.\n\nCommands:\n  tail  Print\n".to_owned(),
                other => format!("{}.   \n", other.join(" ")),
            })
        };
        let page = page(&ask).unwrap();
        let titles: Vec<_> = page.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(titles, ["## `streamforge`", "## `streamforge ctl`", "## `streamforge ctl tail`"]);
        assert!(!page.contains("help  Print\n\n##"), "{page}");
        assert!(page.lines().all(|line| !line.ends_with(' ')), "{page}");
    }
}
