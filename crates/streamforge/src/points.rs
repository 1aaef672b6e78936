//! `points`: an adapter's points out of a document into a table, and a table back into it.

use std::io::Read;
use std::path::Path;

use config::table::{self, Change, LineProblem, Merged, What};
use config::{Catalog, Component, Kind, Problem, Table};
use serde_json::Value;

use crate::commands::{Export, Import, Points};
use crate::exit::{BAD_CONFIG, Failure, USAGE};
use crate::{check, say};

/// A longer table is refused before it is read.
const TABLE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Differences of a point that are shown.
const SHOWN_MAX: usize = 4;
/// Points that are shown of each kind of change.
const CHANGES_SHOWN_MAX: usize = 20;

pub(crate) fn run(command: Points) -> Result<(), Failure> {
    let catalog = check::catalog();
    match command {
        Points::Export(options) => export(&options, &catalog),
        Points::Import(options) => import(&options, &catalog),
        Points::Example(options) => {
            let (schema, table) = table_of(&catalog, &options.adapter_type)?;
            say::bytes(table.example(&table.columns(&schema)).as_bytes());
            Ok(())
        }
    }
}

fn export(options: &Export, catalog: &Catalog) -> Result<(), Failure> {
    let (_, adapter) = open(&options.document, &options.adapter, catalog)?;
    let (schema, table) = table_of(catalog, &adapter.type_name)?;
    let points = table.points(&adapter.settings);
    let text = table::export(&table, &table.columns(&schema), &points);
    let Some(out) = &options.out else {
        say::bytes(text.as_bytes());
        return Ok(());
    };
    std::fs::write(out, text)
        .map_err(|error| Failure::new(USAGE, format!("{} cannot be written: {error}", out.display())))?;
    say::line(&format!("{}: {} points of {}.", out.display(), points.len(), adapter.id));
    Ok(())
}

fn import(options: &Import, catalog: &Catalog) -> Result<(), Failure> {
    let (text, adapter) = open(&options.document, &options.adapter, catalog)?;
    let (schema, table) = table_of(catalog, &adapter.type_name)?;
    let columns = table.columns(&schema);
    let shown = options.table.display();
    let read = read(&options.table)?;
    let parsed = table::parse(&read, &columns).map_err(|problems| refused(&shown, &problems))?;
    let points = table.points(&adapter.settings);
    let merged =
        table::merge(&table, &points, &parsed, options.replace).map_err(|problems| refused(&shown, &problems))?;
    let settings = table.with_points(&adapter.settings, merged.points.clone());
    let spec = catalog.find(Kind::Adapter, &adapter.type_name).expect("the table came from it");
    let problems = (spec.validate)(&settings, "");
    if !problems.is_empty() {
        return Err(refused(&shown, &by_line(&problems, table.list, &merged)));
    }
    tell(&merged);
    if !options.write {
        say::line("Nothing is written yet: say --write to change the document.");
        return Ok(());
    }
    let document = options.document.display();
    let changed = config::edit::set_points(&text, &adapter.id, &table, &merged.points)
        .map_err(|reason| Failure::new(BAD_CONFIG, format!("{document} is as it was: {reason}")))?;
    // what other parts say about these points is checked, too
    config::parse(&changed, catalog).map_err(|problems| refused_document(&document, &problems))?;
    replace_file(&options.document, &changed)
        .map_err(|error| Failure::new(USAGE, format!("{document} cannot be written: {error}")))?;
    say::line(&format!("{document} is written. A running gateway takes it over by itself."));
    Ok(())
}

/// The text of a document, and one of its adapters.
fn open(document: &Path, adapter: &str, catalog: &Catalog) -> Result<(String, Component), Failure> {
    let shown = document.display();
    let text = std::fs::read_to_string(document)
        .map_err(|error| Failure::new(USAGE, format!("{shown} cannot be read: {error}")))?;
    let parsed = config::parse(&text, catalog).map_err(|problems| refused_document(&shown, &problems))?;
    let adapters = || parsed.components.iter().filter(|one| one.kind == Kind::Adapter);
    if let Some(found) = adapters().find(|one| one.id == adapter) {
        return Ok((text, found.clone()));
    }
    let names: Vec<&str> = adapters().map(|one| one.id.as_str()).collect();
    Err(Failure::new(USAGE, format!("{shown} has no adapter {adapter:?}, but {}", names.join(", "))))
}

fn table_of(catalog: &Catalog, adapter_type: &str) -> Result<(Value, Table), Failure> {
    let spec = catalog.find(Kind::Adapter, adapter_type);
    if let Some((spec, table)) = spec.and_then(|spec| Some((spec, spec.table?))) {
        return Ok(((spec.schema)(), table));
    }
    let with_table: Vec<&str> =
        catalog.specs().iter().filter(|spec| spec.table.is_some()).map(|spec| spec.type_name).collect();
    let message = format!("{adapter_type:?} has no list of points; {} have one", with_table.join(", "));
    Err(Failure::new(USAGE, message))
}

fn read(table: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::new(USAGE, format!("{} cannot be read: {error}", table.display()));
    let mut bytes = Vec::new();
    if table == Path::new("-") {
        std::io::stdin().take(TABLE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let file = std::fs::File::open(table).map_err(failed)?;
        file.take(TABLE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 > TABLE_BYTES_MAX {
        let message = format!("{} is longer than {} MiB", table.display(), TABLE_BYTES_MAX >> 20);
        return Err(Failure::new(BAD_CONFIG, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let line = before.matches('\n').count() + 1;
        let message = format!("{}: line {line} is not UTF-8 (save the table as \"CSV UTF-8\")", table.display());
        Failure::new(BAD_CONFIG, message)
    })
}

/// Problems of settings as problems of the lines that brought them.
fn by_line(problems: &[Problem], list: &str, merged: &Merged) -> Vec<LineProblem> {
    let of_point = |pointer: &str| {
        let mut parts = pointer.strip_prefix('/')?.strip_prefix(list)?.strip_prefix('/')?.splitn(2, '/');
        let at: usize = parts.next()?.parse().ok()?;
        Some((at, parts.next().unwrap_or_default().replace('/', ".")))
    };
    problems
        .iter()
        .map(|problem| {
            let place = of_point(&problem.pointer);
            let line = place.as_ref().and_then(|(at, _)| *merged.lines.get(*at)?);
            let (message, hint) = (problem.message.clone(), problem.hint.clone());
            match (place, line) {
                (Some((_, column)), Some(line)) => LineProblem { line, column, message, hint },
                (place, _) => {
                    let point =
                        place.and_then(|(at, column)| Some((merged.points.get(at)?["parameter"].as_str()?, column)));
                    let of =
                        point.map_or_else(|| problem.pointer.clone(), |(point, column)| format!("{point}, {column}"));
                    LineProblem { line: 1, column: String::new(), message: format!("{of}: {message}"), hint }
                }
            }
        })
        .collect()
}

fn refused(table: &dyn std::fmt::Display, problems: &[LineProblem]) -> Failure {
    for problem in problems {
        say::line(&format!("{table}: {problem}"));
    }
    let plural = if problems.len() == 1 { "problem" } else { "problems" };
    Failure::new(BAD_CONFIG, format!("{table}: {} {plural}, nothing was changed", problems.len()))
}

pub(crate) fn refused_document(document: &dyn std::fmt::Display, problems: &[Problem]) -> Failure {
    for problem in problems {
        say::line(&problem.to_string());
    }
    Failure::new(BAD_CONFIG, format!("{document}: {} problems; see `streamforge check`", problems.len()))
}

fn tell(merged: &Merged) {
    let of = |wanted: fn(&What) -> bool| merged.changes.iter().filter(move |change| wanted(&change.what));
    let kinds: [(&str, Vec<&Change>); 3] = [
        ("+", of(|what| *what == What::Added).collect()),
        ("~", of(|what| matches!(what, What::Changed(_))).collect()),
        ("-", of(|what| *what == What::Removed).collect()),
    ];
    for (sign, changes) in &kinds {
        for change in changes.iter().take(CHANGES_SHOWN_MAX) {
            say::line(&format!("{sign} {}{}", change.key, details(&change.what)));
        }
        if changes.len() > CHANGES_SHOWN_MAX {
            say::line(&format!("{sign} and {} more", changes.len() - CHANGES_SHOWN_MAX));
        }
    }
    let [added, changed, removed] = kinds.map(|(_, changes)| changes.len());
    say::line(&format!("{added} new, {changed} changed, {removed} gone, {} as they were.", merged.unchanged));
}

fn details(what: &What) -> String {
    let What::Changed(differences) = what else { return String::new() };
    let shown = |value: &Value| if value.is_null() { "nothing".to_owned() } else { value.to_string() };
    let each = differences.iter().take(SHOWN_MAX);
    let each = each.map(|(column, before, after)| format!("{column} {} -> {}", shown(before), shown(after)));
    let more = if differences.len() > SHOWN_MAX {
        format!(", and {} more", differences.len() - SHOWN_MAX)
    } else {
        String::new()
    };
    format!(": {}{more}", each.collect::<Vec<_>>().join(", "))
}

/// Writes beside the file and renames, so that a watching gateway never sees half of it.
pub(crate) fn replace_file(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, text)?;
    if let Ok(metadata) = std::fs::metadata(path) {
        std::fs::set_permissions(&beside, metadata.permissions())?;
    }
    std::fs::File::open(&beside)?.sync_all()?;
    std::fs::rename(&beside, path)
}
