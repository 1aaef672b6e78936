//! From messages to samples: the mappings at work.
//!
//! Pure but for what it remembers. Laws: a message is taken once per mapping whose filter means its topic (MQ-03); a
//! payload that cannot be read becomes one dead letter with its exact bytes and harms nobody else (MQ-06); one bad field
//! harms no other field (MQ-12); samples of one message share one time unless a field has its own.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;

use model::{Quality, Timestamp, reason, time_source};
use tokio::time::Instant;

use super::json::{Document, Place, Scalar, Step};
use super::mapping::{ASSETS_MAX, Field, Payload, Retained, Stamp, Subscription};
use super::memory::Memory;
use super::packet::Message;
use super::points::{Nature, Points};
use super::time::Read;
use super::topic::{self, Meaning};
use super::value::{Converted, text_of};
use crate::letter::Letter;
use crate::sample::{Cycle, Extra, Flags, Sample, Value};

/// Topics whose meaning is remembered; when there are more, all are forgotten and found out again.
const ROUTES_MAX: usize = 20_000;
/// Readings of one message; a payload with more becomes a dead letter.
const READINGS_MAX: usize = 5_000;
/// A payload that is larger when unpacked becomes a dead letter.
const UNPACKED_MAX: u64 = 4 * 1024 * 1024;
/// Longest key and text of a user property that becomes a tag.
const TAG_KEY_MAX: usize = 64;
const TAG_TEXT_MAX: usize = 256;

/// Names under which input is counted that becomes no reading.
pub mod discard {
    pub const UNMATCHED: &str = "UNMATCHED_TOPIC";
    pub const MISSING_FIELD: &str = "MISSING_FIELD";
    pub const REPEATED: &str = "REPEATED_MESSAGE";
    pub const RETAINED_IGNORED: &str = "RETAINED_IGNORED";
    pub const RETAINED_CLEARED: &str = "RETAINED_CLEARED";
    pub const NOT_ALLOWED: &str = "ASSET_NOT_ALLOWED";
    pub const REPEATED_KEY: &str = "REPEATED_KEY";
    pub const TOO_LARGE: &str = "MESSAGE_TOO_LARGE";
    pub const DECODE_ERROR: &str = model::reason::DECODE_ERROR;
}

/// What a topic means for one subscription.
#[derive(Debug)]
struct Route {
    place: usize,
    asset: String,
    spelling: String,
    asset_path: Option<String>,
    parameter: Option<String>,
    /// By field: its tag, once it was seen.
    tags: Vec<Option<usize>>,
}

/// Why a topic leads nowhere for a subscription.
#[derive(Debug, Clone)]
enum Dead {
    Shape,
    Name(String),
    NotAllowed,
    Taken(String),
}

type Routes = Vec<Result<Route, (usize, Dead)>>;

/// The mappings of an adapter.
#[derive(Debug)]
pub struct Desk {
    subscriptions: Arc<[Subscription]>,
    asset_path: Option<String>,
    points: Points,
    routes: HashMap<String, Routes>,
    memory: Memory,
    /// The broker has forgotten the session, and nobody was told yet.
    lost: bool,
    /// By tag: something may be missing before its next sample.
    gaps: Vec<bool>,
}

/// Facts that hold for all samples of a message.
struct Facts<'m> {
    message: &'m Message,
    arrived: Timestamp,
    flags: Flags,
    extra: Option<Arc<Extra>>,
}

/// When a value was true, and what is to be said about it.
#[derive(Clone)]
struct When {
    time: Timestamp,
    source: &'static str,
    finding: Option<&'static str>,
    raw: Option<Box<str>>,
}

/// A message that cannot be read.
struct Poison {
    reason: &'static str,
    detail: String,
}

impl Desk {
    pub fn new(subscriptions: &[Subscription], asset_path: Option<String>) -> Self {
        Self {
            subscriptions: subscriptions.into(),
            asset_path,
            points: Points::new(ASSETS_MAX),
            routes: HashMap::new(),
            memory: Memory::default(),
            lost: false,
            gaps: Vec::new(),
        }
    }

    pub fn points(&self) -> &Points {
        &self.points
    }

    /// A connection was made; `lost` when the broker has forgotten what it should have kept.
    pub fn connected(&mut self, now: Instant, lost: bool) {
        self.memory.connected(now);
        if lost {
            self.lost = true;
            self.gaps.clear();
            self.gaps.resize(self.points.tags().len(), true);
        }
    }

    /// True once after a loss.
    pub fn take_loss(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    /// Takes a message that arrived at a time.
    pub fn take(&mut self, message: &Message, arrived: Timestamp, now: Instant, cycle: &mut Cycle) {
        if message.payload.is_empty() && message.retain {
            cycle.discarded.push(discard::RETAINED_CLEARED);
            return;
        }
        if self.memory.is_repeated(message, now) {
            cycle.discarded.push(discard::REPEATED);
            return;
        }
        let Some((topic, mut routes)) = self.routes.remove_entry(&message.topic).or_else(|| self.route(&message.topic))
        else {
            cycle.discarded.push(discard::UNMATCHED);
            return;
        };
        let subscriptions = Arc::clone(&self.subscriptions);
        // of several copies each says which subscriptions it is for; old sessions may speak of earlier settings
        let names = |place: usize| message.subscriptions.contains(&place);
        let named = routes.iter().any(|route| names(place_of(route)));
        let mut poison: Option<Poison> = None;
        for route in &mut routes {
            let place = place_of(route);
            if named && !names(place) {
                continue;
            }
            let subscription = &subscriptions[place];
            let outcome = match route {
                Ok(route) => self.follow(subscription, route, message, arrived, cycle),
                Err((_, Dead::Shape)) => {
                    cycle.discarded.push(discard::UNMATCHED);
                    Ok(())
                }
                Err((_, Dead::NotAllowed)) => {
                    cycle.discarded.push(discard::NOT_ALLOWED);
                    Ok(())
                }
                Err((_, Dead::Name(detail) | Dead::Taken(detail))) => {
                    Err(Poison { reason: reason::CONFIG_ERROR, detail: detail.clone() })
                }
            };
            if let Err(found) = outcome {
                poison.get_or_insert(found);
            }
        }
        self.routes.insert(topic, routes);
        if let Some(poison) = poison {
            cycle.discarded.push(discard::DECODE_ERROR);
            cycle.letters.push(letter(message, poison.reason, poison.detail));
        }
    }

    /// Finds out what a topic means; `None` when no subscription means it.
    fn route(&mut self, topic: &str) -> Option<(String, Routes)> {
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        let subscriptions = Arc::clone(&self.subscriptions);
        let meant = subscriptions.iter().enumerate().filter(|(_, one)| topic::matches(&one.filter, topic));
        let routes: Routes = meant
            .map(|(place, subscription)| self.route_of(place, subscription, topic).map_err(|dead| (place, dead)))
            .collect();
        (!routes.is_empty()).then(|| (topic.to_owned(), routes))
    }

    fn route_of(&self, place: usize, subscription: &Subscription, topic: &str) -> Result<Route, Dead> {
        let said = match &subscription.template {
            Some(template) => template.read(topic).ok_or(Dead::Shape)?,
            None => Vec::new(),
        };
        let level = |wanted| said.iter().find(|(meaning, _)| *meaning == wanted).map(|(_, text)| *text);
        let normal = |text: &str| {
            let name = model::ids::normalise(text);
            name.map_err(|invalid| {
                Dead::Name(format!("{:?} in the topic is no name: {}", invalid.name, invalid.reason))
            })
        };
        let (asset, spelling) = match level(Meaning::Asset) {
            Some(text) => (normal(text)?, text.to_owned()),
            None => {
                let asset = subscription.asset_id.clone().unwrap_or_default();
                (asset.clone(), asset)
            }
        };
        let fits = |globs: &[String]| globs.iter().any(|glob| ::config::rules::matches(glob, &asset));
        if (!subscription.allow.is_empty() && !fits(&subscription.allow)) || fits(&subscription.deny) {
            return Err(Dead::NotAllowed);
        }
        if self.points.is_taken(&asset, &spelling) {
            return Err(Dead::Taken(format!("another topic has brought the asset {asset:?}, in another spelling")));
        }
        let mut levels: Vec<(Meaning, &str)> =
            said.iter().copied().filter(|(meaning, _)| *meaning < Meaning::Asset).collect();
        levels.sort_unstable_by_key(|(meaning, _)| *meaning);
        let path: Vec<String> = levels.iter().filter_map(|(_, text)| model::ids::normalise(text).ok()).collect();
        let asset_path = if path.is_empty() { self.asset_path.clone() } else { Some(path.join("/")) };
        Ok(Route {
            place,
            asset,
            spelling,
            asset_path: asset_path.map(|path| path.chars().take(512).collect()),
            parameter: level(Meaning::Parameter).map(normal).transpose()?,
            tags: vec![None; subscription.fields.len()],
        })
    }

    /// One mapping of one message.
    fn follow(
        &mut self,
        subscription: &Subscription,
        route: &mut Route,
        message: &Message,
        arrived: Timestamp,
        cycle: &mut Cycle,
    ) -> Result<(), Poison> {
        if message.retain && subscription.retained == Retained::Ignore {
            cycle.discarded.push(discard::RETAINED_IGNORED);
            return Ok(());
        }
        let unpacked;
        let bytes: &[u8] = if subscription.gzip {
            unpacked = unpack(&message.payload)?;
            &unpacked
        } else {
            &message.payload
        };
        let documents = documents(subscription, bytes)?;
        let flags = match (message.retain, subscription.retained) {
            (true, Retained::Use) => Flags::RETAINED,
            (true, _) => Flags::RETAINED.and(Flags::INITIAL),
            _ => Flags::NONE,
        };
        let facts = Facts { message, arrived, flags, extra: extra(message, subscription.shared) };
        // a mapping that finds too much, or no room for a new point, brings nothing rather than half
        let before = cycle.samples.len();
        for document in &documents {
            cycle.discarded.extend((0..document.repeated).map(|_| discard::REPEATED_KEY));
            let taken = self.document(subscription, route, document, &facts, cycle);
            if let Err(poison) = taken {
                cycle.samples.truncate(before);
                return Err(poison);
            }
            if cycle.samples.len() - before > READINGS_MAX {
                cycle.samples.truncate(before);
                let detail = format!("it holds more than {READINGS_MAX} readings");
                return Err(Poison { reason: reason::DECODE_ERROR, detail });
            }
        }
        Ok(())
    }

    fn document(
        &mut self,
        subscription: &Subscription,
        route: &mut Route,
        document: &Document<'_>,
        facts: &Facts<'_>,
        cycle: &mut Cycle,
    ) -> Result<(), Poison> {
        let when = when(document, Place::ROOT, subscription.stamp.as_ref(), facts);
        for (number, field) in subscription.fields.iter().enumerate() {
            match &field.in_each {
                None => {
                    let Some(place) = document.find(Place::ROOT, &field.path) else {
                        cycle.discarded.push(discard::MISSING_FIELD);
                        continue;
                    };
                    let known = route.tags.get(number).copied().flatten();
                    let tag = match known {
                        Some(tag) => tag,
                        None => {
                            let parameter = name_of(field, route, None).map_err(|invalid| no_name(&invalid))?;
                            let tag = self.tag(route, &parameter, field, subscription)?;
                            route.tags[number] = Some(tag);
                            tag
                        }
                    };
                    let own = field.stamp.as_ref().map(|stamp| self::when(document, Place::ROOT, Some(stamp), facts));
                    self.sample(tag, document, Place::ROOT, place, field, own.as_ref().unwrap_or(&when), facts, cycle);
                }
                Some(tail) => {
                    let Some(list) = document.find(Place::ROOT, &field.path).filter(|list| document.is_list(*list))
                    else {
                        cycle.discarded.push(discard::MISSING_FIELD);
                        continue;
                    };
                    for (index, (_, element)) in document.children(list).enumerate() {
                        let Some(place) = document.find(element, tail) else {
                            cycle.discarded.push(discard::MISSING_FIELD);
                            continue;
                        };
                        let named = match &field.name {
                            Some(path) => {
                                let said = document.find(element, path).and_then(|place| document.scalar(place));
                                let Some(said) = said else {
                                    cycle.discarded.push(discard::MISSING_FIELD);
                                    continue;
                                };
                                text_of(said)
                            }
                            None => index.to_string(),
                        };
                        let parameter = name_of(field, route, Some(&named)).map_err(|invalid| no_name(&invalid))?;
                        let tag = self.tag(route, &parameter, field, subscription)?;
                        let own = field.stamp.as_ref().map(|stamp| self::when(document, element, Some(stamp), facts));
                        self.sample(tag, document, element, place, field, own.as_ref().unwrap_or(&when), facts, cycle);
                    }
                }
            }
        }
        Ok(())
    }

    fn tag(
        &mut self,
        route: &Route,
        parameter: &str,
        field: &Field,
        subscription: &Subscription,
    ) -> Result<usize, Poison> {
        if self.points.is_taken(&route.asset, &route.spelling) {
            let detail = format!("another topic has brought the asset {:?}, in another spelling", route.asset);
            return Err(Poison { reason: reason::CONFIG_ERROR, detail });
        }
        let nature = || Nature {
            asset_path: route.asset_path.clone(),
            unit: field.unit.clone(),
            value_type: field.conversion.value_type,
            classification: field.classification,
            source_ref: format!("mqtt:{}", subscription.filter).chars().take(256).collect(),
        };
        self.points.tag(&route.asset, &route.spelling, parameter, nature).map_err(|reason| Poison {
            reason,
            detail: format!("it would bring the point {}/{parameter}, and there is room for no other", route.asset),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the place, the field and the facts of the message")]
    fn sample(
        &mut self,
        tag: usize,
        document: &Document<'_>,
        around: Place,
        place: Place,
        field: &Field,
        when: &When,
        facts: &Facts<'_>,
        cycle: &mut Cycle,
    ) {
        let converted = match document.scalar(place) {
            Some(scalar) => field.conversion.convert(scalar),
            None => Converted::bad(reason::TYPE_MISMATCH, None),
        };
        let message = facts.message;
        let stamped = when.source == time_source::DEVICE;
        if stamped && message.qos > 0 && self.memory.is_known(tag, when.time, message.dup) {
            cycle.discarded.push(discard::REPEATED);
            return;
        }
        let mut sample = Sample {
            label: converted.label,
            verdict: converted.verdict,
            raw: converted.raw,
            time_source: when.source,
            flags: facts.flags,
            extra: facts.extra.clone(),
            gap_before: self.gaps.get_mut(tag).is_some_and(std::mem::take),
            ..Sample::new(tag, converted.value, when.time)
        };
        if let Some(code) = when.finding {
            sample.verdict.add(Quality::Uncertain, code);
        }
        if message.retain && !stamped {
            sample.verdict.add(Quality::Uncertain, reason::RETAINED_NO_TIME);
        }
        let said = |path: &Option<Vec<Step>>| {
            path.as_ref().and_then(|path| document.find(around, path)).and_then(|place| document.scalar(place))
        };
        if let Some(quality) = said(&field.quality_path) {
            doubt(&mut sample, quality);
        }
        let unit = said(&field.unit_path).map(text_of).filter(|unit| unit.len() <= 32);
        if unit.is_some() || when.raw.is_some() {
            let mut extra = sample.extra.as_deref().cloned().unwrap_or_default();
            extra.unit = unit.map(Into::into);
            extra.device_time_raw.clone_from(&when.raw);
            sample.extra = Some(Arc::new(extra));
        }
        cycle.samples.push(sample);
    }
}

fn place_of(route: &Result<Route, (usize, Dead)>) -> usize {
    match route {
        Ok(route) => route.place,
        Err((place, _)) => *place,
    }
}

fn no_name(invalid: &model::ids::InvalidName) -> Poison {
    Poison { reason: reason::CONFIG_ERROR, detail: format!("{invalid}") }
}

/// The point's name: as set, as the topic says, as an element says.
fn name_of(field: &Field, route: &Route, element: Option<&str>) -> Result<String, model::ids::InvalidName> {
    let base = match (&field.parameter, &route.parameter) {
        (Some(text), Some(level)) if text.contains("{param}") => Some(Cow::Owned(text.replace("{param}", level))),
        (Some(text), _) => Some(Cow::Borrowed(text.as_str())),
        (None, level) => level.as_deref().map(Cow::Borrowed),
    };
    match (base, element) {
        (Some(base), Some(element)) => model::ids::normalise(&format!("{base}.{element}")),
        (Some(base), None) => model::ids::normalise(&base),
        (None, element) => model::ids::normalise(element.unwrap_or_default()),
    }
}

/// The payload as trees: one, or one for each line of a table.
fn documents<'p>(subscription: &Subscription, bytes: &'p [u8]) -> Result<Vec<Document<'p>>, Poison> {
    let poison = |detail: String| Poison { reason: reason::DECODE_ERROR, detail };
    let text = || {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        std::str::from_utf8(bytes).map_err(|error| poison(format!("not UTF-8 from byte {} on", error.valid_up_to())))
    };
    match &subscription.payload {
        Payload::Json => Ok(vec![Document::parse(bytes).map_err(|fault| poison(fault.to_string()))?]),
        Payload::Plain => Ok(vec![Document::of(Scalar::Text(text()?.trim().into()))]),
        Payload::Csv { delimiter, header } => super::csv::rows(text()?, *delimiter, *header).map_err(poison),
        Payload::Binary => {
            let mut fields = Vec::with_capacity(subscription.fields.len());
            for layout in subscription.fields.iter().filter_map(|field| field.layout.as_ref()) {
                let Some(scalar) = layout.decode(bytes) else {
                    return Err(poison(format!("{} bytes end before byte {}", bytes.len(), layout.offset)));
                };
                fields.push((Cow::Owned(layout.offset.to_string()), scalar));
            }
            Ok(vec![Document::of_fields(fields.into_iter())])
        }
    }
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, Poison> {
    let poison = |detail: &str| Poison { reason: reason::DECODE_ERROR, detail: detail.to_owned() };
    let mut out = Vec::new();
    let read = flate2::read::GzDecoder::new(bytes).take(UNPACKED_MAX + 1).read_to_end(&mut out);
    if read.is_err() {
        return Err(poison("it cannot be unpacked"));
    }
    if out.len() as u64 > UNPACKED_MAX { Err(poison("it is larger than 4 MiB when unpacked")) } else { Ok(out) }
}

/// The time of a value by the stamp that is declared for it.
fn when(document: &Document<'_>, around: Place, stamp: Option<&Stamp>, facts: &Facts<'_>) -> When {
    let arrived = |source, finding, raw| When { time: facts.arrived, source, finding, raw };
    // nobody promised a time, so the moment of arrival is the device's
    let Some(stamp) = stamp else { return arrived(time_source::ACQUISITION, None, None) };
    let said = document.find(around, &stamp.path).and_then(|place| document.scalar(place));
    let Some(said) = said.filter(|said| **said != Scalar::Null) else {
        return arrived(time_source::GATEWAY, Some(reason::DEVICE_TIME_MISSING), None);
    };
    let text = match said {
        Scalar::Number(text) => Cow::Borrowed(*text),
        Scalar::Text(text) => Cow::Borrowed(&**text),
        other => Cow::Owned(text_of(other)),
    };
    match stamp.clockwork.read(&text) {
        Read::At(time) => When { time, source: time_source::DEVICE, finding: None, raw: None },
        Read::Ambiguous(time) => When {
            time,
            source: time_source::DEVICE,
            finding: Some(reason::TIME_AMBIGUOUS),
            raw: Some(text.chars().take(64).collect::<String>().into()),
        },
        Read::Unusable => arrived(
            time_source::GATEWAY,
            Some(reason::DEVICE_TIME_INVALID),
            Some(text.chars().take(64).collect::<String>().into()),
        ),
    }
}

/// What the source says of its own value: words, the numbers of OPC, or a truth.
fn doubt(sample: &mut Sample, said: &Scalar<'_>) {
    let text = text_of(said);
    let number = text.parse::<u16>().ok();
    let quality = match (text.to_ascii_lowercase().as_str(), number) {
        ("good" | "ok" | "true", _) | (_, Some(192..=255)) => return,
        ("bad" | "error" | "false", _) | (_, Some(0..=63)) => Quality::Bad,
        _ => Quality::Uncertain,
    };
    if quality == Quality::Bad {
        let value = std::mem::take(&mut sample.value);
        if value != Value::Null && sample.raw.is_none() {
            sample.raw = Some(shown(&value));
        }
        sample.label = None;
        sample.verdict.add(Quality::Bad, reason::SERVER_BAD);
    } else {
        sample.verdict.add(Quality::Uncertain, reason::SERVER_UNCERTAIN);
    }
    sample.status = Some(text.chars().take(64).collect::<String>().into());
}

/// A value in place of which there is none, for the person who looks.
pub(super) fn shown(value: &Value) -> Box<str> {
    let text = match value {
        Value::Null => String::new(),
        Value::Float(number) => number.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Text(text) => text.chars().take(64).collect(),
    };
    text.into()
}

fn extra(message: &Message, shared: bool) -> Option<Arc<Extra>> {
    if message.user.is_empty() && !shared {
        return None;
    }
    let fits = |(key, text): &&(String, String)| key.len() <= TAG_KEY_MAX && text.len() <= TAG_TEXT_MAX;
    let clean =
        |text: &str| -> Box<str> { text.chars().filter(|letter| !letter.is_control()).collect::<String>().into() };
    let mut tags: Vec<(Box<str>, Box<str>)> =
        message.user.iter().filter(fits).map(|(key, text)| (clean(key), clean(text))).collect();
    if shared {
        // MQ-09: others read the same subscription, so what is here is neither whole nor in order
        tags.truncate(super::config::USER_PROPERTIES_MAX - 1);
        tags.push(("unordered".into(), "shared subscription".into()));
    }
    Some(Arc::new(Extra { tags, ..Extra::default() }))
}

/// A dead letter with the exact bytes of a message.
pub(super) fn letter(message: &Message, reason: &'static str, detail: String) -> Letter {
    let mut letter = Letter::new(reason, detail, format!("mqtt:{}", message.topic), message.payload.to_vec());
    letter.headers.push(("mqtt-topic", message.topic.clone()));
    letter.headers.push(("mqtt-qos", message.qos.to_string()));
    letter.headers.push(("mqtt-retain", message.retain.to_string()));
    letter.headers.extend(message.content_type.clone().map(|text| ("mqtt-content-type", text)));
    letter
}
