//! `template`: adapters to begin with.

use std::collections::BTreeMap;
use std::path::Path;

use adapters::templates;
use config::template::Filled;
use config::{Kind, Problem};
use serde_json::Value;

use crate::commands::{Fill, Template};
use crate::exit::{BAD_CONFIG, Failure, USAGE};
use crate::points::{refused_document, replace_file};
use crate::{check, say};

pub(crate) fn run(command: Template) -> Result<(), Failure> {
    match command {
        Template::List => {
            for template in templates::all() {
                let (id, name, minutes) = (&template.id, &template.name, template.minutes);
                say::line(&format!("{id:<14} {name} ({}, about {minutes} min)", template.adapter_type));
                say::line(&format!("{:<14} {}", "", template.summary));
            }
            Ok(())
        }
        Template::Show { id } => {
            show(find(&id)?);
            Ok(())
        }
        Template::Fill(options) => fill(&options),
    }
}

fn find(id: &str) -> Result<&'static config::Template, Failure> {
    templates::all().iter().find(|template| template.id == id).ok_or_else(|| {
        let known: Vec<&str> = templates::all().iter().map(|template| template.id.as_str()).collect();
        Failure::new(USAGE, format!("there is no template {id:?}, but {}", known.join(", ")))
    })
}

fn show(template: &config::Template) {
    say::line(&format!("{}: {}", template.name, template.summary));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for slot in &template.slots {
        let value = match (&slot.default, &slot.example) {
            (Some(default), _) => format!("{} when nothing is said", text(default)),
            (None, Some(example)) => format!("must be said, for example {}", text(example)),
            (None, None) => "must be said".to_owned(),
        };
        let help = if slot.help.is_empty() { String::new() } else { format!(" {}", slot.help) };
        say::line(&format!("  {:<12} {}: {value}.{help}", slot.name, slot.label));
    }
}

fn fill(options: &Fill) -> Result<(), Failure> {
    let template = find(&options.id)?;
    let mut said = BTreeMap::new();
    for pair in &options.set {
        let (slot, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::new(USAGE, format!("{pair:?} is not of the form SLOT=VALUE")))?;
        said.insert(slot.to_owned(), value.to_owned());
    }
    let filled = template.fill(&said).map_err(|problems| refused(&problems))?;
    let catalog = check::catalog();
    let spec = catalog.find(Kind::Adapter, &template.adapter_type).expect("a test looks at all templates");
    let problems = (spec.validate)(&filled.settings, "");
    if !problems.is_empty() {
        return Err(refused(&problems));
    }
    let table = spec.table.as_ref();
    match &options.add_to {
        None => {
            say::line("adapters:");
            for line in config::yaml::item(&filled.settings, 2, table) {
                say::line(&line);
            }
        }
        Some(document) => add(document, &filled, table, &catalog)?,
    }
    suggest(&filled);
    Ok(())
}

fn add(
    document: &Path,
    filled: &Filled,
    table: Option<&config::Table>,
    catalog: &config::Catalog,
) -> Result<(), Failure> {
    let shown = document.display();
    let failed =
        |what: &str, error: &dyn std::fmt::Display| Failure::new(USAGE, format!("{shown} cannot be {what}: {error}"));
    let text = std::fs::read_to_string(document).map_err(|error| failed("read", &error))?;
    let changed = config::edit::add_adapter(&text, &filled.settings, table)
        .map_err(|reason| Failure::new(BAD_CONFIG, format!("{shown} is as it was: {reason}")))?;
    config::parse(&changed, catalog).map_err(|problems| refused_document(&shown, &problems))?;
    replace_file(document, &changed).map_err(|error| failed("written", &error))?;
    say::line(&format!("{shown} has the adapter {} now. A running gateway takes it over by itself.", name_of(filled)));
    Ok(())
}

fn name_of(filled: &Filled) -> &str {
    filled.settings["adapter_id"].as_str().unwrap_or_default()
}

/// What suits it, beside the result.
fn suggest(filled: &Filled) {
    if !filled.alarms.is_empty() {
        say::note("alarms that suit it, for `alarms: { rules: [ ... ] }`:");
        for rule in &filled.alarms {
            say::note(&format!("  - {}", config::yaml::flow(rule, &["id"])));
        }
    }
    if !filled.notes.is_empty() {
        say::note(&filled.notes);
    }
}

fn refused(problems: &[Problem]) -> Failure {
    for problem in problems {
        say::line(&problem.to_string());
    }
    Failure::new(BAD_CONFIG, "the template is not filled; `streamforge template show` lists its slots")
}
