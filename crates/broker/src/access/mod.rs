//! Who may connect and what they may do: users, access rules, quotas, and where they are kept.
//!
//! `<data>/access.state` holds all of it in one small file: whoever restores it restores access as a whole. It is read at
//! the start; every change is durable before it is acknowledged and before it has an effect.
//! Rules count only when the broker is told to authorize; without it everybody who may connect may do everything.
//! Look next at `listener.rs` for the doors, `peer.rs` for who came in, `rules.rs` for the decision and `enforce/` for
//! where it is asked for.

pub(crate) mod components;
pub(crate) mod enforce;
pub(crate) mod listener;
pub(crate) mod peer;
pub(crate) mod quota;
pub(crate) mod quotas;
pub(crate) mod rules;
pub(crate) mod sasl;
pub(crate) mod scram;
mod subject;
pub(crate) mod throttle;
pub(crate) mod tls;
pub mod users;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use commitlog::{Vfs, state_file};
use kafka_protocol::error::ResponseError;
use serde::{Deserialize, Serialize};

use self::components::Given;
use self::peer::Peer;
use self::quotas::{Quota, Quotas};
use self::rules::{Rule, Who};
use self::scram::{Credential, Hash};
use crate::Error;
use crate::limits::{QUOTAS_MAX, RULES_MAX, USERS_MAX};
use crate::topics::Refusal;

/// Name of the state file in the data folder.
const FILE: &str = "access.state";

/// What is kept of one user.
pub(crate) type Credentials = BTreeMap<Hash, Credential>;

/// Contents of the state file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    version: u32,
    /// What decoys for unknown users are made from.
    decoys: String,
    pub(crate) users: BTreeMap<String, Credentials>,
    pub(crate) rules: Vec<Rule>,
    #[serde(default)]
    pub(crate) quotas: Vec<Quota>,
}

impl Kept {
    fn new() -> Result<Self, Error> {
        let decoys = scram::nonce().ok_or(Error::Random)?;
        Ok(Self { version: 1, decoys, users: BTreeMap::new(), rules: Vec::new(), quotas: Vec::new() })
    }

    /// Reads the file below `data_dir`, or begins a new one.
    fn read(vfs: &dyn Vfs, path: &Path) -> Result<Self, Error> {
        let read = state_file::read(vfs, path);
        let read = read.map_err(|source| Error::State { action: "read", path: path.to_owned(), source })?;
        match read {
            Some((bytes, generation)) => {
                if generation == state_file::Generation::Previous {
                    tracing::error!(
                        path = %path.display(),
                        "the newest copy of users, rules and quotas is damaged; the one before is in force: check the last change"
                    );
                }
                let kept = serde_json::from_slice(&bytes);
                kept.map_err(|source| Error::StateContent { path: path.to_owned(), source })
            }
            None if state_file::exists(vfs, path).unwrap_or(true) => {
                // starting without rules would open what was closed
                Err(Error::AccessLost { path: path.to_owned() })
            }
            None => Self::new(),
        }
    }

    fn write(&self, vfs: &dyn Vfs, path: &Path) -> Result<(), Error> {
        let state = |source| Error::State { action: "write", path: path.to_owned(), source };
        let bytes = serde_json::to_vec(self).map_err(|source| state(source.into()))?;
        state_file::write(vfs, path, &bytes).map_err(state)
    }

    /// The limits on what is kept.
    fn check(&self) -> Result<(), Refusal> {
        let limits = [
            ("users", self.users.len(), USERS_MAX),
            ("access rules", self.rules.len(), RULES_MAX),
            ("quotas", self.quotas.len(), QUOTAS_MAX),
        ];
        for (what, count, most) in limits {
            if count > most {
                return Err(Refusal::new(ResponseError::PolicyViolation, format!("there are {most} {what} already")));
            }
        }
        Ok(())
    }
}

/// Users, rules and quotas in force.
#[derive(Debug)]
pub(crate) struct Access {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    /// Rules count.
    authorize: bool,
    /// Who may do everything, whatever the rules say: `User:name`.
    super_users: Vec<String>,
    given: Given,
    kept: RwLock<Arc<Kept>>,
    /// Held while something changes.
    change: Mutex<()>,
    pub(crate) quotas: Quotas,
}

impl Access {
    pub(crate) fn open(
        data_dir: &Path,
        vfs: Arc<dyn Vfs>,
        authorize: bool,
        super_users: &[String],
        given: Given,
    ) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        let kept = Kept::read(&*vfs, &path)?;
        let quotas = Quotas::new(&kept.quotas);
        let super_users = super_users.iter().map(|name| format!("User:{name}")).collect();
        let (kept, change) = (RwLock::new(Arc::new(kept)), Mutex::new(()));
        Ok(Self { vfs, path, authorize, super_users, given, kept, change, quotas })
    }

    pub(crate) fn kept(&self) -> Arc<Kept> {
        Arc::clone(&self.kept.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn authorize(&self) -> bool {
        self.authorize
    }

    /// Changes what is kept; when it returns, the change is durable and in force.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Kept) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let _one_at_a_time = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = Kept::clone(&self.kept());
        let result = change(&mut kept)?;
        kept.check()?;
        kept.write(&*self.vfs, &self.path).map_err(|error| {
            tracing::error!(error = %daemon::report(&error), "cannot change users, rules or quotas");
            Refusal::new(ResponseError::KafkaStorageError, "the change cannot be stored")
        })?;
        self.quotas.replace(&kept.quotas);
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(kept);
        Ok(result)
    }

    /// The credential of a user, or one that nothing fits.
    pub(crate) fn credential(&self, hash: Hash, user: &str) -> Credential {
        let kept = self.kept();
        let found = kept.users.get(user).and_then(|found| found.get(&hash)).cloned();
        found.unwrap_or_else(|| Credential::decoy(hash, kept.decoys.as_bytes(), user))
    }

    /// What a password of PLAIN is verified against.
    pub(crate) fn password_credential(&self, user: &str) -> (Hash, Credential) {
        let kept = self.kept();
        let known = kept.users.get(user).and_then(|found| found.keys().next_back().copied());
        let hash = known.unwrap_or(Hash::Sha512);
        (hash, self.credential(hash, user))
    }

    /// Whether the password is a component's; `None` when this is not the name of one.
    pub(crate) fn component(&self, user: &str, password: &[u8]) -> Option<bool> {
        self.given.fits(user, password)
    }

    /// What a peer may do; `None` when it may do everything.
    pub(crate) fn rights(&self, peer: &Peer) -> Option<Rights> {
        if !self.authorize {
            return None;
        }
        let principal = peer.principal();
        if self.super_users.iter().any(|name| **name == *principal) {
            return None;
        }
        let rules = match self.given.rules(&principal) {
            Some(rules) => rules,
            None if peer.is_local() && !self.given.local().is_empty() => {
                let kept = peer.rules(&self.kept(), &principal);
                // administrators may have said more about those without a name
                let more = || self.given.local().iter().chain(&*kept).cloned().collect();
                if kept.is_empty() { Arc::clone(self.given.local()) } else { more() }
            }
            None => peer.rules(&self.kept(), &principal),
        };
        Some(Rights { principal, address: peer.address, rules })
    }
}

/// The rules that count for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rights {
    principal: Arc<str>,
    address: std::net::IpAddr,
    rules: Arc<[Rule]>,
}

impl Rights {
    fn who(&self) -> Who<'_> {
        Who { principal: &self.principal, address: self.address }
    }

    pub(crate) fn may(&self, operation: rules::Operation, resource: rules::Resource, name: &str) -> bool {
        rules::allows(&self.rules, &self.who(), operation, resource, name)
    }

    pub(crate) fn may_some(&self, operation: rules::Operation, resource: rules::Resource) -> bool {
        rules::allows_some(&self.rules, &self.who(), operation, resource)
    }

    pub(crate) fn operations(&self, resource: rules::Resource, name: &str) -> i32 {
        rules::operations_allowed(&self.rules, &self.who(), resource, name)
    }
}

#[cfg(test)]
impl Rights {
    /// Those of somebody who may describe these topics and nothing else.
    pub(crate) fn describing(topics: &[&str]) -> Self {
        let principal: Arc<str> = Arc::from("User:ada");
        let rule = |name: &&str| Rule {
            resource: rules::Resource::Topic,
            pattern: rules::Pattern::Literal,
            name: (*name).to_owned(),
            principal: principal.to_string(),
            host: "*".to_owned(),
            operation: rules::Operation::Describe,
            permission: rules::Permission::Allow,
        };
        let rules = topics.iter().map(rule).collect();
        Self { address: std::net::IpAddr::from([127, 0, 0, 1]), rules, principal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commitlog::RealVfs;

    fn open(dir: &Path) -> Result<Access, Error> {
        Access::open(dir, Arc::new(RealVfs), true, &[], Given::default())
    }

    // STR-14
    #[test]
    fn a_damaged_state_file_falls_back_and_a_lost_one_closes_the_door() {
        let dir = tempfile::tempdir().unwrap();
        let access = open(dir.path()).unwrap();
        for user in ["ada", "bob"] {
            access.change(|kept| Ok(kept.users.insert(user.to_owned(), Credentials::new()))).unwrap();
        }
        let path = dir.path().join(FILE);
        std::fs::write(&path, b"garbage").unwrap();
        assert!(open(dir.path()).unwrap().kept().users.contains_key("ada"), "the copy before the newest");
        std::fs::write(dir.path().join("access.state.prev"), b"garbage").unwrap();
        assert!(matches!(open(dir.path()), Err(Error::AccessLost { .. })));
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(dir.path().join("access.state.prev")).unwrap();
        assert!(open(dir.path()).unwrap().kept().users.is_empty());
    }

    #[test]
    fn changes_survive_a_restart_and_are_limited() {
        let dir = tempfile::tempdir().unwrap();
        let access = open(dir.path()).unwrap();
        access.change(|kept| Ok(kept.users.insert("ada".to_owned(), Credentials::new()))).unwrap();
        let before = access.credential(Hash::Sha256, "nobody");
        assert!(open(dir.path()).unwrap().kept().users.contains_key("ada"));
        assert_eq!(open(dir.path()).unwrap().credential(Hash::Sha256, "nobody"), before, "decoys stay the same");
        let refused = access.change(|kept| {
            kept.users.extend((0..=USERS_MAX).map(|number| (number.to_string(), Credentials::new())));
            Ok(())
        });
        assert_eq!(refused.unwrap_err().code, ResponseError::PolicyViolation);
        assert_eq!(access.kept().users.len(), 1);
    }
}
