//! The gateway's parts against the embedded broker, in one process.

#[cfg(test)]
mod api;
#[cfg(test)]
mod conditions;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod modules;
#[cfg(test)]
mod schema_cache;

/// The gateway's topics, kept for ever: the readings of these tests are older than any retention.
fn topics() -> Vec<kafka::client::admin::TopicPlan> {
    let mut plans = stream::topics::plans();
    for plan in &mut plans {
        plan.config.retain(|(key, _)| key != "retention.ms");
        plan.config.push(("retention.ms".to_owned(), "-1".to_owned()));
    }
    plans
}
