//! `ctl groups`: who reads the stream, and how far.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use kafka::client::Position;
use kafka::client::admin::{Admin, At, GroupDescription, MemberDescription, TopicDescription};
use serde_json::json;

use super::table::{Column, Table};
use super::target::{Target, failed};
use super::{applied, only_with_execute, print_table, unknown};
use crate::exit::{Failure, TRY_AGAIN};
use crate::say;

/// Options of `ctl groups`.
#[derive(Debug, Args)]
pub(crate) struct Groups {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List groups with their members and lag; what `ctl groups` alone does
    List,
    /// Show one group: what it committed, what is left, who reads
    Describe {
        /// Group, for example sf-sink-historian
        group: String,
    },
    /// Delete a group with its offsets; refused while it has members
    Delete {
        group: String,
        /// Do it; without this the command only says what it would do
        #[arg(long)]
        execute: bool,
    },
}

/// Runs the command.
pub(crate) async fn groups(options: Groups) -> Result<(), Failure> {
    let Groups { action, target } = options;
    let mut admin = target.admin().await?;
    match action.unwrap_or(Action::List) {
        Action::List => list(&mut admin, &target).await,
        Action::Describe { group } => describe(&mut admin, &target, &group).await,
        Action::Delete { group, execute } => {
            let (described, positions) = one(&mut admin, &group).await?;
            without_members(&described)?;
            let plan = format!("delete group {group} with its offsets in {} partitions", positions.len());
            if !only_with_execute(&target, execute, &plan) {
                return Ok(());
            }
            admin.delete_group(&group).await.map_err(|error| failed(&error))?;
            applied(&target, &format!("group {group} is deleted"));
            Ok(())
        }
    }
}

/// Where a group is in its life. One that nobody has joined is empty to the protocol, and may well be read: components of a
/// gateway choose their partitions themselves, and only commit.
fn state(group: &GroupDescription) -> String {
    if group.by_position { "by-position".to_owned() } else { group.state.clone() }
}

/// A group and what it committed, or a failure that names the nearest one there is.
pub(super) async fn one(admin: &mut Admin, id: &str) -> Result<(GroupDescription, Vec<Position>), Failure> {
    let described = admin.group(id).await.map_err(|error| failed(&error))?;
    let positions = admin.committed(id).await.map_err(|error| failed(&error))?;
    if described.is_dead() && positions.is_empty() {
        let groups = admin.groups().await.map_err(|error| failed(&error))?;
        return Err(unknown("group", id, groups.iter().map(|group| group.id.as_str())));
    }
    Ok((described, positions))
}

/// Refuses while somebody reads: a member would commit over what is changed behind its back.
pub(super) fn without_members(group: &GroupDescription) -> Result<(), Failure> {
    if group.members.is_empty() {
        return Ok(());
    }
    let who: Vec<String> =
        group.members.iter().map(|member| format!("{} at {}", member.client_id, member.host)).collect();
    let who = super::table::clean(&who.join(", "));
    let text = format!("group {} has members, stop them first: {who}", group.id);
    Err(Failure::new(TRY_AGAIN, text))
}

/// The ends of the topics in which somebody committed, by topic and partition. Topics that are gone are missing.
async fn ends(admin: &mut Admin, topics: &[TopicDescription]) -> Result<BTreeMap<(String, i32), i64>, Failure> {
    let found = admin.offsets(topics, At::Latest).await.map_err(|error| failed(&error))?;
    Ok(found.into_iter().filter_map(|found| Some(((found.topic, found.partition), found.offset?))).collect())
}

fn lag(ends: &BTreeMap<(String, i32), i64>, position: &Position) -> Option<i64> {
    let end = ends.get(&(position.topic.clone(), position.partition))?;
    Some((end - position.offset).max(0))
}

async fn list(admin: &mut Admin, target: &Target) -> Result<(), Failure> {
    let groups = admin.groups().await.map_err(|error| failed(&error))?;
    let topics = admin.topics().await.map_err(|error| failed(&error))?;
    let ends = ends(admin, &topics).await?;
    let mut table = Table::new(&[
        Column::Text("GROUP"),
        Column::Text("STATE"),
        Column::Number("MEMBERS"),
        Column::Number("LAG"),
        Column::Text("TOPICS"),
    ]);
    let mut rows = Vec::with_capacity(groups.len());
    for group in &groups {
        let described = admin.group(&group.id).await.map_err(|error| failed(&error))?;
        let positions = admin.committed(&group.id).await.map_err(|error| failed(&error))?;
        let left: i64 = positions.iter().filter_map(|position| lag(&ends, position)).sum();
        let mut names: Vec<&str> = positions.iter().map(|position| position.topic.as_str()).collect();
        names.dedup();
        rows.push(json!({
            "group": group.id,
            "state": described.state,
            "by_position": described.by_position,
            "members": described.members.len(),
            "lag": left,
            "topics": names,
        }));
        let figures = [described.members.len().to_string(), left.to_string()];
        let [members, left] = figures;
        table.row([group.id.clone(), state(&described), members, left, names.join(", ")]);
    }
    print_table(target, &table, "there are no groups", || json!(rows));
    Ok(())
}

async fn describe(admin: &mut Admin, target: &Target, id: &str) -> Result<(), Failure> {
    let (group, positions) = one(admin, id).await?;
    let topics = admin.topics().await.map_err(|error| failed(&error))?;
    let ends = ends(admin, &topics).await?;
    let readers: BTreeMap<(&str, i32), &MemberDescription> = group
        .members
        .iter()
        .flat_map(|member| member.partitions.iter().map(move |(topic, index)| ((topic.as_str(), *index), member)))
        .collect();
    // what is committed, and what is only assigned yet
    let mut places: BTreeMap<(&str, i32), Option<&Position>> = readers.keys().map(|place| (*place, None)).collect();
    places.extend(positions.iter().map(|at| ((at.topic.as_str(), at.partition), Some(at))));
    let mut table = Table::new(&[
        Column::Text("TOPIC"),
        Column::Number("PARTITION"),
        Column::Number("COMMITTED"),
        Column::Number("END"),
        Column::Number("LAG"),
        Column::Text("CLIENT"),
        Column::Text("HOST"),
        Column::Text("MEMBER"),
    ]);
    let mut rows = Vec::new();
    let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for ((topic, partition), position) in &places {
        let end = ends.get(&((*topic).to_owned(), *partition)).copied();
        let left = position.and_then(|position| lag(&ends, position));
        let reader = readers.get(&(*topic, *partition));
        rows.push(json!({
            "topic": topic,
            "partition": partition,
            "committed": position.map(|position| position.offset),
            "metadata": position.map(|position| &position.metadata),
            "end": end,
            "lag": left,
            "member": reader.map(|member| &member.id),
            "client_id": reader.map(|member| &member.client_id),
            "host": reader.map(|member| &member.host),
        }));
        let of_reader = |text: fn(&MemberDescription) -> &str| {
            reader.map_or_else(|| "-".to_owned(), |member| text(member).to_owned())
        };
        table.row([
            (*topic).to_owned(),
            partition.to_string(),
            number(position.map(|position| position.offset)),
            number(end),
            number(left),
            of_reader(|member| &member.client_id),
            of_reader(|member| &member.host),
            of_reader(|member| member.instance_id.as_deref().unwrap_or(&member.id)),
        ]);
    }
    if !target.json {
        say::line(&format!("group    {}", super::table::clean(&group.id)));
        let protocol = if group.protocol.is_empty() { String::new() } else { format!(", {}", group.protocol) };
        say::line(&format!("state    {}{}", state(&group), super::table::clean(&protocol)));
        let idle = group.members.iter().filter(|member| member.partitions.is_empty()).count();
        let idle = if idle == 0 { String::new() } else { format!(", {idle} of them without partitions") };
        say::line(&format!("members  {}{idle}\n", group.members.len()));
    }
    print_table(target, &table, "nothing is committed", || {
        let member = |member: &MemberDescription| {
            json!({
                "id": member.id,
                "instance_id": member.instance_id,
                "client_id": member.client_id,
                "host": member.host,
                "partitions": member.partitions,
            })
        };
        json!({
            "group": group.id,
            "state": group.state,
            "by_position": group.by_position,
            "protocol": group.protocol,
            "members": group.members.iter().map(member).collect::<Vec<_>>(),
            "partitions": rows,
        })
    });
    Ok(())
}
