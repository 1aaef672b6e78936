//! Quotas of users and clients: which one applies, and what is left of it.
//!
//! As in Apache Kafka the most particular quota applies: of this user with this client, of this user, of any user, of
//! this client, of any client. A quota for "any" is each one's own, not shared.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::quota::Bucket;
use crate::limits::QUOTA_BUCKETS_MAX;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Bytes per second a client may send in Produce requests.
    ProducerByteRate,
    /// Bytes per second of records a client may be sent.
    ConsumerByteRate,
    /// Time of one processor, in percent, that requests of a client may take.
    RequestPercentage,
}

impl Kind {
    const ALL: [Self; 3] = [Self::ProducerByteRate, Self::ConsumerByteRate, Self::RequestPercentage];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ProducerByteRate => "producer_byte_rate",
            Self::ConsumerByteRate => "consumer_byte_rate",
            Self::RequestPercentage => "request_percentage",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The amount per second that a value allows.
    fn rate(self, value: f64) -> f64 {
        if self == Self::RequestPercentage { value / 100.0 } else { value }
    }
}

/// Whom a quota is for, in one of its two parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entity {
    /// Everybody who has no quota of their own.
    Default,
    Named(String),
}

/// One quota as it is kept; one of both parts is there at least.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quota {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<Entity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<Entity>,
    pub(crate) values: BTreeMap<Kind, f64>,
}

/// The quota that applies to a user and its client: its rate, and which of both names share a bucket.
fn applying(quotas: &[Quota], kind: Kind, user: &str, client: &str) -> Option<(f64, bool, bool)> {
    let rank = |entity: &Option<Entity>, name: &str| match entity {
        None => Some(0),
        Some(Entity::Default) => Some(1),
        Some(Entity::Named(named)) if named == name => Some(2),
        Some(Entity::Named(_)) => None,
    };
    let fitting = quotas.iter().filter_map(|quota| {
        let value = quota.values.get(&kind)?;
        let (by_user, by_client) = (rank(&quota.user, user)?, rank(&quota.client_id, client)?);
        Some(((by_user, by_client), kind.rate(*value)))
    });
    let ((by_user, by_client), rate) = fitting.max_by_key(|(rank, _)| *rank)?;
    Some((rate, by_user > 0, by_client > 0))
}

type Key = (Kind, Option<String>, Option<String>);

#[derive(Debug, Default)]
struct Inner {
    quotas: Vec<Quota>,
    buckets: HashMap<Key, (Bucket, f64)>,
}

/// Quotas in force and what everybody has taken.
#[derive(Debug)]
pub(crate) struct Quotas {
    /// There is one at least; without any, requests pay nothing for them.
    any: AtomicBool,
    begun: Instant,
    inner: Mutex<Inner>,
}

impl Quotas {
    pub(crate) fn new(quotas: &[Quota]) -> Self {
        let new = Self { any: AtomicBool::new(false), begun: Instant::now(), inner: Mutex::default() };
        new.replace(quotas);
        new
    }

    /// Puts other quotas in force; everybody begins with full credit.
    pub(crate) fn replace(&self, quotas: &[Quota]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.quotas != quotas {
            *inner = Inner { quotas: quotas.to_vec(), buckets: HashMap::new() };
        }
        self.any.store(!quotas.is_empty(), Ordering::Relaxed);
    }

    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Takes an amount from whatever quota applies; says how long the client has to wait.
    pub(crate) fn take(&self, kind: Kind, principal: &str, client: &str, amount: f64) -> Duration {
        if !self.any() {
            return Duration::ZERO;
        }
        let user = principal.strip_prefix("User:").unwrap_or(principal);
        let now = self.begun.elapsed();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((rate, by_user, by_client)) = applying(&inner.quotas, kind, user, client) else {
            return Duration::ZERO;
        };
        if inner.buckets.len() >= QUOTA_BUCKETS_MAX {
            inner.buckets.retain(|_, (bucket, rate)| !bucket.rested(*rate, now));
            if inner.buckets.len() >= QUOTA_BUCKETS_MAX {
                inner.buckets.clear();
            }
        }
        let key = (kind, by_user.then(|| user.to_owned()), by_client.then(|| client.to_owned()));
        let (bucket, _) = inner.buckets.entry(key).or_insert_with(|| (Bucket::full(rate, now), rate));
        bucket.take(amount, rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(user: Option<&str>, client: Option<&str>, value: f64) -> Quota {
        let entity = |name: Option<&str>| match name {
            None => None,
            Some("*") => Some(Entity::Default),
            Some(name) => Some(Entity::Named(name.to_owned())),
        };
        let values = BTreeMap::from([(Kind::ProducerByteRate, value)]);
        Quota { user: entity(user), client_id: entity(client), values }
    }

    // STR-15: the order of Apache Kafka
    #[test]
    fn the_most_particular_quota_applies() {
        let mut quotas = vec![
            quota(None, Some("*"), 1.0),
            quota(None, Some("c"), 2.0),
            quota(Some("*"), None, 3.0),
            quota(Some("*"), Some("*"), 4.0),
            quota(Some("*"), Some("c"), 5.0),
            quota(Some("u"), None, 6.0),
            quota(Some("u"), Some("*"), 7.0),
            quota(Some("u"), Some("c"), 8.0),
        ];
        for expected in [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0] {
            assert_eq!(applying(&quotas, Kind::ProducerByteRate, "u", "c").unwrap().0, expected);
            quotas.pop();
        }
        assert_eq!(applying(&quotas, Kind::ProducerByteRate, "u", "c"), None);
        assert_eq!(applying(&[quota(Some("v"), None, 1.0)], Kind::ProducerByteRate, "u", "c"), None);
        assert_eq!(applying(&[quota(Some("u"), None, 1.0)], Kind::ConsumerByteRate, "u", "c"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_has_a_bucket_of_their_own_and_their_number_is_limited() {
        let quotas = Quotas::new(&[quota(None, Some("*"), 10.0)]);
        let take = |client: &str, amount| quotas.take(Kind::ProducerByteRate, "User:u", client, amount);
        assert_eq!(take("a", 20.0), Duration::from_secs(1));
        assert_eq!(take("b", 10.0), Duration::ZERO);
        for number in 0..QUOTA_BUCKETS_MAX + 5 {
            take(&number.to_string(), 1.0);
        }
        assert!(quotas.inner.lock().unwrap().buckets.len() <= QUOTA_BUCKETS_MAX);
        quotas.replace(&[]);
        assert_eq!(take("a", 1e9), Duration::ZERO);
    }
}
