//! What can go wrong with an OPC UA server, as rules of a script.

use std::str::FromStr;
use std::time::Duration;

use opcua_types::StatusCode;

/// One kind of misbehaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers only after this long; what else comes over the connection waits with it.
    Delay(Duration),
    /// Ends the connection instead of answering.
    Close,
    /// Answers with this status and nothing else.
    Refuse(StatusCode),
    /// A notification is on its way and never arrives; the server still has it (Republish).
    Drop,
    /// A notification is on its way and never arrives, and the server does not have it any more.
    Lose,
    /// A notification comes twice, under the same number, where a second request for one is there.
    Duplicate,
    /// A notification comes after the one behind it.
    Reorder,
}

impl Fault {
    /// True for what happens to notifications, not to requests.
    fn is_of_notification(&self) -> bool {
        matches!(self, Self::Drop | Self::Lose | Self::Duplicate | Self::Reorder)
    }
}

/// When a fault strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    fault: Fault,
    /// Name of the service, as `CreateMonitoredItems`; empty for any.
    service: String,
    skip: u32,
    times: Option<u32>,
    one_in: u32,
    fits: u32,
}

impl Rule {
    /// Strikes whenever it can.
    pub fn every(fault: Fault) -> Self {
        Self { fault, service: String::new(), skip: 0, times: None, one_in: 1, fits: 0 }
    }

    /// Strikes so many times.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Lets so many pass first.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// Strikes one in so many.
    #[must_use]
    pub fn one_in(self, count: u32) -> Self {
        Self { one_in: count.max(1), ..self }
    }

    /// Strikes only requests of this service.
    #[must_use]
    pub fn service(self, service: &str) -> Self {
        Self { service: service.to_owned(), ..self }
    }
}

/// A rule as it is written on a command line: `delay=200@Read`, `drop/10`, `refuse=0x80250000@ActivateSession`.
impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, service) = text.split_once('@').unwrap_or((text, ""));
        let (rest, one_in) = match rest.split_once('/') {
            Some((rest, count)) => (rest, count.parse().map_err(|_| format!("{count:?} is no number of requests"))?),
            None => (rest, 1),
        };
        let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
        let fault = match name {
            "delay" => {
                let ms = if value.is_empty() { Ok(100) } else { value.parse() };
                Fault::Delay(Duration::from_millis(ms.map_err(|_| format!("{value:?} is no number of milliseconds"))?))
            }
            "close" => Fault::Close,
            "refuse" => {
                let code = u32::from_str_radix(value.trim_start_matches("0x"), 16);
                let code = code.ok().filter(|code| code >> 30 == 2);
                Fault::Refuse(StatusCode::from(
                    code.ok_or_else(|| format!("{value:?} is no bad status as 0x80250000"))?,
                ))
            }
            "drop" => Fault::Drop,
            "lose" => Fault::Lose,
            "duplicate" => Fault::Duplicate,
            "reorder" => Fault::Reorder,
            _ => return Err(format!("{name:?} is not one of {FAULTS}")),
        };
        Ok(Self::every(fault).service(service).one_in(one_in))
    }
}

/// Names a rule may begin with.
const FAULTS: &str = "delay, close, refuse, drop, lose, duplicate, reorder";

/// The rules of a server, first match wins.
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

    /// What to do with a request.
    pub(super) fn of_request(&mut self, service: &str) -> Option<Fault> {
        self.next(|rule| !rule.fault.is_of_notification() && (rule.service.is_empty() || rule.service == service))
    }

    /// What to do with a notification.
    pub(super) fn of_notification(&mut self) -> Option<Fault> {
        self.next(|rule| rule.fault.is_of_notification())
    }

    fn next(&mut self, fits: impl Fn(&Rule) -> bool) -> Option<Fault> {
        for rule in &mut self.rules {
            if rule.times == Some(0) || !fits(rule) {
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

    #[test]
    fn rules_of_a_command_line_strike_their_service() {
        let mut script = Script::default();
        for text in ["refuse=0x80250000@ActivateSession", "drop/2", "delay=5"] {
            script.push(text.parse().unwrap());
        }
        assert_eq!(script.of_request("ActivateSession"), Some(Fault::Refuse(StatusCode::BadSessionIdInvalid)));
        assert_eq!(script.of_request("Read"), Some(Fault::Delay(Duration::from_millis(5))));
        assert_eq!([script.of_notification(), script.of_notification()], [None, Some(Fault::Drop)]);
        for bad in ["", "late", "delay=x", "refuse=5", "refuse", "drop/x"] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }
}
