//! One word for the whole gateway out of the states of its parts.

use model::Health;

use crate::children::Role;

/// A part as the roll-up sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// None is the runtime's own module (validator, aggregator).
    pub role: Option<Role>,
    pub health: Health,
}

/// HEALTHY: all well. DEGRADED: something non-critical is not. UNHEALTHY: the stream or a module of the data path does
/// not work, or no adapter does. FAILED: a critical part gave up.
pub fn roll_up(parts: &[Part]) -> Health {
    let critical = |part: &&Part| matches!(part.role, None | Some(Role::Broker));
    let worst_critical = parts.iter().filter(critical).map(|part| part.health).max().unwrap_or_default();
    if worst_critical >= Health::Unhealthy {
        return worst_critical;
    }
    let mut adapters = parts.iter().filter(|part| part.role == Some(Role::Adapter)).peekable();
    if adapters.peek().is_some() && adapters.all(|part| part.health >= Health::Unhealthy) {
        return Health::Unhealthy;
    }
    if parts.iter().any(|part| part.health > Health::Healthy) { Health::Degraded } else { Health::Healthy }
}

#[cfg(test)]
mod tests {
    use Health::{Degraded, Failed, Healthy, Unhealthy};

    use super::*;

    fn part(role: Option<Role>, health: Health) -> Part {
        Part { role, health }
    }

    #[test]
    fn the_document_table() {
        let broker = |health| part(Some(Role::Broker), health);
        let adapter = |health| part(Some(Role::Adapter), health);
        let sink = |health| part(Some(Role::Sink), health);
        assert_eq!(roll_up(&[broker(Healthy), adapter(Healthy), sink(Healthy)]), Healthy);
        assert_eq!(roll_up(&[broker(Healthy), adapter(Healthy), sink(Failed)]), Degraded);
        assert_eq!(roll_up(&[broker(Healthy), adapter(Unhealthy), adapter(Healthy)]), Degraded);
        assert_eq!(roll_up(&[broker(Healthy), adapter(Unhealthy), adapter(Failed)]), Unhealthy);
        assert_eq!(roll_up(&[broker(Failed), adapter(Healthy)]), Failed);
        assert_eq!(roll_up(&[part(None, Unhealthy), broker(Healthy)]), Unhealthy);
    }
}
