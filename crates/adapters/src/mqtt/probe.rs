//! A first look at a broker: stage by stage, then some seconds of listening.
//!
//! For the person who has an address and no picture yet. Target: `mqtts://host:8883?filter=plant/%23&seconds=10`, the
//! password in `SF_MQTT_PASSWORD`. Nothing is acknowledged for ever: the session is clean and ends with the look.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::config::{BrokerPlan, TlsPlan, parse_url};
use super::connection::{Connection, Greeted};
use super::packet::{self, Ack, Hello, Incoming, Kept, Version};
use super::topic;
use crate::adapter::LinkError;

/// Topics shown; further ones are counted.
const TOPICS_MAX: usize = 200;
/// Characters of a payload shown.
const SHOWN: usize = 120;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{target:?} is not a target: {reason}; write mqtts://host:8883?filter=plant/%23&seconds=10")]
    Target { target: String, reason: String },
    #[error("the broker cannot be talked to; {hint}")]
    Link { hint: &'static str, source: LinkError },
    #[error("the broker does not let us listen to {filter}: {code}; check the access list")]
    Refused { filter: String, code: String },
    #[error("the broker speaks neither version 5 nor 3.1.1")]
    NoVersion,
}

/// What to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub plan: BrokerPlan,
    pub filter: String,
    pub time: Duration,
}

/// What was heard. `Display` prints it for a terminal.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub target: Target,
    pub version: &'static str,
    pub greeting: Duration,
    pub topics: BTreeMap<String, Heard>,
    /// Messages of topics beyond [`TOPICS_MAX`].
    pub beyond: u64,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Heard {
    pub count: u64,
    pub last: String,
    pub retained: bool,
}

impl Target {
    /// Reads a target.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |reason: String| Error::Target { target: text.to_owned(), reason };
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let (secure, host, port) = parse_url(address).map_err(refuse)?;
        let mut target = Self {
            plan: BrokerPlan {
                host,
                port,
                tls: secure.then(TlsPlan::default),
                version: None,
                client_id: None,
                username: None,
                password: None,
                connect_timeout: Duration::from_secs(5),
                keep_alive_s: 30,
                session_expiry_s: 0,
                receive_max: 100,
                packet_max: 1024 * 1024,
                status_topic: None,
            },
            filter: "#".to_owned(),
            time: Duration::from_secs(10),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| refuse(format!("{pair:?} has no value")))?;
            match key {
                "filter" => target.filter = value.replace("%23", "#").replace("%2B", "+").replace("%2b", "+"),
                "seconds" => {
                    let seconds = value.parse().ok().filter(|seconds| (1..=300).contains(seconds));
                    target.time =
                        Duration::from_secs(seconds.ok_or_else(|| refuse("seconds are 1 to 300".to_owned()))?);
                }
                "username" => target.plan.username = Some(value.to_owned()),
                "ca_file" if secure => {
                    target.plan.tls = Some(TlsPlan { ca_file: Some(value.into()), ..TlsPlan::default() });
                }
                _ => return Err(refuse(format!("{key:?} is not one of filter, seconds, username, ca_file"))),
            }
        }
        match topic::fault_of_filter(&target.filter) {
            Some(fault) => Err(refuse(format!("the filter {fault}"))),
            None => Ok(target),
        }
    }
}

/// The table of 1.4: what a person should try.
fn hint(error: &LinkError, secure: bool) -> &'static str {
    match error {
        LinkError::Connect { source, .. } if secure && source.kind() == std::io::ErrorKind::InvalidData => {
            "the certificate is not trusted: give its authority as ca_file, or the name it was made for"
        }
        LinkError::Connect { source, .. } if source.kind() == std::io::ErrorKind::ConnectionRefused => {
            "refused: is it 1883 or 8883?"
        }
        LinkError::ConnectTimeout { .. } => "no answer: route, firewall, or TLS where there is none?",
        LinkError::Refused { .. } => "user, access list, or somebody else with the same client id",
        LinkError::Closed { .. } => "it hung up: TLS where there is none, or none where there is?",
        _ => "name, address and port",
    }
}

/// Connects, listens, disconnects.
pub async fn probe(text: &str, password: Option<String>) -> Result<Report, Error> {
    let target = Target::parse(text)?;
    let began = Instant::now();
    let client_id = format!("sf-probe-{}", std::process::id());
    let hello = Hello {
        client_id: &client_id,
        clean: true,
        keep_alive_s: target.plan.keep_alive_s,
        session_expiry_s: 0,
        receive_max: target.plan.receive_max,
        packet_max: target.plan.packet_max,
        username: target.plan.username.as_deref(),
        password: password.as_deref(),
        will: None,
    };
    let secure = target.plan.tls.is_some();
    let link = |source: LinkError| Error::Link { hint: hint(&source, secure), source };
    let mut version = Version::V5;
    let mut greeted = Connection::open(&target.plan, version, &hello).await.map_err(link)?;
    if matches!(greeted, Greeted::OtherVersion) {
        version = Version::V311;
        greeted = Connection::open(&target.plan, version, &hello).await.map_err(link)?;
    }
    let Greeted::Welcome(mut connection, _) = greeted else { return Err(Error::NoVersion) };
    let mut report = Report {
        version: version.as_str(),
        greeting: began.elapsed(),
        topics: BTreeMap::new(),
        beyond: 0,
        target: target.clone(),
    };
    let mut out = BytesMut::new();
    let subscribed = packet::subscribe(version, 1, 0, &target.filter, 0, Kept::Always, &mut out);
    subscribed.map_err(|defect| link(connection.out_of_step(&defect)))?;
    connection.out.extend_from_slice(&out);
    let deadline = Instant::now() + target.time;
    loop {
        while let Some(packet) =
            connection.deframer.next_packet().map_err(|defect| link(connection.out_of_step(&defect)))?
        {
            match packet {
                Incoming::Message(message) => {
                    if message.qos == 1 {
                        packet::ack(Ack::Received1, message.id, &mut connection.out);
                    }
                    let full = report.topics.len() >= TOPICS_MAX && !report.topics.contains_key(&message.topic);
                    if full {
                        report.beyond += 1;
                        continue;
                    }
                    let heard = report.topics.entry(message.topic).or_default();
                    heard.count += 1;
                    heard.retained |= message.retain;
                    heard.last = show(&message.payload);
                }
                Incoming::Subscribed { granted: Err(code), .. } => {
                    return Err(Error::Refused { filter: target.filter, code });
                }
                _ => {}
            }
        }
        tokio::select! { // cancel-safe: `proceed` is, the other only waits
            proceeded = connection.proceed(true) => proceeded.map_err(link)?,
            () = tokio::time::sleep_until(deadline) => break,
        }
    }
    packet::goodbye(version, 0, &mut connection.out);
    drop(tokio::time::timeout(Duration::from_secs(1), connection.finish()).await);
    Ok(report)
}

/// A payload for a person: text when it is one, else bytes.
fn show(payload: &[u8]) -> String {
    match std::str::from_utf8(payload) {
        Ok(text) => text.chars().take(SHOWN).map(|letter| if letter.is_control() { ' ' } else { letter }).collect(),
        Err(_) => super::value::hexadecimal(&payload[..payload.len().min(SHOWN / 2)]),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.greeting.as_secs_f64() * 1000.0;
        writeln!(
            f,
            "{} speaks version {}, welcome after {milliseconds:.1} ms",
            self.target.plan.target(),
            self.version
        )?;
        let seconds = self.target.time.as_secs();
        if self.topics.is_empty() {
            return write!(f, "no message to {} in {seconds} s: another filter, or nobody sends", self.target.filter);
        }
        writeln!(f, "{} topics in {seconds} s", self.topics.len())?;
        for (topic, heard) in &self.topics {
            let kept = if heard.retained { " retained" } else { "" };
            let topic: String = topic.chars().filter(|letter| !letter.is_control()).collect();
            writeln!(f, "{topic}  x{}{kept}  {}", heard.count, heard.last)?;
        }
        if self.beyond > 0 {
            writeln!(f, "and {} messages to further topics", self.beyond)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let target = Target::parse("mqtt://10.0.0.5?filter=plant/%23&seconds=3&username=ada").unwrap();
        assert_eq!((target.plan.port, target.filter.as_str(), target.time.as_secs()), (1883, "plant/#", 3));
        assert!(Target::parse("mqtts://broker").unwrap().plan.tls.is_some());
        for bad in ["http://x", "mqtt://x?filter=a#b", "mqtt://x?seconds=0", "mqtt://x?password=p"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
