//! What can go wrong with an MQTT broker, as rules of a script.

use std::str::FromStr;
use std::time::Duration;

/// One kind of misbehaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Does what a packet asks only after this long.
    Delay(Duration),
    /// Ends the connection instead of doing what a packet asks.
    Close,
    /// Refuses a greeting with this return code: 2 client id, 3 not available, 4 and 5 login.
    Refuse(u8),
    /// Forgets the session at a greeting: session-present is 0 where it was expected.
    Forget,
    /// Refuses a subscription (0x80).
    Subscription,
    /// Distributes each message so many times, each time as a new one.
    Flood(u32),
    /// Sends a message of quality of service 1 twice: the second time marked as a duplicate, under the same id.
    Duplicate,
    /// Distributes a message and never acknowledges it.
    LoseAck,
    /// Does not hear an acknowledgement: the message comes again after the next reconnect.
    Deaf,
    /// Leaves a ping unanswered.
    Mute,
}

/// What a client asks; each fault strikes one kind of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// CONNECT.
    Greeting,
    /// SUBSCRIBE, once for each filter.
    Subscription,
    /// PUBLISH.
    Message,
    /// PUBACK of a message we sent.
    Ack,
    /// PINGREQ.
    Ping,
    /// Everything else.
    Other,
}

impl Fault {
    fn strikes(&self, asked: Asked) -> bool {
        match self {
            Self::Delay(_) => true,
            Self::Close => asked != Asked::Greeting,
            Self::Refuse(_) | Self::Forget => asked == Asked::Greeting,
            Self::Subscription => asked == Asked::Subscription,
            Self::Flood(_) | Self::LoseAck | Self::Duplicate => asked == Asked::Message,
            Self::Deaf => asked == Asked::Ack,
            Self::Mute => asked == Asked::Ping,
        }
    }
}

/// When a fault strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    fault: Fault,
    /// Beginning of the client's name.
    client: String,
    /// Filter or topic it is about; empty for all.
    topic: String,
    skip: u32,
    times: Option<u32>,
    one_in: u32,
    fits: u32,
}

impl Rule {
    /// Strikes whenever it can.
    pub fn every(fault: Fault) -> Self {
        Self { fault, client: String::new(), topic: String::new(), skip: 0, times: None, one_in: 1, fits: 0 }
    }

    /// Strikes so many times.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Lets so many packets pass first.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// Strikes one in so many packets.
    #[must_use]
    pub fn one_in(self, count: u32) -> Self {
        Self { one_in: count.max(1), ..self }
    }

    /// Strikes only clients whose name begins so.
    #[must_use]
    pub fn client(self, client: &str) -> Self {
        Self { client: client.to_owned(), ..self }
    }

    /// Strikes only what is about this topic or filter.
    #[must_use]
    pub fn topic(self, topic: &str) -> Self {
        Self { topic: topic.to_owned(), ..self }
    }
}

/// A rule as it is written on a command line: `delay=200`, `close/100` for one in a hundred, `suback@sf-` for clients
/// whose name begins with `sf-`.
impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, client) = text.split_once('@').unwrap_or((text, ""));
        let (rest, one_in) = match rest.split_once('/') {
            Some((rest, count)) => (rest, count.parse().map_err(|_| format!("{count:?} is no number of packets"))?),
            None => (rest, 1),
        };
        let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
        let number = |what: &str, default: u32| match value {
            "" => Ok(default),
            value => value.parse::<u32>().map_err(|_| format!("{value:?} is no number of {what}")),
        };
        let fault = match name {
            "delay" => Fault::Delay(Duration::from_millis(number("milliseconds", 100)?.into())),
            "close" => Fault::Close,
            "refuse" => match u8::try_from(number("return codes", 3)?) {
                Ok(code) if matches!(code, 2..=5) => Fault::Refuse(code),
                _ => return Err(format!("{value:?} is no return code of 2 to 5")),
            },
            "forget" => Fault::Forget,
            "suback" => Fault::Subscription,
            "flood" => Fault::Flood(number("messages", 100)?.min(FLOOD_MAX)),
            "duplicate" => Fault::Duplicate,
            "puback" => Fault::LoseAck,
            "deaf" => Fault::Deaf,
            "mute" => Fault::Mute,
            _ => return Err(format!("{name:?} is not one of {FAULTS}")),
        };
        Ok(Self::every(fault).client(client).one_in(one_in))
    }
}

/// Names a rule may begin with.
const FAULTS: &str = "delay, close, refuse, forget, suback, flood, duplicate, puback, deaf, mute";
/// Copies one message may become; more are cut to this.
const FLOOD_MAX: u32 = 10_000;

/// The rules of a broker, first match wins.
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

    /// What to do with a packet; uses up one time of the rule that fits.
    pub fn next(&mut self, client: &str, asked: Asked, topic: &str) -> Option<Fault> {
        for rule in &mut self.rules {
            let fits = rule.fault.strikes(asked)
                && client.starts_with(&rule.client)
                && (rule.topic.is_empty() || rule.topic == topic);
            if rule.times == Some(0) || !fits {
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
    fn rules_strike_what_they_are_about() {
        let mut script = Script::default();
        script.push(Rule::every(Fault::Subscription).topic("a/#").times(1));
        script.push("puback/2@sf-".parse().unwrap());
        assert_eq!(script.next("sf-1", Asked::Subscription, "b"), None);
        assert_eq!(script.next("sf-1", Asked::Subscription, "a/#"), Some(Fault::Subscription));
        assert_eq!(script.next("sf-1", Asked::Subscription, "a/#"), None);
        let struck: Vec<bool> = (0..4).map(|_| script.next("sf-1", Asked::Message, "t").is_some()).collect();
        assert_eq!(struck, [false, true, false, true]);
        assert_eq!(script.next("other", Asked::Message, "t"), None);
        assert_eq!(script.next("sf-1", Asked::Ping, ""), None);
    }

    #[test]
    fn rules_of_a_command_line() {
        let fault = |text: &str| text.parse::<Rule>().map(|rule| rule.fault);
        assert_eq!(fault("delay=250"), Ok(Fault::Delay(Duration::from_millis(250))));
        assert_eq!(fault("refuse=5@sf"), Ok(Fault::Refuse(5)));
        assert_eq!(fault("flood=3/10"), Ok(Fault::Flood(3)));
        for bad in ["", "late", "delay=x", "close/x", "refuse=9"] {
            assert!(fault(bad).is_err(), "{bad}");
        }
    }
}
