//! What a simulated device can do wrong, and when (MB-44 as far as TCP goes).
//!
//! A [`Script`] is a list of rules; the first rule that fits a request and has not run out decides. A rule without a
//! number of times never runs out: it is the device's personality.

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
    /// Keep the reply back and send it in one piece with the next one.
    HoldForNext,
    /// Refuse.
    Exception(Exception),
    /// Refuse reads of more registers than this with "illegal value".
    SizeLimit(u16),
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
    fault: Fault,
}

impl Rule {
    /// Strikes every request, for ever.
    pub fn every(fault: Fault) -> Self {
        Self { unit: None, range: None, skip: 0, times: None, fault }
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
    }
}
