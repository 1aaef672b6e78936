//! Quotas from outside: DescribeClientQuotas and AlterClientQuotas, for users and client ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_client_quotas_request::EntryData as AlterEntry;
use kafka_protocol::messages::alter_client_quotas_response::EntityData as AlteredEntity;
use kafka_protocol::messages::alter_client_quotas_response::EntryData as AlteredEntry;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::text;
use crate::access::quotas::{Entity, Kind, Quota};
use crate::core::Core;
use crate::dispatch::Call;
use crate::topics::Refusal;

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
/// How a filter compares one part of a quota's entity.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

fn invalid(message: &str) -> Refusal {
    Refusal::new(ResponseError::InvalidRequest, message)
}

/// Whether a quota is what the filter asks for; in a strict one all parts of the quota must be named.
fn chosen(quota: &Quota, components: &[ComponentData], strict: bool) -> bool {
    let part = |kind: &str| if kind == USER { &quota.user } else { &quota.client_id };
    let named = components.iter().all(|component| match (component.match_type, part(&component.entity_type)) {
        (EXACT, Some(Entity::Named(name))) => component._match.as_ref().is_some_and(|wanted| **wanted == **name),
        (DEFAULT, Some(Entity::Default)) | (ANY, Some(_)) => true,
        _ => false,
    });
    let parts = usize::from(quota.user.is_some()) + usize::from(quota.client_id.is_some());
    named && (!strict || parts == components.len())
}

fn check_filter(components: &[ComponentData]) -> Result<(), Refusal> {
    for (at, component) in components.iter().enumerate() {
        if !matches!(component.entity_type.as_str(), USER | CLIENT_ID) {
            return Err(Refusal::new(ResponseError::UnsupportedVersion, "quotas are for user and client-id"));
        }
        if components[..at].iter().any(|other| other.entity_type == component.entity_type) {
            return Err(invalid("the filter names one kind of entity twice"));
        }
        let complete = match component.match_type {
            EXACT => component._match.is_some(),
            DEFAULT | ANY => component._match.is_none(),
            _ => false,
        };
        if !complete {
            return Err(invalid("the filter does not say what to match"));
        }
    }
    Ok(())
}

pub(crate) async fn describe(
    core: Arc<Core>,
    call: Call,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    if let Err(refusal) = check_filter(&request.components) {
        core.metrics.count_error(call.api, refusal.code.code());
        return DescribeClientQuotasResponse::default()
            .with_error_code(refusal.code.code())
            .with_error_message(Some(text(refusal.message)))
            .with_entries(None);
    }
    let kept = core.access.kept();
    let entries = kept.quotas.iter().filter(|quota| chosen(quota, &request.components, request.strict)).map(|quota| {
        let entity = |kind: &'static str, entity: &Option<Entity>| {
            let name = match entity.as_ref()? {
                Entity::Default => None,
                Entity::Named(name) => Some(text(name.clone())),
            };
            Some(EntityData::default().with_entity_type(StrBytes::from_static_str(kind)).with_entity_name(name))
        };
        let value = |(kind, value): (&Kind, &f64)| {
            ValueData::default().with_key(StrBytes::from_static_str(kind.name())).with_value(*value)
        };
        let entities = [entity(USER, &quota.user), entity(CLIENT_ID, &quota.client_id)];
        EntryData::default()
            .with_entity(entities.into_iter().flatten().collect())
            .with_values(quota.values.iter().map(value).collect())
    });
    DescribeClientQuotasResponse::default().with_entries(Some(entries.collect()))
}

pub(crate) async fn alter(core: Arc<Core>, call: Call, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in &request.entries {
        let altered = parse(entry).and_then(|(user, client_id, changes)| {
            if request.validate_only {
                return Ok(());
            }
            core.access.change(|kept| {
                apply(&mut kept.quotas, user, client_id, &changes);
                Ok(())
            })
        });
        let entity = entry.entity.iter().map(|entity| {
            let typed = AlteredEntity::default().with_entity_type(entity.entity_type.clone());
            typed.with_entity_name(entity.entity_name.clone())
        });
        let result = AlteredEntry::default().with_entity(entity.collect());
        entries.push(match altered {
            Ok(()) => result,
            Err(refusal) => {
                core.metrics.count_error(call.api, refusal.code.code());
                result.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
            }
        });
    }
    AlterClientQuotasResponse::default().with_entries(entries)
}

/// Whom an entry is for, and what it changes: `None` takes a value away.
type Parsed = (Option<Entity>, Option<Entity>, Vec<(Kind, Option<f64>)>);

fn parse(entry: &AlterEntry) -> Result<Parsed, Refusal> {
    let (mut user, mut client_id) = (None, None);
    for entity in &entry.entity {
        let place = match entity.entity_type.as_str() {
            USER => &mut user,
            CLIENT_ID => &mut client_id,
            _ => return Err(invalid("quotas are for user and client-id")),
        };
        let named = entity.entity_name.as_ref().map_or(Entity::Default, |name| Entity::Named(name.to_string()));
        if matches!(&named, Entity::Named(name) if name.is_empty() || name.len() > 255) {
            return Err(invalid("a name has 1 to 255 bytes"));
        }
        if place.replace(named).is_some() {
            return Err(invalid("the entity names one kind twice"));
        }
    }
    if user.is_none() && client_id.is_none() {
        return Err(invalid("the entity is missing"));
    }
    let change = |op: &kafka_protocol::messages::alter_client_quotas_request::OpData| {
        let kind = Kind::parse(&op.key)
            .ok_or_else(|| invalid("quotas are producer_byte_rate, consumer_byte_rate and request_percentage"))?;
        if op.remove {
            return Ok((kind, None));
        }
        if !op.value.is_finite() || op.value <= 0.0 {
            return Err(invalid("a quota is a number above zero"));
        }
        Ok((kind, Some(op.value)))
    };
    Ok((user, client_id, entry.ops.iter().map(change).collect::<Result<_, _>>()?))
}

fn apply(quotas: &mut Vec<Quota>, user: Option<Entity>, client_id: Option<Entity>, changes: &[(Kind, Option<f64>)]) {
    let found = quotas.iter().position(|quota| quota.user == user && quota.client_id == client_id);
    let mut quota = match found {
        Some(at) => quotas.remove(at),
        None => Quota { user, client_id, values: BTreeMap::new() },
    };
    for (kind, value) in changes {
        match value {
            Some(value) => quota.values.insert(*kind, *value),
            None => quota.values.remove(kind),
        };
    }
    if !quota.values.is_empty() {
        quotas.push(quota);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // STR-15
    #[test]
    fn values_are_put_and_taken_away() {
        let named = || Some(Entity::Named("ada".to_owned()));
        let mut quotas = Vec::new();
        apply(&mut quotas, named(), None, &[(Kind::ProducerByteRate, Some(5.0)), (Kind::ConsumerByteRate, Some(6.0))]);
        apply(&mut quotas, named(), Some(Entity::Default), &[(Kind::ProducerByteRate, Some(7.0))]);
        apply(&mut quotas, named(), None, &[(Kind::ConsumerByteRate, None)]);
        assert_eq!(quotas.len(), 2);
        let ada = quotas.iter().find(|quota| quota.client_id.is_none()).unwrap();
        assert_eq!(ada.values, BTreeMap::from([(Kind::ProducerByteRate, 5.0)]));
        apply(&mut quotas, named(), None, &[(Kind::ProducerByteRate, None)]);
        assert_eq!(quotas.len(), 1);
    }

    #[test]
    fn filters_choose_by_part_and_strictly() {
        let component = |kind: &'static str, match_type, name: Option<&'static str>| {
            ComponentData::default()
                .with_entity_type(StrBytes::from_static_str(kind))
                .with_match_type(match_type)
                .with_match(name.map(StrBytes::from_static_str))
        };
        let quota = |user, client_id| Quota { user, client_id, values: BTreeMap::new() };
        let ada = quota(Some(Entity::Named("ada".to_owned())), None);
        let both = quota(Some(Entity::Named("ada".to_owned())), Some(Entity::Default));
        let exact = [component(USER, EXACT, Some("ada"))];
        assert!(chosen(&ada, &exact, true) && chosen(&both, &exact, false) && !chosen(&both, &exact, true));
        assert!(chosen(&both, &[component(CLIENT_ID, DEFAULT, None)], false));
        assert!(!chosen(&ada, &[component(CLIENT_ID, ANY, None)], false));
        assert!(chosen(&ada, &[], false) && !chosen(&ada, &[], true));
        assert!(check_filter(&[component("ip", ANY, None)]).is_err());
        assert!(check_filter(&[component(USER, EXACT, None)]).is_err());
        assert!(check_filter(&[component(USER, ANY, None), component(USER, ANY, None)]).is_err());
    }
}
