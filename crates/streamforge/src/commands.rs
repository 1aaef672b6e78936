//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{commission, ctl};

/// StreamForge: an industrial data gateway. Reads machines, keeps every value in a durable local stream, validates,
/// aggregates, and delivers with nothing lost.
#[derive(Debug, Parser)]
#[command(name = "streamforge", version)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine: the stream, the gateway, a status page; --demo adds a demo plant
    Up(Up),
    /// Run a gateway from its document
    Gateway(Gateway),
    /// Run the embedded stream alone: Kafka protocol and schema registry
    Broker(broker::Options),
    /// Run one adapter; its settings are read from ADAPTER_CONFIG
    Adapter(adapters::Options),
    /// Run one sink; its settings are read from SINK_CONFIG
    Sink(sinks::Options),
    /// Simulate devices
    #[command(subcommand)]
    Sim(Sim),
    /// Check a gateway document and print every problem in it
    Check(Check),
    /// Test the way to a source, stage by stage: an OPC UA server, an MQTT broker, an address of a Modbus device
    Probe(Box<commission::Probe>),
    /// Walk through what an OPC UA server has, with values and units, or print it as points to configure
    Browse(Box<commission::Browse>),
    /// Listen to an MQTT broker for a while: topics, rates, what is in the payloads, or print it as subscriptions to configure
    Listen(Box<commission::Listen>),
    /// Run an adapter of a draft and show its values; nothing is published, and it stops by itself
    Preview(commission::Preview),
    /// The points of an adapter as a table for a spreadsheet, and back
    #[command(subcommand)]
    Points(Points),
    /// Adapters to begin with: fill a few slots, get the settings
    #[command(subcommand)]
    Template(Template),
    /// Look at a stream and administer it
    #[command(subcommand)]
    Ctl(ctl::Ctl),
    /// Print the component types of this binary with the schemas of their settings, as JSON
    Catalog,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Add a demo plant: a press, a boiler and a pump with a misbehaving sensor over Modbus, a filling line over OPC UA, a compressor, a hall and a wrapping machine over MQTT
    #[arg(long)]
    pub(crate) demo: bool,
    /// Folder for everything this gateway keeps
    #[arg(long, env = "SF_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Gateway document; the one in the data folder when absent
    #[arg(long, conflicts_with = "demo")]
    pub(crate) config: Option<PathBuf>,
    /// Address of the status page (demo)
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) console: String,
    /// Address of the Kafka protocol (demo)
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub(crate) kafka: String,
    /// Address of the schema registry (demo)
    #[arg(long, default_value = "127.0.0.1:8081")]
    pub(crate) registry: String,
    /// Print all log lines, not only warnings
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// Gateway document, JSON or YAML
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// Folder for everything this gateway keeps
    #[arg(long, env = "SF_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Modbus TCP devices: a press (unit 1), a boiler (unit 2), a pump with a misbehaving sensor (unit 3)
    Modbus(testkit::sim::modbus::Options),
    /// An OPC UA server with a filling line: a filler and a capper
    Opcua(testkit::sim::opcua::Options),
    /// An MQTT broker, with a compressor and a hall that publish JSON and a Sparkplug B edge node
    Mqtt(testkit::sim::mqtt::Options),
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Gateway document, JSON or YAML
    pub(crate) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Points {
    /// Write the points of an adapter as a table (CSV, every setting a column)
    Export(Export),
    /// Lay a table over the points of an adapter; shows what would change, and changes the document with --write
    Import(Import),
    /// Write a table with three points of an adapter type to begin with
    Example(Example),
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Gateway document, JSON or YAML
    pub(crate) document: PathBuf,
    /// Name of the adapter
    pub(crate) adapter: String,
    /// File to write; standard output when absent
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Gateway document, JSON or YAML
    pub(crate) document: PathBuf,
    /// Name of the adapter
    pub(crate) adapter: String,
    /// Table with commas, semicolons or tabs; - for standard input
    pub(crate) table: PathBuf,
    /// Points without a line in the table go
    #[arg(long)]
    pub(crate) replace: bool,
    /// Change the document; all of it but the points of this adapter stays as it is
    #[arg(long)]
    pub(crate) write: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Example {
    /// Adapter type: modbus_tcp, modbus_rtu, opcua, mqtt
    pub(crate) adapter_type: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Template {
    /// All templates
    List,
    /// The slots of a template
    Show {
        /// Name of the template
        id: String,
    },
    /// The settings a filled template makes, ready for a gateway document
    Fill(Fill),
}

#[derive(Debug, Args)]
pub(crate) struct Fill {
    /// Name of the template
    pub(crate) id: String,
    /// Fill a slot: --set host=192.168.1.50
    #[arg(long = "set", value_name = "SLOT=VALUE")]
    pub(crate) set: Vec<String>,
    /// Add the adapter to this gateway document; the rest of it stays as it is
    #[arg(long, value_name = "DOCUMENT")]
    pub(crate) add_to: Option<PathBuf>,
}
