//! What a poll brings back: samples, and notes about how the poll went.
//!
//! A sample is owned and small, so that hours of it can wait in memory for the stream; the texts that are the same for
//! every sample of a tag stay in [`crate::adapter::Tag`].

use std::sync::Arc;
use std::time::Duration;

use model::{ClockState, Quality, Timestamp, flag, time_source};
use tokio::time::Instant;

use crate::adapter::Receipt;
use crate::letter::Letter;
use crate::notice::Notice;

/// Most reason codes a sample carries; further ones are not recorded, the worst always is.
pub const CODES_MAX: usize = 4;

/// The value of a sample.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// None; only with quality BAD.
    #[default]
    Null,
    /// Finite.
    Float(f64),
    Int(i64),
    Bool(bool),
    Text(Box<str>),
}

impl Value {
    /// As the records of the stream have it.
    pub fn as_model(&self) -> model::Value<'_> {
        match self {
            Self::Null => model::Value::Null,
            Self::Float(number) => model::Value::Float(*number),
            Self::Int(number) => model::Value::Int(*number),
            Self::Bool(flag) => model::Value::Bool(*flag),
            Self::Text(text) => model::Value::Text(text),
        }
    }
}

/// Quality and the codes behind it; can only get worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    quality: Quality,
    worst: Option<&'static str>,
    codes: [&'static str; CODES_MAX],
    count: u8,
}

impl Default for Verdict {
    fn default() -> Self {
        Self { quality: Quality::Good, worst: None, codes: [""; CODES_MAX], count: 0 }
    }
}

impl Verdict {
    /// GOOD so far.
    pub fn good() -> Self {
        Self::default()
    }

    /// BAD for one reason.
    pub fn bad(code: &'static str) -> Self {
        let mut verdict = Self::default();
        verdict.add(Quality::Bad, code);
        verdict
    }

    /// Takes a finding into account; the worst one sets the quality and its reason.
    pub fn add(&mut self, quality: Quality, code: &'static str) {
        if quality > self.quality || self.worst.is_none() {
            self.quality = self.quality.worse(quality);
            self.worst = Some(code);
        }
        let at = usize::from(self.count);
        if at < CODES_MAX && !self.codes().contains(&code) {
            self.codes[at] = code;
            self.count += 1;
        }
    }

    /// The worst quality found.
    pub fn quality(&self) -> Quality {
        self.quality
    }

    /// Code of the worst finding.
    pub fn reason(&self) -> Option<&'static str> {
        self.worst
    }

    /// Codes of all findings, in order.
    pub fn codes(&self) -> &[&'static str] {
        &self.codes[..usize::from(self.count)]
    }
}

/// Facts about a sample that are not its quality, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    pub const NONE: Self = Self(0);
    /// The first value after a subscription.
    pub const INITIAL: Self = Self(1);
    /// Kept by a broker for whoever subscribes.
    pub const RETAINED: Self = Self(2);
    /// Stored by the source and sent later.
    pub const HISTORICAL: Self = Self(4);
    pub const TRANSIENT: Self = Self(8);
    /// The source threw older values away.
    pub const OVERFLOW: Self = Self(16);
    /// Fetched from the source's store after an outage.
    pub const BACKFILL: Self = Self(32);

    const NAMES: [(Self, &str); 6] = [
        (Self::INITIAL, flag::INITIAL),
        (Self::RETAINED, flag::RETAINED),
        (Self::HISTORICAL, flag::HISTORICAL),
        (Self::TRANSIENT, flag::TRANSIENT),
        (Self::OVERFLOW, flag::OVERFLOW),
        (Self::BACKFILL, flag::BACKFILL),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if all of `other` are in this set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}

/// What some sources add to a sample; shared by the samples of one message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extra {
    /// Engineering unit as the source says it, where it differs from the tag's.
    pub unit: Option<Box<str>>,
    /// The stamp of the source as it came, where it cannot be used.
    pub device_time_raw: Option<Box<str>>,
    /// The value stands at a limit of its source: `low`, `high` or `constant`.
    pub limit: Option<&'static str>,
    /// Free texts.
    pub tags: Vec<(Box<str>, Box<str>)>,
}

/// One value of one tag.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Index of the tag.
    pub tag: usize,
    pub value: Value,
    /// State text of an enumerated value.
    pub label: Option<Arc<str>>,
    pub verdict: Verdict,
    /// When the answer was complete, or what the source stamped.
    pub device_time: Timestamp,
    /// Who stamped it, one of [`time_source`].
    pub time_source: &'static str,
    pub flags: Flags,
    pub extra: Option<Arc<Extra>>,
    /// When the sample was complete; set by the host.
    pub gateway_time: Timestamp,
    /// What the clock behind both times is worth; set by the host.
    pub clock_state: ClockState,
    /// The clock was set between this sample of the tag and the one before; set by the host.
    pub clock_step: bool,
    /// Number within the adapter's epoch; set by the host.
    pub seq: i64,
    /// Data was lost between this sample of the tag and the one before; set by the host.
    pub gap_before: bool,
    /// The undecoded value as hexadecimal, where it explains the verdict.
    pub raw: Option<Box<str>>,
    /// What the device said, where it explains the verdict.
    pub status: Option<Box<str>>,
}

impl Sample {
    /// A value without a finding.
    pub fn new(tag: usize, value: Value, device_time: Timestamp) -> Self {
        Self {
            tag,
            value,
            label: None,
            verdict: Verdict::good(),
            device_time,
            time_source: time_source::ACQUISITION,
            flags: Flags::NONE,
            extra: None,
            gateway_time: device_time,
            clock_state: ClockState::default(),
            clock_step: false,
            seq: 0,
            gap_before: false,
            raw: None,
            status: None,
        }
    }

    /// No value, for a reason.
    pub fn bad(tag: usize, code: &'static str, device_time: Timestamp) -> Self {
        Self { verdict: Verdict::bad(code), ..Self::new(tag, Value::Null, device_time) }
    }

    /// True if the device time is of the gateway's own clock, so that it follows when that is set.
    pub fn is_stamped_here(&self) -> bool {
        self.time_source == time_source::ACQUISITION || self.time_source == time_source::GATEWAY
    }

    /// Memory it takes while it waits, in bytes.
    pub fn bytes(&self) -> usize {
        let text = match &self.value {
            Value::Text(text) => text.len(),
            _ => 0,
        };
        let length = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        size_of::<Self>() + text + length(&self.raw) + length(&self.status)
    }
}

/// How one device fared in a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four facts that hold or not independently")]
pub struct DeviceNote {
    /// It was asked, or would have been but for its silence.
    pub asked: bool,
    /// It answered at least once, be it with a refusal.
    pub answered: bool,
    /// At least one of its tags has no value because of it.
    pub failed: bool,
    /// At least one of its addresses does not exist.
    pub address_invalid: bool,
}

/// The result of one poll; reused from poll to poll.
#[derive(Debug, Default)]
pub struct Cycle {
    /// At most one per tag.
    pub samples: Vec<Sample>,
    /// From request to answer.
    pub round_trips: Vec<Duration>,
    /// Names of reasons why bytes of the device were thrown away.
    pub discarded: Vec<&'static str>,
    /// One per device.
    pub devices: Vec<DeviceNote>,
    /// Input that could not be understood, with its exact bytes.
    pub letters: Vec<Letter>,
    /// What is to be told beside the values.
    pub notices: Vec<Notice>,
    /// To be settled when everything else in here is durable, and everything reported before it.
    pub receipt: Option<Receipt>,
    /// From this time on a faster group is due: the poll pauses after the request that is under way.
    pub pause_at: Option<Instant>,
    /// The poll has paused; asking again for the same group with this cycle goes on with it.
    pub is_paused: bool,
}

impl Cycle {
    /// Empty, for a number of devices.
    pub fn new(devices: usize) -> Self {
        Self { devices: vec![DeviceNote::default(); devices], ..Self::default() }
    }

    /// Empty again, keeping its memory.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.round_trips.clear();
        self.discarded.clear();
        self.devices.fill(DeviceNote::default());
        self.letters.clear();
        self.notices.clear();
        self.receipt = None;
        self.pause_at = None;
        self.is_paused = false;
    }

    /// True if a poll that can pause has to.
    pub fn must_pause(&self) -> bool {
        self.pause_at.is_some_and(|at| Instant::now() >= at)
    }

    /// True if there is nothing in it for the stream, nothing to count and nothing to settle.
    pub fn is_empty(&self) -> bool {
        let nothing = self.samples.is_empty() && self.letters.is_empty() && self.notices.is_empty();
        nothing && self.discarded.is_empty() && self.receipt.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::reason;

    #[test]
    fn the_worst_finding_names_the_reason() {
        let mut verdict = Verdict::good();
        assert_eq!((verdict.quality(), verdict.reason()), (Quality::Good, None));
        verdict.add(Quality::Suspect, reason::OUT_OF_SPAN);
        verdict.add(Quality::Suspect, reason::CLAMPED);
        assert_eq!((verdict.quality(), verdict.reason()), (Quality::Suspect, Some(reason::OUT_OF_SPAN)));
        verdict.add(Quality::Bad, reason::NAN_INF);
        verdict.add(Quality::Suspect, reason::CLAMPED);
        assert_eq!((verdict.quality(), verdict.reason()), (Quality::Bad, Some(reason::NAN_INF)));
        assert_eq!(verdict.codes(), [reason::OUT_OF_SPAN, reason::CLAMPED, reason::NAN_INF]);
    }
}
