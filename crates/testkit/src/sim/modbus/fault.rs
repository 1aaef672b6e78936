//! What a simulated device can do wrong, and when (MB-44).
//!
//! A [`Script`] is a list of rules; the first rule that fits a request and has not run out decides. A rule without a
//! number of times never runs out: it is the device's personality.

use std::str::FromStr;
use std::time::Duration;

use modbus::{Exception, Span, Table};

use super::Seen;

/// One way to misbehave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answer correctly, but this much later.
    Delay(Duration),
    /// Never answer this request.
    Drop,
    /// Add to the transaction id of the reply; a device that does not echo it.
    Transaction(u16),
    /// Reply in the name of another unit.
    Unit(u8),
    /// Reply with another function code.
    Function(u8),
    /// Reply with this many data bytes too few, and a byte count to match.
    Short(u8),
    /// Send each byte of the reply by itself, with a pause after it.
    Split(Duration),
    /// Send the reply in pieces of this many bytes, as a USB adapter does, with a pause after each.
    Chunks(usize, Duration),
    /// Send the reply with a wrong checksum, where the framing has one.
    Checksum,
    /// Send the request back before the reply, as a line that hears itself.
    Echo,
    /// Send the first half of the reply and no more.
    Half,
    /// Keep the reply back and send it in one piece with the next one.
    HoldForNext,
    /// Refuse.
    Exception(Exception),
    /// Refuse reads of more registers than this with "illegal value".
    SizeLimit(u16),
    /// Do not answer reads of more registers than this.
    Mute(u16),
    /// Send these bytes instead of a reply.
    Garbage(Vec<u8>),
    /// Close the connection by reset.
    Reset,
    /// Close the connection politely.
    Close,
    /// Keep the connection open and never look at it again.
    Freeze,
}

/// A fault and the requests it strikes.
#[derive(Debug, Clone)]
pub struct Rule {
    unit: Option<u8>,
    range: Option<(Table, Span)>,
    skip: u32,
    times: Option<u32>,
    one_in: u32,
    fits: u32,
    fault: Fault,
}

impl Fault {
    /// True if it strikes by the size of the read and this one is too large.
    pub(super) fn is_too_large(seen: &Seen, registers: u16) -> bool {
        seen.read().is_some_and(|read| !read.table().holds_bits() && read.count() > registers)
    }
}

impl Rule {
    /// Strikes every request, for ever.
    pub fn every(fault: Fault) -> Self {
        Self { unit: None, range: None, skip: 0, times: None, one_in: 1, fits: 0, fault }
    }

    /// Strikes this many requests and no more.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Lets this many fitting requests pass first.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// Strikes one in so many fitting requests.
    #[must_use]
    pub fn one_in(self, count: u32) -> Self {
        Self { one_in: count.max(1), ..self }
    }

    /// Strikes only requests to one unit.
    #[must_use]
    pub fn unit(self, unit: u8) -> Self {
        Self { unit: Some(unit), ..self }
    }

    /// Strikes only reads that touch a range.
    #[must_use]
    pub fn touching(self, table: Table, offset: u16, count: u16) -> Self {
        Self { range: Some((table, Span { offset, count })), ..self }
    }

    fn fits(&self, seen: &Seen) -> bool {
        let unit_fits = self.unit.is_none_or(|unit| unit == seen.unit);
        let range_fits = self.range.is_none_or(|(table, span)| {
            seen.read().is_some_and(|read| {
                read.table() == table && span.overlaps(Span { offset: read.offset(), count: read.count() })
            })
        });
        unit_fits && range_fits
    }
}

/// A rule as it is written on a command line: `delay=200`, `drop/10` for one in ten, `exception=11@5` for unit 5.
impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, unit) = match text.split_once('@') {
            Some((rest, unit)) => (rest, Some(unit.parse().map_err(|_| format!("{unit:?} is no unit"))?)),
            None => (text, None),
        };
        let (rest, one_in) = match rest.split_once('/') {
            Some((rest, count)) => (rest, count.parse().map_err(|_| format!("{count:?} is no number of requests"))?),
            None => (rest, 1),
        };
        let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
        let number = |what: &str, default: u64| match value {
            "" => Ok(default),
            value => value.parse::<u64>().map_err(|_| format!("{value:?} is no number of {what}")),
        };
        let small = |what: &str, default: u64| {
            u8::try_from(number(what, default)?).map_err(|_| format!("{value:?} is no number to 255"))
        };
        let fault = match name {
            "delay" => Fault::Delay(Duration::from_millis(number("milliseconds", 100)?)),
            "drop" => Fault::Drop,
            "transaction" => Fault::Transaction(u16::from(small("ids", 1)?)),
            "unit" => Fault::Unit(small("units", 99)?),
            "function" => Fault::Function(small("functions", 4)?),
            "short" => Fault::Short(small("bytes", 2)?),
            "split" => Fault::Split(Duration::from_millis(number("milliseconds", 0)?)),
            "chunks" => Fault::Chunks(16, Duration::from_millis(number("milliseconds", 16)?)),
            "checksum" => Fault::Checksum,
            "echo" => Fault::Echo,
            "half" => Fault::Half,
            "exception" => Fault::Exception(Exception(small("exceptions", 2)?)),
            "size" => Fault::SizeLimit(u16::from(small("registers", 50)?)),
            "mute" => Fault::Mute(u16::from(small("registers", 50)?)),
            "reset" => Fault::Reset,
            "close" => Fault::Close,
            "freeze" => Fault::Freeze,
            _ => return Err(format!("{name:?} is not one of {FAULTS}")),
        };
        Ok(Self { unit, ..Self::every(fault) }.one_in(one_in))
    }
}

/// Names a rule may begin with.
const FAULTS: &str = "delay, drop, transaction, unit, function, short, split, chunks, checksum, echo, half, exception, \
                      size, mute, reset, close, freeze";

/// The rules of a device, first match wins.
#[derive(Debug, Default)]
pub struct Script {
    rules: Vec<Rule>,
}

impl Script {
    /// Adds a rule behind the others.
    pub fn push(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    /// Forgets all rules.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// What to do with a request; uses up one time of the rule that fits.
    pub fn next(&mut self, seen: &Seen) -> Option<Fault> {
        for rule in &mut self.rules {
            if rule.times == Some(0) || !rule.fits(seen) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.fits += 1;
            if !rule.fits.is_multiple_of(rule.one_in) {
                continue;
            }
            if let Some(times) = &mut rule.times {
                *times -= 1;
            }
            return Some(rule.fault.clone());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(unit: u8, offset: u8) -> Seen {
        Seen { t_ms: 0, transaction: 1, unit, pdu: vec![3, 0, offset, 0, 2] }
    }

    #[test]
    fn rules_run_out_and_fall_through() {
        let mut script = Script::default();
        script.push(Rule::every(Fault::Drop).unit(1).after(1).times(2));
        script.push(Rule::every(Fault::Exception(Exception::BUSY)).touching(Table::HoldingRegister, 11, 5));
        assert_eq!(script.next(&seen(1, 0)), None);
        assert_eq!(script.next(&seen(2, 0)), None);
        assert_eq!(script.next(&seen(1, 0)), Some(Fault::Drop));
        assert_eq!(script.next(&seen(1, 10)), Some(Fault::Drop));
        assert_eq!(script.next(&seen(1, 10)), Some(Fault::Exception(Exception::BUSY)));
        assert_eq!(script.next(&seen(1, 9)), None);
        script.clear();
        assert_eq!(script.next(&seen(1, 10)), None);
        script.push("drop/3@2".parse().unwrap());
        let struck: Vec<bool> = (0..6).map(|_| script.next(&seen(2, 0)).is_some()).collect();
        assert_eq!(struck, [false, false, true, false, false, true]);
        assert_eq!(script.next(&seen(1, 0)), None);
    }

    #[test]
    fn rules_of_a_command_line() {
        let fault = |text: &str| text.parse::<Rule>().map(|rule| rule.fault);
        assert_eq!(fault("delay=250"), Ok(Fault::Delay(Duration::from_millis(250))));
        assert_eq!(fault("exception=11@5"), Ok(Fault::Exception(Exception(11))));
        assert_eq!(fault("checksum/4"), Ok(Fault::Checksum));
        for bad in ["", "late", "delay=x", "drop/x", "drop@x", "exception=300"] {
            assert!(fault(bad).is_err(), "{bad}");
        }
    }
}
