//! Users from outside: DescribeUserScramCredentials and AlterUserScramCredentials.
//!
//! Passwords do not come this way: a client salts and hashes them, and only what a login is verified against is kept.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
};

use super::text;
use crate::access::Credentials;
use crate::access::scram::{Credential, Hash, ITERATIONS_MAX, ITERATIONS_MIN};
use crate::access::users::check_name;
use crate::core::Core;
use crate::dispatch::Call;
use crate::topics::Refusal;

pub(crate) async fn describe(
    core: Arc<Core>,
    call: Call,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let kept = core.access.kept();
    let described = |user: &str, credentials: &Credentials| {
        let info = |(hash, credential): (&Hash, &Credential)| {
            let iterations = i32::try_from(credential.iterations()).unwrap_or(i32::MAX);
            CredentialInfo::default().with_mechanism(*hash as i8).with_iterations(iterations)
        };
        DescribeUserScramCredentialsResult::default()
            .with_user(text(user))
            .with_credential_infos(credentials.iter().map(info).collect())
    };
    let results = match request.users.filter(|users| !users.is_empty()) {
        None => kept.users.iter().map(|(user, credentials)| described(user, credentials)).collect(),
        Some(users) => {
            let mut seen = std::collections::BTreeSet::new();
            let result = |user: kafka_protocol::messages::describe_user_scram_credentials_request::UserName| {
                let refused = |error: ResponseError, message: &str| {
                    core.metrics.count_error(call.api, error.code());
                    DescribeUserScramCredentialsResult::default()
                        .with_user(user.name.clone())
                        .with_error_code(error.code())
                        .with_error_message(Some(text(message)))
                };
                if !seen.insert(user.name.to_string()) {
                    return refused(ResponseError::DuplicateResource, "the request names this user twice");
                }
                match kept.users.get(user.name.as_str()) {
                    Some(credentials) => described(&user.name, credentials),
                    None => refused(ResponseError::ResourceNotFound, "there is no such user"),
                }
            };
            users.into_iter().map(result).collect()
        }
    };
    DescribeUserScramCredentialsResponse::default().with_results(results)
}

/// One change of one user.
enum Change {
    Delete(Hash),
    Put(Hash, Credential),
}

pub(crate) async fn alter(
    core: Arc<Core>,
    call: Call,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let mut changes: BTreeMap<String, Result<Vec<Change>, Refusal>> = BTreeMap::new();
    let deletions = request.deletions.iter().map(|one| {
        let hash = Hash::from_wire(one.mechanism).ok_or_else(no_mechanism);
        (&one.name, hash.map(Change::Delete))
    });
    let upsertions = request.upsertions.iter().map(|one| (&one.name, put(one)));
    for (user, change) in deletions.chain(upsertions) {
        let all = changes.entry(user.to_string()).or_insert_with(|| Ok(Vec::new()));
        match (change, &mut *all) {
            (_, Err(_)) => {}
            (Err(refusal), _) => *all = Err(refusal),
            (Ok(change), Ok(list)) if list.iter().any(|other| other.hash() == change.hash()) => {
                drop(change);
                let message = "the request changes one credential twice";
                *all = Err(Refusal::new(ResponseError::DuplicateResource, message));
            }
            (Ok(change), Ok(list)) => list.push(change),
        }
    }
    let mut results = Vec::with_capacity(changes.len());
    for (user, changes) in changes {
        let altered = changes.and_then(|changes| core.access.change(|kept| apply(&mut kept.users, &user, changes)));
        let result = AlterUserScramCredentialsResult::default().with_user(text(user.clone()));
        results.push(match altered {
            Ok(()) => {
                tracing::info!(?user, by = %call.peer.principal(), "the credentials of a user were altered");
                result
            }
            Err(refusal) => {
                core.metrics.count_error(call.api, refusal.code.code());
                result.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
            }
        });
    }
    AlterUserScramCredentialsResponse::default().with_results(results)
}

impl Change {
    fn hash(&self) -> Hash {
        match self {
            Self::Delete(hash) | Self::Put(hash, _) => *hash,
        }
    }
}

fn no_mechanism() -> Refusal {
    Refusal::new(ResponseError::UnsupportedSaslMechanism, "the mechanism is SCRAM-SHA-256 or SCRAM-SHA-512")
}

fn put(one: &ScramCredentialUpsertion) -> Result<Change, Refusal> {
    let unacceptable = |reason: &str| Refusal::new(ResponseError::UnacceptableCredential, reason);
    check_name(&one.name).map_err(unacceptable)?;
    let hash = Hash::from_wire(one.mechanism).ok_or_else(no_mechanism)?;
    let iterations = u32::try_from(one.iterations).unwrap_or(0);
    if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
        let message = format!("iterations are between {ITERATIONS_MIN} and {ITERATIONS_MAX}");
        return Err(unacceptable(&message));
    }
    let iterations = NonZeroU32::new(iterations).ok_or_else(|| unacceptable("iterations are missing"))?;
    if one.salt.is_empty() || one.salt.len() > 1_024 || one.salted_password.len() != hash.size() {
        return Err(unacceptable("the salt or the salted password has the wrong size"));
    }
    Ok(Change::Put(hash, Credential::from_salted(hash, &one.salted_password, one.salt.to_vec(), iterations)))
}

fn apply(users: &mut BTreeMap<String, Credentials>, user: &str, changes: Vec<Change>) -> Result<(), Refusal> {
    for change in changes {
        match change {
            Change::Put(hash, credential) => {
                users.entry(user.to_owned()).or_default().insert(hash, credential);
            }
            Change::Delete(hash) => {
                let missing = || Refusal::new(ResponseError::ResourceNotFound, "there is no such credential");
                let credentials = users.get_mut(user).ok_or_else(missing)?;
                credentials.remove(&hash).ok_or_else(missing)?;
                if credentials.is_empty() {
                    users.remove(user);
                }
            }
        }
    }
    Ok(())
}
