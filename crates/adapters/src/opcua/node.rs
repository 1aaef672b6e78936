//! The name of a node: its namespace by address, not by number (UA-20).
//!
//! Pure. Servers number their namespaces anew at each start; an index is only good within a session. Text ids may hold `;`
//! and `=`, so everything behind the first `s=` is the id.

use std::fmt;

use super::stack::{ByteString, Guid, Identifier, NodeId, UAString};

/// The namespace of the standard; it is 0 everywhere.
pub const STANDARD: &str = "http://opcfoundation.org/UA/";

/// A node, as settings say it and as it stands in `metadata.source_ref`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    pub namespace: String,
    pub id: Identifier,
}

impl Identity {
    /// Reads `nsu=<uri>;s=<text>`, `…;i=<number>`, `…;g=<guid>`, `…;b=<base64>`; without `nsu=` the standard's namespace is
    /// meant.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (namespace, rest) = match text.strip_prefix("nsu=") {
            Some(rest) => split_namespace(rest).ok_or("has no id behind the namespace")?,
            None => (STANDARD.to_owned(), text),
        };
        if rest.starts_with("ns=") {
            return Err("names its namespace by number, which changes with each start of the server".to_owned());
        }
        if namespace.is_empty() {
            return Err("names no namespace".to_owned());
        }
        let (kind, id) = rest.split_once('=').ok_or("has no id")?;
        if id.is_empty() {
            return Err("has an empty id".to_owned());
        }
        let id = match kind {
            "i" => Identifier::Numeric(id.parse().map_err(|_| format!("{id:?} is no number of a node"))?),
            "s" if id.len() <= 4096 => Identifier::String(UAString::from(id)),
            "s" => return Err("has an id longer than 4096 bytes".to_owned()),
            "g" => Identifier::Guid(id.parse::<Guid>().map_err(|_| format!("{id:?} is no GUID"))?),
            "b" => Identifier::ByteString(ByteString::from_base64(id).ok_or_else(|| format!("{id:?} is not base64"))?),
            other => return Err(format!("{other:?} is not one of i, s, g, b")),
        };
        Ok(Self { namespace, id })
    }

    /// The node in a session with these namespaces; none if the namespace is not there.
    pub fn resolve(&self, namespaces: &[String]) -> Option<NodeId> {
        let at = |wanted: &str| namespaces.iter().position(|uri| uri == wanted);
        let index = if self.namespace == STANDARD { 0 } else { at(&self.namespace)? };
        Some(NodeId { namespace: u16::try_from(index).ok()?, identifier: self.id.clone() })
    }

    /// The name of a node of a session.
    pub fn of(node: &NodeId, namespaces: &[String]) -> Option<Self> {
        let namespace = if node.namespace == 0 { STANDARD } else { namespaces.get(usize::from(node.namespace))? };
        Some(Self { namespace: namespace.to_owned(), id: node.identifier.clone() })
    }
}

/// The address ends where an id begins: at the last `;` that is followed by one, seen from the left.
fn split_namespace(text: &str) -> Option<(String, &str)> {
    let begins = |rest: &str| ["i=", "s=", "g=", "b="].iter().any(|kind| rest.starts_with(kind));
    let (at, _) = text.match_indices(';').find(|(at, _)| begins(&text[at + 1..]))?;
    let address = text[..at].replace("%3B", ";").replace("%3b", ";").replace("%25", "%");
    Some((address, &text[at + 1..]))
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace != STANDARD {
            write!(f, "nsu={};", self.namespace.replace('%', "%25").replace(';', "%3B"))?;
        }
        match &self.id {
            Identifier::Numeric(number) => write!(f, "i={number}"),
            Identifier::String(text) => write!(f, "s={text}"),
            Identifier::Guid(guid) => write!(f, "g={guid}"),
            Identifier::ByteString(bytes) => write!(f, "b={}", bytes.as_base64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // UA-20
    #[test]
    fn names_are_read_and_written_alike() {
        for text in [
            "i=2258",
            "nsu=urn:plant:line7;s=Line.Temp",
            "nsu=urn:plant:line7;s=DB1;x=3;i=4",
            "nsu=http://vendor/UA/;i=1001",
            "nsu=urn:a%3Bi=1;s=x",
            "nsu=urn:x;g=72962b91-fa75-4ae6-8d28-b404dc7daf63",
            "nsu=urn:x;b=AQID",
        ] {
            assert_eq!(Identity::parse(text).unwrap().to_string(), text);
        }
        let odd = Identity::parse("nsu=urn:x;s=a;s=b=c").unwrap();
        assert_eq!(odd.id, Identifier::String(UAString::from("a;s=b=c")));
    }

    // UA-20
    #[test]
    fn what_is_no_name_says_why() {
        for (text, why) in [
            ("ns=2;s=Temp", "by number"),
            ("nsu=urn:x", "no id behind"),
            ("nsu=;s=x", "no namespace"),
            ("Temp", "no id"),
            ("nsu=urn:x;i=-1", "no number"),
            ("nsu=urn:x;s=", "empty id"),
            ("q=1", "not one of i, s, g, b"),
            ("nsu=urn:x;g=zz", "no GUID"),
        ] {
            let said = Identity::parse(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    // UA-20, AC-034
    #[test]
    fn the_index_is_of_this_session() {
        let point = Identity::parse("nsu=urn:b;i=5").unwrap();
        let namespaces = |list: &[&str]| list.iter().map(|uri| (*uri).to_owned()).collect::<Vec<_>>();
        let before = namespaces(&[STANDARD, "urn:server", "urn:a", "urn:b"]);
        let after = namespaces(&[STANDARD, "urn:server", "urn:b", "urn:a"]);
        assert_eq!(point.resolve(&before), Some(NodeId::new(3, 5u32)));
        assert_eq!(point.resolve(&after), Some(NodeId::new(2, 5u32)));
        assert_eq!(point.resolve(&after[..2]), None, "never what sits at the old index");
        assert_eq!(Identity::of(&NodeId::new(2, 5u32), &after), Some(point));
    }
}
