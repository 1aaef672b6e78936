//! Access rules: who may do what on which resource, decided as Apache Kafka decides it.
//!
//! Pure. A rule allows or denies one operation on a resource, named in full or by a prefix, to a principal from a host.
//! Denial wins over permission; what no rule allows is denied. Reading, writing, deleting and altering a thing imply
//! that it may be described, and altering its settings implies that they may be read.
//! Look next at `enforce/` for the operation that each API asks for.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Stands for every principal of its type.
pub(super) const EVERYBODY: &str = "User:*";
/// Stands for every host in a rule, and for every name in a literal pattern.
pub(super) const ANY: &str = "*";
/// The name of the one resource of the kind [`Resource::Cluster`].
pub(crate) const CLUSTER_NAME: &str = "kafka-cluster";

/// Declares an enumeration of the protocol with its numbers.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum $name { $($variant = $number,)* }

        impl $name {
            pub(crate) fn from_wire(number: i8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

numbered! {
    /// What somebody wants to do.
    Operation {
        Any = 1, All = 2, Read = 3, Write = 4, Create = 5, Delete = 6, Alter = 7, Describe = 8, ClusterAction = 9,
        DescribeConfigs = 10, AlterConfigs = 11, IdempotentWrite = 12,
    }
}

numbered! {
    /// The kind of thing it is done to.
    Resource { Any = 1, Topic = 2, Group = 3, Cluster = 4, TransactionalId = 5, }
}

numbered! {
    /// How the name of a rule is compared. `Any` and `Match` are for filters alone.
    Pattern { Any = 1, Match = 2, Literal = 3, Prefixed = 4, }
}

numbered! {
    /// What a rule does. `Any` is for filters alone.
    Permission { Any = 1, Deny = 2, Allow = 3, }
}

impl Operation {
    /// Whether the rule's operation covers the one that is asked for, when the rule allows.
    fn allows(self, asked: Self) -> bool {
        self == asked
            || self == Self::All
            || match asked {
                Self::Describe => matches!(self, Self::Read | Self::Write | Self::Delete | Self::Alter),
                Self::DescribeConfigs => self == Self::AlterConfigs,
                _ => false,
            }
    }

    /// The same when it denies: nothing is implied.
    fn denies(self, asked: Self) -> bool {
        self == asked || self == Self::All
    }
}

impl Resource {
    /// The operations that have a meaning for this kind of resource.
    pub(crate) const fn operations(self) -> &'static [Operation] {
        use Operation as O;
        match self {
            Self::Any => &[],
            Self::Topic => {
                &[O::Read, O::Write, O::Create, O::Delete, O::Alter, O::Describe, O::DescribeConfigs, O::AlterConfigs]
            }
            Self::Group => &[O::Read, O::Delete, O::Describe, O::DescribeConfigs, O::AlterConfigs],
            Self::Cluster => &[
                O::Create,
                O::Alter,
                O::Describe,
                O::ClusterAction,
                O::DescribeConfigs,
                O::AlterConfigs,
                O::IdempotentWrite,
            ],
            Self::TransactionalId => &[O::Write, O::Describe],
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Rule {
    pub(crate) resource: Resource,
    pub(crate) pattern: Pattern,
    pub(crate) name: String,
    /// `User:name`, or `User:*`.
    pub(crate) principal: String,
    /// An address, or `*`.
    pub(crate) host: String,
    pub(crate) operation: Operation,
    pub(crate) permission: Permission,
}

impl Rule {
    /// What is wrong with it, for a rule that somebody wants to create.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let kind = self.principal.split_once(':');
        if self.resource == Resource::Any {
            return Err("the kind of resource is missing");
        }
        if !matches!(self.pattern, Pattern::Literal | Pattern::Prefixed) {
            return Err("the pattern is literal or prefixed");
        }
        if self.name.is_empty() {
            return Err("the name of the resource is missing");
        }
        if self.resource == Resource::Cluster && (self.name != CLUSTER_NAME || self.pattern != Pattern::Literal) {
            return Err("the only cluster is the literal kafka-cluster");
        }
        if self.permission == Permission::Any {
            return Err("a rule allows or denies");
        }
        if self.operation != Operation::All && !self.resource.operations().contains(&self.operation) {
            return Err("this operation does not exist on this kind of resource");
        }
        if !kind.is_some_and(|(kind, name)| kind == "User" && !name.is_empty()) {
            return Err("a principal is written User:name");
        }
        if self.host != ANY && self.host.parse::<IpAddr>().is_err() {
            return Err("a host is an address or *");
        }
        Ok(())
    }

    fn is_about(&self, resource: Resource, name: &str) -> bool {
        self.resource == resource
            && match self.pattern {
                Pattern::Literal => self.name == name || self.name == ANY,
                Pattern::Prefixed => name.starts_with(&self.name),
                Pattern::Any | Pattern::Match => false,
            }
    }

    pub(super) fn is_for(&self, who: &Who<'_>) -> bool {
        (self.principal == who.principal || self.principal == EVERYBODY)
            && (self.host == ANY || self.host.parse().map(|host: IpAddr| host.to_canonical()) == Ok(who.address))
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) principal: &'a str,
    pub(crate) address: IpAddr,
}

/// Whether the rules let somebody do something.
pub(crate) fn allows(rules: &[Rule], who: &Who<'_>, operation: Operation, resource: Resource, name: &str) -> bool {
    let mut allowed = false;
    for rule in rules.iter().filter(|rule| rule.is_about(resource, name) && rule.is_for(who)) {
        match rule.permission {
            Permission::Deny if rule.operation.denies(operation) => return false,
            Permission::Allow => allowed |= rule.operation.allows(operation),
            _ => {}
        }
    }
    allowed
}

/// Whether there could be a resource of this kind on which somebody may do something: an allowing pattern of which a
/// denial does not take all.
pub(crate) fn allows_some(rules: &[Rule], who: &Who<'_>, operation: Operation, resource: Resource) -> bool {
    let mine = || rules.iter().filter(|rule| rule.resource == resource && rule.is_for(who));
    let denials: Vec<&Rule> =
        mine().filter(|rule| rule.permission == Permission::Deny && rule.operation.denies(operation)).collect();
    mine().filter(|rule| rule.permission == Permission::Allow && rule.operation.allows(operation)).any(|allowing| {
        !denials.iter().any(|denial| match denial.pattern {
            Pattern::Prefixed => allowing.name.starts_with(&denial.name),
            _ => denial.name == ANY || (allowing.pattern == Pattern::Literal && denial.name == allowing.name),
        })
    })
}

/// Bits of the operations that are allowed on one resource, as answers carry them.
pub(crate) fn operations_allowed(rules: &[Rule], who: &Who<'_>, resource: Resource, name: &str) -> i32 {
    let allowed = |operation: &&Operation| allows(rules, who, **operation, resource, name);
    resource.operations().iter().filter(allowed).fold(0, |bits, operation| bits | (1 << (*operation as i32)))
}

/// Chooses rules to be described or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) resource: Resource,
    pub(crate) pattern: Pattern,
    pub(crate) name: Option<String>,
    pub(crate) principal: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) operation: Operation,
    pub(crate) permission: Permission,
}

impl Filter {
    pub(crate) fn chooses(&self, rule: &Rule) -> bool {
        let text = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        let named = match (self.pattern, &self.name) {
            (Pattern::Any, name) => text(name, &rule.name),
            (Pattern::Match, None) => true,
            // every rule that applies to a resource of this name
            (Pattern::Match, Some(name)) => rule.is_about(rule.resource, name),
            (pattern, name) => pattern == rule.pattern && text(name, &rule.name),
        };
        named
            && (self.resource == Resource::Any || self.resource == rule.resource)
            && text(&self.principal, &rule.principal)
            && text(&self.host, &rule.host)
            && (self.operation == Operation::Any || self.operation == rule.operation)
            && (self.permission == Permission::Any || self.permission == rule.permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn rule(permission: Permission, operation: Operation, pattern: Pattern, name: &str) -> Rule {
        Rule {
            resource: Resource::Topic,
            pattern,
            name: name.to_owned(),
            principal: "User:ada".to_owned(),
            host: "*".to_owned(),
            operation,
            permission,
        }
    }

    fn may(rules: &[Rule], operation: Operation, name: &str) -> bool {
        allows(rules, &Who { principal: "User:ada", address: HERE }, operation, Resource::Topic, name)
    }

    // STR-14
    #[test]
    fn nothing_is_allowed_without_a_rule_and_denial_wins() {
        use Operation::{All, Describe, Read, Write};
        use Pattern::{Literal, Prefixed};
        use Permission::{Allow, Deny};
        assert!(!may(&[], Read, "a.raw"));
        let rules = [rule(Allow, Read, Prefixed, "a."), rule(Deny, Read, Literal, "a.secret")];
        assert!(may(&rules, Read, "a.raw"));
        assert!(may(&rules, Describe, "a.raw"), "reading implies describing");
        assert!(may(&rules, Describe, "a.secret"), "a denied read does not deny describing");
        assert!(!may(&rules, Read, "a.secret"));
        assert!(!may(&rules, Read, "b.raw") && !may(&rules, Write, "a.raw"));
        let rules = [rule(Allow, All, Literal, "*"), rule(Deny, Write, Prefixed, "a.")];
        assert!(may(&rules, Write, "b") && may(&rules, Read, "a.raw") && !may(&rules, Write, "a.raw"));
        assert!(may(&[rule(Deny, All, Literal, "x"), rule(Allow, All, Literal, "*")], Read, "y"));
        assert!(!may(&[rule(Deny, All, Literal, "x"), rule(Allow, All, Literal, "*")], Read, "x"));
    }

    #[test]
    fn rules_are_for_their_principal_and_host() {
        let mut one = rule(Permission::Allow, Operation::Read, Pattern::Literal, "t");
        one.host = "10.0.0.1".to_owned();
        assert!(!may(std::slice::from_ref(&one), Operation::Read, "t"));
        one.host = "127.0.0.1".to_owned();
        assert!(may(std::slice::from_ref(&one), Operation::Read, "t"));
        one.principal = "User:bob".to_owned();
        assert!(!may(std::slice::from_ref(&one), Operation::Read, "t"));
        one.principal = EVERYBODY.to_owned();
        assert!(may(std::slice::from_ref(&one), Operation::Read, "t"));
        assert!(!may(&[Rule { resource: Resource::Group, ..one }], Operation::Read, "t"));
    }

    #[test]
    fn some_topic_may_be_written_unless_denials_cover_all_that_is_allowed() {
        use Pattern::{Literal, Prefixed};
        let some = |rules: &[Rule]| {
            let who = Who { principal: "User:ada", address: HERE };
            allows_some(rules, &who, Operation::Write, Resource::Topic)
        };
        let (allow, deny) = (
            |pattern, name| rule(Permission::Allow, Operation::Write, pattern, name),
            |pattern, name| rule(Permission::Deny, Operation::Write, pattern, name),
        );
        assert!(!some(&[]));
        assert!(some(&[allow(Literal, "t")]));
        assert!(!some(&[allow(Literal, "t"), deny(Literal, "t")]));
        assert!(!some(&[allow(Literal, "t"), deny(Literal, "*")]));
        assert!(!some(&[allow(Prefixed, "tt"), deny(Prefixed, "t")]));
        assert!(some(&[allow(Prefixed, "t"), deny(Prefixed, "tt"), deny(Literal, "t")]));
    }

    #[test]
    fn impossible_rules_are_refused() {
        let good = rule(Permission::Allow, Operation::Read, Pattern::Literal, "t");
        assert_eq!(good.check(), Ok(()));
        let wrong = |change: fn(&mut Rule)| {
            let mut rule = good.clone();
            change(&mut rule);
            rule.check().unwrap_err()
        };
        wrong(|rule| rule.name.clear());
        wrong(|rule| rule.pattern = Pattern::Match);
        wrong(|rule| rule.principal = "ada".to_owned());
        wrong(|rule| rule.principal = "Group:ada".to_owned());
        wrong(|rule| rule.host = "example.org".to_owned());
        wrong(|rule| rule.operation = Operation::IdempotentWrite);
        wrong(|rule| rule.resource = Resource::Cluster);
        wrong(|rule| rule.permission = Permission::Any);
    }

    #[test]
    fn filters_choose_by_pattern_and_by_what_applies() {
        let filter = |pattern, name: Option<&str>| Filter {
            resource: Resource::Any,
            pattern,
            name: name.map(str::to_owned),
            principal: None,
            host: None,
            operation: Operation::Any,
            permission: Permission::Any,
        };
        let prefixed = rule(Permission::Allow, Operation::Read, Pattern::Prefixed, "a.");
        let all = rule(Permission::Allow, Operation::Read, Pattern::Literal, "*");
        assert!(filter(Pattern::Match, Some("a.b")).chooses(&prefixed));
        assert!(filter(Pattern::Match, Some("a.b")).chooses(&all));
        assert!(!filter(Pattern::Match, Some("b")).chooses(&prefixed));
        assert!(filter(Pattern::Any, Some("a.")).chooses(&prefixed));
        assert!(!filter(Pattern::Any, Some("a.b")).chooses(&prefixed));
        assert!(!filter(Pattern::Literal, None).chooses(&prefixed));
        let other = Filter { principal: Some("User:bob".to_owned()), ..filter(Pattern::Any, None) };
        assert!(!other.chooses(&all));
    }

    #[test]
    fn operations_are_told_as_bits() {
        let rules = [rule(Permission::Allow, Operation::Read, Pattern::Literal, "t")];
        let who = Who { principal: "User:ada", address: HERE };
        assert_eq!(operations_allowed(&rules, &who, Resource::Topic, "t"), (1 << 3) | (1 << 8));
        assert_eq!(operations_allowed(&rules, &who, Resource::Topic, "u"), 0);
    }
}
