//! The gateway's own processes: they get in with passwords that follow from a key, and may do what their kind may.
//!
//! Whoever starts the broker hands over the key and the rules in the launch line (`daemon::identity`). Both live as long as
//! the broker; the rules of a kind are not among those that administrators see and change.

use std::collections::BTreeMap;
use std::sync::Arc;

use daemon::Launch;
use daemon::identity::{self, Components};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as NotKnown, StrDeserializer};

use super::rules::{ANY, CLUSTER_NAME, EVERYBODY, Pattern, Permission, Resource, Rule};
use crate::Error;

/// What the broker was handed; nothing when nobody supervises it.
#[derive(Debug, Default)]
pub(crate) struct Given {
    components: Option<Components>,
    rules: BTreeMap<String, Arc<[Rule]>>,
    /// For programs of this machine without a name.
    local: Arc<[Rule]>,
}

impl Given {
    pub(crate) fn receive(launch: &Launch) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Setting { name: "stream-components", reason };
        let Some(handed) = launch.secret(identity::COMPONENTS) else { return Ok(Self::default()) };
        // the text itself is a secret and stays out of the error
        let read = serde_json::from_str::<Components>(handed.reveal());
        let components = read.map_err(|error| wrong(format!("line 1, column {}", error.column())))?;
        let mut rules = BTreeMap::new();
        for (kind, texts) in &components.kinds {
            if !kind.starts_with(identity::PREFIX) || kind.contains('/') {
                return Err(wrong(format!("a kind of component cannot be called {kind:?}")));
            }
            let parsed = texts.iter().map(|text| parse(text).map_err(|reason| wrong(format!("{text:?}: {reason}"))));
            rules.insert(kind.clone(), parsed.collect::<Result<Arc<[Rule]>, Error>>()?);
        }
        let local = components.local.iter();
        let local = local.map(|text| parse(text).map_err(|reason| wrong(format!("{text:?}: {reason}"))));
        let local = local.collect::<Result<Arc<[Rule]>, Error>>()?;
        Ok(Self { components: Some(components), rules, local })
    }

    /// Whether the password is a component's; `None` when this is not the name of one.
    pub(super) fn fits(&self, user: &str, password: &[u8]) -> Option<bool> {
        let components = self.components.as_ref()?;
        components.kind(user).map(|_| components.fits(user, password))
    }

    /// What programs of this machine may do that do not say who they are; nothing unless somebody supervises the broker.
    pub(super) fn local(&self) -> &Arc<[Rule]> {
        &self.local
    }

    /// What a component may do; `None` when this is none.
    pub(super) fn rules(&self, principal: &str) -> Option<Arc<[Rule]>> {
        let kind = self.components.as_ref()?.kind(principal.strip_prefix("User:")?)?;
        self.rules.get(kind).map(Arc::clone)
    }
}

/// Reads `write topic telemetry.raw` or `deny write topic telemetry.raw`; a name that ends with `*` is a prefix, and the
/// cluster needs no name.
fn parse(text: &str) -> Result<Rule, &'static str> {
    let (permission, text) = match text.strip_prefix("deny ") {
        Some(text) => (Permission::Deny, text),
        None => (Permission::Allow, text),
    };
    let mut words = text.split_whitespace();
    let (Some(operation), Some(resource)) = (words.next(), words.next()) else {
        return Err("it is operation, kind of resource and name");
    };
    let resource: Resource = named(resource).ok_or("there is no such kind of resource")?;
    let name = match (words.next(), resource) {
        (Some(name), _) => name,
        (None, Resource::Cluster) => CLUSTER_NAME,
        (None, _) => return Err("the name is missing"),
    };
    let (pattern, name) = match name.strip_suffix(ANY) {
        Some(prefix) if !prefix.is_empty() => (Pattern::Prefixed, prefix),
        _ => (Pattern::Literal, name),
    };
    let rule = Rule {
        resource,
        pattern,
        name: name.to_owned(),
        principal: EVERYBODY.to_owned(),
        host: ANY.to_owned(),
        operation: named(operation).ok_or("there is no such operation")?,
        permission,
    };
    rule.check()?;
    Ok(rule)
}

fn named<'a, T: Deserialize<'a>>(name: &'a str) -> Option<T> {
    let name: StrDeserializer<'a, NotKnown> = name.into_deserializer();
    T::deserialize(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::rules::Operation;
    use daemon::launch::Secret;

    fn launch(kinds: &[(&str, &[&str])]) -> (Launch, Components) {
        let rules = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let kinds = kinds.iter().map(|(kind, texts)| ((*kind).to_owned(), rules(texts))).collect();
        let components = Components::new(kinds, vec!["deny write topic telemetry.*".to_owned()]).unwrap();
        let handed = Secret::new(serde_json::to_string(&components).unwrap());
        (
            Launch { secrets: BTreeMap::from([(identity::COMPONENTS.to_owned(), handed)]), ..Launch::default() },
            components,
        )
    }

    // STR-14
    #[test]
    fn components_are_known_by_their_key_and_have_the_rules_of_their_kind() {
        let (launch, components) = launch(&[("sf-adapter", &["write topic telemetry.raw", "describe topic *"])]);
        let given = Given::receive(&launch).unwrap();
        let password = components.password("sf-adapter/press");
        assert_eq!(given.fits("sf-adapter/press", password.reveal().as_bytes()), Some(true));
        assert_eq!(given.fits("sf-adapter/pump", password.reveal().as_bytes()), Some(false));
        assert_eq!(given.fits("ada", password.reveal().as_bytes()), None);
        assert_eq!(given.rules("User:sf-adapter/press").unwrap().len(), 2);
        assert!(given.rules("User:sf-sink/db").is_none() && given.rules("User:ada").is_none());
        assert!(Given::default().rules("User:sf-adapter/press").is_none());
        assert!(given.local().iter().all(|rule| rule.permission == Permission::Deny) && given.local().len() == 1);
    }

    #[test]
    fn rules_are_read_from_one_line() {
        let rule = parse("read group sf-*").unwrap();
        assert_eq!((rule.resource, rule.pattern, rule.name.as_str()), (Resource::Group, Pattern::Prefixed, "sf-"));
        let rule = parse("idempotent_write cluster").unwrap();
        assert_eq!((rule.operation, rule.name.as_str()), (Operation::IdempotentWrite, CLUSTER_NAME));
        assert_eq!(parse("all topic *").unwrap().pattern, Pattern::Literal);
        for wrong in ["", "write", "write topic", "paint topic x", "write roof x", "write group x", "any topic x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_line_is_said_without_its_secret() {
        let (mut handed, components) = launch(&[("sf-adapter", &["write topic"])]);
        assert!(daemon::report(&Given::receive(&handed).unwrap_err()).contains("write topic"));
        let cut = Secret::new(&serde_json::to_string(&components).unwrap()[..90]);
        handed.secrets.insert(identity::COMPONENTS.to_owned(), cut.clone());
        let error = daemon::report(&Given::receive(&handed).unwrap_err());
        assert!(!error.contains(&cut.reveal()[10..30]), "{error}");
        let (wrong, _) = launch(&[("adapter", &[])]);
        assert!(Given::receive(&wrong).is_err(), "users could have such a name");
    }
}
