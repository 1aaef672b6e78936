//! Records as inputs of a window: readings, shorter windows, and events that end what a point's value holds (AGG-07).

use model::{Quality, Timestamp};
use pipeline::aggregate::{Input, Sample};
use stream::message::{Event, aggregate, event, telemetry};
use stream::{Schema, avro};

/// Silences of so many expected intervals are told as stale by the validator.
const STALE_INTERVALS: i64 = 3;

/// The input a record is; `None` when it is none, as most events are.
pub(super) fn decode(schema: Schema, body: &[u8], offset: i64) -> Result<Option<Sample<'_>>, avro::DecodeError> {
    match schema {
        Schema::Aggregate => window(body, offset).map(Some),
        Schema::Event => stop(body, offset),
        _ => reading(body, offset),
    }
}

fn window(body: &[u8], offset: i64) -> Result<Sample<'_>, avro::DecodeError> {
    let window = aggregate::decode(body)?;
    Ok(Sample {
        asset_id: window.asset_id,
        parameter: window.parameter,
        unit: window.unit,
        gateway_time: window.gateway_time,
        offset,
        is_event: false,
        input: Input::Child {
            start: window.window_start,
            kind: window.kind,
            partials: window.partials,
            partial: window.partial,
        },
    })
}

fn reading(body: &[u8], offset: i64) -> Result<Option<Sample<'_>>, avro::DecodeError> {
    let reading = telemetry::decode(body)?;
    if reading.value.is_null() || reading.quality == Quality::Bad {
        return Ok(None);
    }
    Ok(Some(Sample {
        asset_id: reading.asset_id,
        parameter: reading.parameter,
        unit: reading.unit,
        gateway_time: reading.gateway_time,
        offset,
        is_event: false,
        input: Input::Reading { value: reading.value, quality: reading.quality, time: reading.device_time },
    }))
}

fn stop(body: &[u8], offset: i64) -> Result<Option<Sample<'_>>, avro::DecodeError> {
    let event = event::decode(body)?;
    let (Some(parameter), Some((time, since))) = (event.parameter, stop_time(&event)) else { return Ok(None) };
    Ok(Some(Sample {
        asset_id: event.asset_id,
        parameter,
        unit: event.unit,
        gateway_time: event.gateway_time,
        offset,
        is_event: true,
        input: Input::Stop { time, since },
    }))
}

/// When the value ceased to hold, and since when nothing is known, by the device's clock: at once when it turned BAD; one expected interval behind the last
/// reading when readings stayed away.
fn stop_time(event: &Event<'_>) -> Option<(Timestamp, Timestamp)> {
    match event.event_type {
        "point.quality" => {
            (event.to_state == Some(Quality::Bad.as_str())).then_some((event.device_time, event.device_time))
        }
        "point.gap" => {
            let time = |name| Timestamp::parse_rfc3339(event.details.get(name)?);
            let (from, to) = (time("from")?, time("to")?);
            let expected: i64 = event.details.get("expected")?.parse().ok()?;
            let interval = (to.as_micros() - from.as_micros()) / expected.max(1);
            // the hole is told by the gateway's clock
            let ahead = event.device_time.as_micros() - event.gateway_time.as_micros();
            Some((from.plus_micros(interval.saturating_add(ahead)), from.plus_micros(ahead)))
        }
        "point.stale" => {
            let silence = event.gateway_time.as_micros() - event.occurred_after?.as_micros();
            Some((event.device_time.plus_micros(silence / STALE_INTERVALS), event.device_time))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{TextList, TextMap, Value};

    const T0: i64 = 1_769_680_800_000_000;

    fn event(event_type: &'static str) -> Event<'static> {
        Event {
            event_id: "e",
            event_type,
            asset_id: "a",
            parameter: Some("p"),
            from_state: None,
            to_state: None,
            severity: None,
            time_source: model::time_source::GATEWAY,
            occurred_after: None,
            edge: None,
            initial: false,
            missed_window: false,
            message: "",
            value: Value::Null,
            unit: None,
            quality: Quality::Good,
            quality_reason: None,
            device_time: Timestamp::from_micros(T0),
            gateway_time: Timestamp::from_micros(T0),
            epoch: 0,
            seq: 0,
            flags: TextList::default(),
            metadata: TextMap::default(),
            details: TextMap::default(),
        }
    }

    #[test]
    fn events_that_end_what_holds() {
        // AGG-07, AC-080
        let seconds = |stop: Option<(Timestamp, Timestamp)>| stop.map(|(time, _)| (time.as_micros() - T0) / 1_000_000);
        let turned = |to_state| seconds(stop_time(&Event { to_state: Some(to_state), ..event("point.quality") }));
        assert_eq!((turned("BAD"), turned("GOOD"), turned("SUSPECT")), (Some(0), None, None));
        let at = |seconds: i64| Timestamp::from_micros(T0 + seconds * 1_000_000);
        let (from, to) = (at(19).to_string(), at(40).to_string());
        let details = [("from", &*from), ("to", &*to), ("expected", "21"), ("received", "1")];
        let gap = Event {
            device_time: at(38),
            gateway_time: at(40),
            details: TextMap::Slice(&details),
            ..event("point.gap")
        };
        assert_eq!(
            seconds(stop_time(&gap)),
            Some(18),
            "a second behind the last reading, by a clock two seconds behind"
        );
        let stale = Event { occurred_after: Some(at(2)), gateway_time: at(32), ..event("point.stale") };
        assert_eq!(seconds(stop_time(&stale)), Some(10));
        assert_eq!(stop_time(&event("site.event")), None);
    }
}
