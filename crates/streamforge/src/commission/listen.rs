//! `listen`: what a broker has to say, as a tree of topics, or as subscriptions ready to be configured.

use std::time::Duration;

use adapters::commission::text::{quoted, shown};
use adapters::mqtt::listen::{TOPICS_MAX, listen as hear};
use adapters::mqtt::suggest::{Proposal, Proposals, propose};
use clap::Args;

use super::{Access, Protocol, draft_head, print_json};
use crate::exit::{Failure, TRY_AGAIN, USAGE};
use crate::say;

/// Options of `listen`.
#[derive(Debug, Args)]
pub(crate) struct Listen {
    /// mqtt://HOST[:PORT] or mqtts://HOST[:PORT]
    pub(crate) url: String,
    /// What to listen to
    #[arg(default_value = "#")]
    pub(crate) filter: String,
    /// How long
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Topics that are kept; messages to further ones are counted
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) topics: u64,
    /// Print adapters that read what was heard
    #[arg(long)]
    pub(crate) points: bool,
    /// Print JSON, for scripts
    #[arg(long, conflicts_with = "points")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// Listens.
pub(crate) async fn listen(options: &Listen) -> Result<(), Failure> {
    if Protocol::of(&options.url) != Some(Protocol::Mqtt) {
        let hint = "listening is for MQTT: mqtts://host:8883; for OPC UA there is `streamforge browse`";
        return Err(Failure::new(USAGE, format!("{:?} cannot be listened to; {hint}", options.url)));
    }
    let guest = options.access.mqtt(&options.url)?;
    let limit = usize::try_from(options.topics).unwrap_or(TOPICS_MAX);
    let time = Duration::from_secs(options.seconds);
    let heard = hear(&guest, &options.filter, time, limit).await.map_err(|report| {
        let why = report.failed().map(ToString::to_string).unwrap_or_default();
        Failure::new(TRY_AGAIN, format!("{} cannot be listened to\n{why}", report.target))
    })?;
    if options.json {
        return print_json(&heard.to_json());
    }
    let proposals = propose(&heard);
    if options.points {
        for line in draft(options, &proposals) {
            say::line(&line);
        }
    } else {
        say::line(&heard.to_string());
        let summary = proposals.summary();
        if !summary.is_empty() {
            say::line("\nCould be read as (--points prints the configuration):");
            for line in &summary {
                say::line(line);
            }
        }
    }
    for note in heard.notes() {
        say::note(&note);
    }
    Ok(())
}

/// An adapter for subscriptions, and one for Sparkplug B: they cannot share a session.
fn draft(options: &Listen, proposals: &Proposals) -> Vec<String> {
    let settings = options.access.mqtt_settings(&options.url);
    let (url, filter) = (shown(&options.url, 200), shown(&options.filter, 200));
    let mut lines = vec![format!("# {url}, {filter}, heard for {} s. The names are a proposal.", options.seconds)];
    if !proposals.subscriptions.is_empty() {
        lines.extend(draft_head("mqtt", &settings));
        lines.push("  subscriptions:".to_owned());
        lines.extend(proposals.subscriptions.iter().flat_map(Proposal::lines));
    }
    if !proposals.groups.is_empty() {
        let groups: Vec<String> = proposals.groups.iter().map(|group| quoted(group)).collect();
        let mut head = draft_head("mqtt", &settings);
        if let Some(first) = head.first_mut() {
            "- adapter_id: sparkplug_1".clone_into(first);
        }
        lines.extend(head);
        lines.push(format!("  sparkplug: {{ groups: [{}] }}", groups.join(", ")));
    }
    for (topic, why) in &proposals.left_out {
        lines.push(format!("# left out: {}: {why}", shown(topic, 200)));
    }
    lines
}
