//! `up` and `gateway`: running everything on one machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::StreamMode;
use daemon::logging::Terminal;
use gateway::children::{ChildPlan, Folders};

use crate::commands::{Gateway, Up};
use crate::exit::{BAD_CONFIG, Failure, TRY_AGAIN, USAGE};
use crate::{check, context, demo, roles, say};

/// What a new gateway starts with.
const FIRST_DOCUMENT: &str = include_str!("first-document.yaml");

/// The folder given, or the user's data folder.
pub(crate) fn data_dir(given: Option<PathBuf>, demo: bool) -> Result<PathBuf, Failure> {
    if let Some(folder) = given {
        return Ok(folder);
    }
    let home = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local").join("share")));
    let name = if demo { "streamforge-demo" } else { "streamforge" };
    home.map(|home| home.join(name))
        .ok_or_else(|| Failure::new(USAGE, "there is no home folder: name one with --data-dir"))
}

/// Everything on this machine.
pub(crate) fn up(options: Up) -> Result<(), Failure> {
    let data = data_dir(options.data_dir.clone(), options.demo)?;
    let folder_failure =
        |error: std::io::Error| Failure::new(TRY_AGAIN, format!("{} cannot be used: {error}", data.display()));
    std::fs::create_dir_all(&data).map_err(folder_failure)?;
    let data = data.canonicalize().map_err(folder_failure)?;
    let mut extra_children = Vec::new();
    let document = if options.demo {
        let demo = demo::demo(&options, &data)?;
        let file = data.join("demo.json");
        let text =
            serde_json::to_string_pretty(&demo.document).map_err(|error| Failure::from_error(BAD_CONFIG, &error))?;
        std::fs::write(&file, text).map_err(folder_failure)?;
        extra_children.extend(demo.simulators);
        file
    } else {
        match options.config {
            Some(file) => file,
            None => own_document(&data).map_err(folder_failure)?,
        }
    };
    let terminal = Terminal::Text { quiet: !options.verbose };
    run(&document, &data, extra_children, terminal, options.demo)
}

/// The document in the data folder; written with explanations when there is none.
fn own_document(data: &Path) -> std::io::Result<PathBuf> {
    let file = data.join("gateway.yaml");
    if !file.exists() {
        std::fs::write(&file, FIRST_DOCUMENT)?;
    }
    Ok(file)
}

/// A gateway from its document, logging for machines.
pub(crate) fn gateway(options: &Gateway) -> Result<(), Failure> {
    let failure = |error: std::io::Error| {
        Failure::new(TRY_AGAIN, format!("{} cannot be used: {error}", options.data_dir.display()))
    };
    std::fs::create_dir_all(&options.data_dir).map_err(failure)?;
    let data = options.data_dir.canonicalize().map_err(failure)?;
    run(&options.config, &data, Vec::new(), Terminal::Json, false)
}

fn run(
    document: &Path,
    data: &Path,
    extra_children: Vec<ChildPlan>,
    terminal: Terminal,
    demo: bool,
) -> Result<(), Failure> {
    let folders = Folders::new(data);
    let catalog = check::catalog();
    let parsed = std::fs::read_to_string(document).ok().and_then(|text| config::parse(&text, &catalog).ok());
    let gateway_id = parsed.as_ref().map_or("gateway", |parsed| &parsed.gateway_id);
    let ctx = context::runtime(gateway_id, terminal, folders.logs())?;
    let program =
        gateway::supervisor::process::own_program().map_err(|error| Failure::from_error(TRY_AGAIN, &error))?;
    let options = gateway::Options {
        document: document.to_owned(),
        data: data.to_owned(),
        catalog: catalog.clone(),
        extra_children,
        program,
    };
    let stream = parsed.map(|parsed| parsed.stream);
    let (document, data) = (document.to_owned(), data.to_owned());
    let greet = matches!(terminal, Terminal::Text { .. });
    let on_ready = move |address: SocketAddr| {
        if greet {
            say::line(&greeting(address, stream.as_ref(), &document, &data, demo));
        }
    };
    let role = gateway::run(options, ctx.clone(), Box::new(on_ready));
    let result = roles::block_on(2, &ctx, role, |error| match error {
        gateway::Error::BadDocument { .. } => BAD_CONFIG,
        _ => TRY_AGAIN,
    });
    if greet && result.is_ok() {
        say::line("Stopped. Everything acknowledged is on disk; start again with the same command.");
    }
    result
}

fn greeting(page: SocketAddr, stream: Option<&StreamMode>, document: &Path, data: &Path, demo: bool) -> String {
    let mut lines = vec![String::new(), format!("StreamForge is running.  Open  http://{page}"), String::new()];
    if let Some(StreamMode::Embedded { listen, registry_listen }) = stream {
        lines.push(format!("  stream     {listen} (Kafka protocol), schemas at http://{registry_listen}"));
    }
    lines.push(format!("  document   {}", document.display()));
    lines.push(format!("  data       {}", data.display()));
    lines.push("\nNext:".to_owned());
    let next: &[&str] = if demo {
        &[
            "  streamforge ctl tail telemetry.clean     see records as they arrive",
            "  streamforge up                           a gateway of your own, without the demo plant",
        ]
    } else {
        &[
            "  edit the document: add an adapter and a sink; a saved change is taken over at once",
            "  streamforge probe 'modbus://HOST/1?address=40001'    try a device before you write it down",
        ]
    };
    lines.extend(next.iter().map(|line| (*line).to_owned()));
    lines.push("  Ctrl-C stops it cleanly.\n".to_owned());
    lines.join("\n")
}
