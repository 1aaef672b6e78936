//! Who a component is to the embedded broker: a name, and a password that follows from a key.
//!
//! The supervisor makes a key at its start and hands it to the broker in its launch line; each component is handed the one
//! password that the key gives for its name. Nothing is stored, nothing has a default, and all of it ends with the
//! supervisor.

use std::collections::BTreeMap;
use std::fmt::Write;

use aws_lc_rs::{hmac, rand};
use serde::{Deserialize, Serialize};

use crate::launch::Secret;

/// Name of the broker's secret: [`Components`] as JSON.
pub const COMPONENTS: &str = "stream-components";
/// Name of a component's secret: its password.
pub const PASSWORD: &str = "stream-password";
/// Begins the names of all components; users of other kinds have other names.
pub const PREFIX: &str = "sf-";

/// The operating system has no random bytes to give.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct NoRandomness;

/// What lets components in, and what each kind of them may do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Components {
    key: Secret,
    /// Access rules by kind, each as `operation kind-of-resource name`: `write topic telemetry.raw`, `read group sf-*`.
    pub kinds: BTreeMap<String, Vec<String>>,
    /// The same for programs of this machine that do not say who they are; `deny` before a rule turns it around.
    #[serde(default)]
    pub local: Vec<String>,
}

impl Components {
    /// With a new key. The names of kinds begin with [`PREFIX`].
    pub fn new(kinds: BTreeMap<String, Vec<String>>, local: Vec<String>) -> Result<Self, NoRandomness> {
        let mut bytes = [0_u8; 32];
        rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self { key: Secret::new(hex(&bytes)), kinds, local })
    }

    /// The kind of a component that exists, from its user name.
    pub fn kind<'a>(&self, user: &'a str) -> Option<&'a str> {
        let (kind, name) = user.split_once('/')?;
        (!name.is_empty() && self.kinds.contains_key(kind)).then_some(kind)
    }

    pub fn password(&self, user: &str) -> Secret {
        Secret::new(hex(hmac::sign(&self.key(), user.as_bytes()).as_ref()))
    }

    /// Whether this is the password of a component, found out in the same time whatever it is.
    pub fn fits(&self, user: &str, password: &[u8]) -> bool {
        let mut tag = Vec::with_capacity(32);
        for pair in password.chunks(2) {
            let text = std::str::from_utf8(pair).unwrap_or_default();
            tag.push(u8::from_str_radix(text, 16).unwrap_or_default());
        }
        self.kind(user).is_some() && hmac::verify(&self.key(), user.as_bytes(), &tag).is_ok()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.key.reveal().as_bytes())
    }
}

/// The user name of a component.
pub fn user(kind: &str, name: &str) -> String {
    format!("{kind}/{name}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // STR-14, security D.1 CR 1.2
    #[test]
    fn a_password_fits_its_own_component_alone() {
        let kinds = || BTreeMap::from([("sf-adapter".to_owned(), vec!["write topic telemetry.raw".to_owned()])]);
        let components = Components::new(kinds(), Vec::new()).unwrap();
        let user = user("sf-adapter", "press-1");
        let password = components.password(&user).reveal().to_owned();
        assert!(components.fits(&user, password.as_bytes()));
        assert!(!components.fits("sf-adapter/press-2", password.as_bytes()));
        assert!(!components.fits(&user, &password.as_bytes()[2..]));
        assert!(!components.fits(&user, b"") && !components.fits(&user, b"\xff\xff"));
        assert!(
            !Components::new(kinds(), Vec::new()).unwrap().fits(&user, password.as_bytes()),
            "another start, another key"
        );
        let sink = components.password("sf-sink/db");
        assert!(!components.fits("sf-sink/db", sink.reveal().as_bytes()), "no such kind");
        assert_eq!(components.kind("sf-adapter/"), None);
        let handed = serde_json::to_string(&components).unwrap();
        assert!(serde_json::from_str::<Components>(&handed).unwrap().fits(&user, password.as_bytes()));
        assert!(!format!("{components:?}").contains(components.key.reveal()));
    }
}
