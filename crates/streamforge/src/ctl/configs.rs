//! `ctl configs`: settings of a topic or of the broker, with where each value comes from.

use clap::Args;
use kafka::client::admin::{Owner, Setting, Source};
use serde_json::{Value, json};

use super::table::{Column, Table};
use super::target::{Target, failed};
use super::{print_table, topics};
use crate::exit::Failure;

/// Options of `ctl configs`.
#[derive(Debug, Args)]
pub(crate) struct Configs {
    /// Topic; the broker's own settings when absent
    topic: Option<String>,
    /// Only what was set, not what holds by default
    #[arg(long)]
    changed: bool,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) async fn configs(options: Configs) -> Result<(), Failure> {
    let Configs { topic, changed, target } = options;
    let mut admin = target.admin().await?;
    let owner = match &topic {
        Some(name) => {
            topics::one(&mut admin, name).await?;
            Owner::Topic(name)
        }
        None => Owner::Broker,
    };
    let mut settings = admin.settings(owner).await.map_err(|error| failed(&error))?;
    settings.retain(|setting| !changed || setting.source != Source::Default);
    let columns = ["SETTING", "VALUE", "FROM", ""].map(Column::Text);
    let mut table = Table::new(&columns);
    for setting in &settings {
        table.row([
            setting.name.clone(),
            setting.value.clone().unwrap_or_else(|| "(hidden)".to_owned()),
            setting.source.as_str().to_owned(),
            if setting.read_only { "read only".to_owned() } else { String::new() },
        ]);
    }
    print_table(&target, &table, "no setting was changed", || json!(rows(&settings)));
    Ok(())
}

/// Settings as JSON.
pub(super) fn rows(settings: &[Setting]) -> Vec<Value> {
    let row = |setting: &Setting| {
        json!({
            "name": setting.name,
            "value": setting.value,
            "source": setting.source.as_str(),
            "read_only": setting.read_only,
        })
    };
    settings.iter().map(row).collect()
}
