//! Listens to a broker: each message becomes samples, and is acknowledged when they are durable.
//!
//! The conversation is decided in [`super::session`], the bytes are moved in [`super::connection`], what messages mean is
//! found out in [`super::extract`] or [`super::sparkplug`]. Here they meet, and here the broker's refusals are kept as
//! complaints.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use model::Clock;
use tokio::time::Instant;

use super::config::{Plan, Source, widest};
use super::connection::{Connection, Greeted};
use super::extract::{Desk, discard};
use super::mapping::Retained;
use super::packet::{self, Hello, Kept, Version, code_of};
use super::session::{Event, Session, Silent};
use super::sparkplug::host::Host as Sparkplug;
use crate::adapter::{Adapter, Group, LinkError, Receipt, Tag};
use crate::notice::{DATA_LOSS, Notice, SOURCE_GAP};
use crate::sample::Cycle;

/// Messages taken into one cycle.
const MESSAGES_MAX: usize = 256;
/// Connections that were taken away within [`TAKEN_WITHIN`] before somebody else is known to have the same client id.
const TAKEN_MAX: usize = 3;
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// A broker of version 3.1.1 does not say why it hangs up, nor does mosquitto 2.0.11 in version 5; soon after the welcome
/// it is taken for the same.
const SOON: Duration = Duration::from_secs(10);
/// How long to stay away then (MQ-01).
const TAKEN_WAIT: Duration = Duration::from_secs(60);

/// The MQTT adapter.
#[derive(Debug)]
pub struct MqttAdapter {
    plan: Plan,
    client_id: String,
    password: Option<String>,
    clock: Arc<dyn Clock>,
    devices: [String; 1],
    listener: Listener,
    /// By subscription: why it is not what was asked for.
    refusals: Vec<Option<String>>,
    link: Option<Link>,
    /// The newest number for what is owed; grows over all connections.
    receipt: Receipt,
    /// Version 5 was refused by this broker.
    is_old: bool,
    /// A session was there before, so the broker is expected to know it.
    expects_session: bool,
    /// When connections were taken away.
    taken: VecDeque<Instant>,
    welcomed_at: Instant,
}

#[derive(Debug)]
struct Link {
    connection: Box<Connection>,
    session: Session,
}

/// Who understands the messages.
#[derive(Debug)]
enum Listener {
    Desk(Box<Desk>),
    Sparkplug(Box<Sparkplug>),
}

impl MqttAdapter {
    /// From a valid plan; `password` is what the plan refers to. Connects nowhere yet.
    pub fn new(plan: Plan, gateway_id: &str, password: Option<String>, clock: Arc<dyn Clock>) -> Self {
        let own = format!("sf-{gateway_id}-{}", plan.common.adapter_id);
        let listener = match &plan.source {
            Source::Mapped(subscriptions) => {
                Listener::Desk(Box::new(Desk::new(subscriptions, plan.common.asset_path.clone())))
            }
            Source::Sparkplug(sparkplug) => {
                Listener::Sparkplug(Box::new(Sparkplug::new(sparkplug.clone(), plan.common.asset_path.clone())))
            }
        };
        let count = match &plan.source {
            Source::Mapped(subscriptions) => subscriptions.len(),
            Source::Sparkplug(sparkplug) => sparkplug.filters().len(),
        };
        Self {
            client_id: plan.broker.client_id.clone().unwrap_or(own),
            password,
            clock,
            devices: [format!("broker {}", plan.broker.target())],
            listener,
            refusals: vec![None; count],
            link: None,
            receipt: 0,
            is_old: false,
            expects_session: false,
            taken: VecDeque::new(),
            welcomed_at: Instant::now(),
            plan,
        }
    }

    /// Filters to ask for: place, filter, quality of service, whether kept messages are wanted.
    fn wanted(&self, version: Version) -> Vec<(usize, String, u8, Kept)> {
        match &self.plan.source {
            Source::Sparkplug(sparkplug) => {
                let filters = sparkplug.filters().into_iter().enumerate();
                filters.map(|(place, filter)| (place, filter, 0, Kept::Never)).collect()
            }
            Source::Mapped(subscriptions) => {
                let places = match version {
                    Version::V5 => subscriptions.iter().enumerate().map(|(place, one)| (place, one.qos)).collect(),
                    Version::V311 => widest(subscriptions),
                };
                let wanted = |(place, qos): (usize, u8)| {
                    let one = &subscriptions[place];
                    let kept = if one.retained == Retained::Ignore { Kept::Never } else { Kept::Always };
                    (place, one.filter.clone(), qos, kept)
                };
                places.into_iter().map(wanted).collect()
            }
        }
    }

    fn is_clean(&self) -> bool {
        self.plan.broker.clean || matches!(self.plan.source, Source::Sparkplug(_))
    }

    async fn greet(&mut self, version: Version) -> Result<Greeted, LinkError> {
        let broker = &self.plan.broker;
        let hello = Hello {
            client_id: &self.client_id,
            clean: self.is_clean(),
            keep_alive_s: broker.keep_alive_s,
            session_expiry_s: broker.session_expiry_s,
            receive_max: broker.receive_max,
            packet_max: broker.packet_max,
            username: broker.username.as_deref(),
            password: self.password.as_deref(),
            will: broker.status_topic.as_deref().map(|topic| (topic, "offline")),
        };
        Connection::open(broker, version, &hello).await
    }

    /// Everything that stands in the buffer. An error after it stands too.
    fn take_in(&mut self, cycle: &mut Cycle) -> Result<(), LinkError> {
        for _ in 0..MESSAGES_MAX {
            let Some(Link { connection, session }) = &mut self.link else { return Ok(()) };
            if !session.may_read() {
                return Ok(());
            }
            let packet = match connection.deframer.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(()),
                Err(defect) => {
                    packet::goodbye(session.version(), code_of(&defect), &mut connection.out);
                    return Err(connection.out_of_step(&defect));
                }
            };
            match session.receive(packet, &mut self.receipt, &mut connection.out) {
                Event::Message(message, receipt) => {
                    let (arrived, now) = (self.clock.now(), Instant::now());
                    match &mut self.listener {
                        Listener::Desk(desk) => desk.take(&message, arrived, now, cycle),
                        Listener::Sparkplug(host) => host.take(&message, arrived, now, cycle),
                    }
                    cycle.receipt = receipt.or(cycle.receipt);
                }
                Event::Skipped { topic, bytes, receipt } => {
                    cycle.discarded.push(discard::TOO_LARGE);
                    cycle.notices.push(too_large(&topic, bytes, self.plan.broker.packet_max));
                    cycle.receipt = receipt.or(cycle.receipt);
                }
                Event::Subscribed { place, granted } => self.subscribed(place, granted),
                Event::Goodbye { taken_over, reason } => {
                    let target = connection.target().to_owned();
                    tracing::warn!(reason, "the broker ends the connection");
                    return Err(self.ended(taken_over, LinkError::Closed { target }));
                }
                Event::Nothing => {}
            }
        }
        Ok(())
    }

    fn subscribed(&mut self, place: usize, granted: Result<u8, String>) {
        let version = self.link.as_ref().map_or(Version::V5, |link| link.session.version());
        let Some((_, filter, qos, _)) = self.wanted(version).into_iter().find(|(other, ..)| *other == place) else {
            return;
        };
        let refusal = match granted {
            Err(code) => Some(format!("does not let us listen to {filter}: {code}")),
            Ok(less) if less < qos => {
                Some(format!("listens to {filter} with quality of service {less} only, not {qos}"))
            }
            Ok(_) => None,
        };
        if let Some(refusal) = &refusal {
            tracing::warn!(refusal, "subscription");
        }
        if let Some(known) = self.refusals.get_mut(place) {
            *known = refusal;
        }
    }

    /// What the end of a connection means: somebody with the same name takes it away again and again, or nothing.
    fn ended(&mut self, taken_over: bool, error: LinkError) -> LinkError {
        let now = Instant::now();
        let soon = now.saturating_duration_since(self.welcomed_at) < SOON;
        let looks_so = soon && error.is_hang_up();
        if !taken_over && !looks_so {
            return error;
        }
        self.taken.push_back(now);
        while self.taken.front().is_some_and(|at| now.saturating_duration_since(*at) > TAKEN_WITHIN) {
            self.taken.pop_front();
        }
        if self.taken.len() < TAKEN_MAX {
            return error;
        }
        let what = format!("duplicate client id: somebody else connects as {:?}", self.client_id);
        LinkError::Refused { target: self.plan.broker.target(), what, wait_min: TAKEN_WAIT }
    }

    /// When something is to be done although nothing comes.
    fn timer(&self) -> Option<Instant> {
        let session = self.link.as_ref().and_then(|link| link.session.timer());
        let sparkplug = match &self.listener {
            Listener::Sparkplug(host) => host.timer(),
            Listener::Desk(_) => None,
        };
        session.into_iter().chain(sparkplug).min()
    }

    fn tick(&mut self, cycle: &mut Cycle) -> Result<(), LinkError> {
        let now = Instant::now();
        if let Listener::Sparkplug(host) = &mut self.listener {
            host.tick(self.clock.now(), now, cycle);
        }
        let Some(Link { connection, session }) = &mut self.link else { return Ok(()) };
        if let Listener::Sparkplug(host) = &mut self.listener {
            for (topic, payload) in host.requests() {
                let sent = packet::publish(session.version(), &topic, &payload, false, &mut connection.out);
                sent.map_err(|defect| connection.out_of_step(&defect))?;
            }
        }
        let ticked = session.tick(now, &mut connection.out);
        ticked.map_err(|Silent| LinkError::Silent { target: connection.target().to_owned(), timeouts: 1 })
    }

    /// The connection is gone, and what was owed with it.
    fn lose(&mut self, cycle: &mut Cycle) {
        self.link = None;
        if let Listener::Sparkplug(host) = &mut self.listener {
            host.disconnected(self.clock.now(), cycle);
        }
    }
}

impl Adapter for MqttAdapter {
    const FULL_JITTER: bool = true;

    fn tags(&self) -> &[Tag] {
        match &self.listener {
            Listener::Desk(desk) => desk.points().tags(),
            Listener::Sparkplug(host) => host.points().tags(),
        }
    }

    fn groups(&self) -> &[Group] {
        &[]
    }

    fn devices(&self) -> &[String] {
        &self.devices
    }

    async fn connect(&mut self) -> Result<(), LinkError> {
        self.link = None;
        let first = match self.plan.broker.version {
            Some(version) => version,
            None if self.is_old => Version::V311,
            None => Version::V5,
        };
        let (mut connection, welcome, version) = match self.greet(first).await? {
            Greeted::Welcome(connection, welcome) => (connection, welcome, first),
            Greeted::OtherVersion => match self.greet(Version::V311).await? {
                Greeted::Welcome(connection, welcome) => {
                    self.is_old = true;
                    tracing::info!("the broker does not speak version 5, 3.1.1 is used");
                    (connection, welcome, Version::V311)
                }
                Greeted::OtherVersion => return Err(connection_refused(&self.plan.broker.target())),
            },
        };
        let now = Instant::now();
        let seconds = welcome.keep_alive_s.unwrap_or(self.plan.broker.keep_alive_s);
        let keep_alive = Duration::from_secs(seconds.into());
        let mut session = Session::new(version, self.plan.broker.receive_max, keep_alive, now);
        let lost_session = self.expects_session && !welcome.session_present;
        // on every welcome, also when the session is there: settings may have changed since it began
        for (place, filter, qos, kept) in self.wanted(version) {
            let id = session.subscribing(place);
            packet::subscribe(version, id, place, &filter, qos, kept, &mut connection.out)
                .map_err(|defect| connection.out_of_step(&defect))?;
        }
        if let Some(topic) = &self.plan.broker.status_topic {
            packet::publish(version, topic, b"online", true, &mut connection.out)
                .map_err(|defect| connection.out_of_step(&defect))?;
        }
        match &mut self.listener {
            Listener::Desk(desk) => desk.connected(now, lost_session),
            Listener::Sparkplug(host) => host.connected(now),
        }
        self.expects_session = !self.is_clean();
        self.welcomed_at = now;
        tracing::info!(version = version.as_str(), session_present = welcome.session_present, "welcome");
        self.link = Some(Link { connection, session });
        Ok(())
    }

    async fn poll(&mut self, _group: usize, _cycle: &mut Cycle) -> Result<(), LinkError> {
        Ok(()) // there are no groups
    }

    async fn hear(&mut self, cycle: &mut Cycle) -> Result<(), LinkError> {
        loop {
            if let Listener::Desk(desk) = &mut self.listener
                && desk.take_loss()
            {
                cycle.notices.push(session_lost(&self.devices[0]));
            }
            let outcome = self.take_in(cycle).and_then(|()| self.tick(cycle));
            if let Err(error) = outcome {
                self.lose(cycle);
                return Err(error);
            }
            if !cycle.is_empty() {
                return Ok(());
            }
            let timer = self.timer();
            let Some(Link { connection, session }) = &mut self.link else { return std::future::pending().await };
            let may_read = session.may_read();
            let writes = connection.has_to_write();
            let proceeded = tokio::select! { // cancel-safe: `proceed` is, the other only waits
                proceeded = connection.proceed(may_read) => proceeded,
                () = until(timer) => continue,
            };
            if writes && !connection.has_to_write() {
                session.sent(Instant::now());
            }
            if let Err(error) = proceeded {
                let error = self.ended(false, error);
                self.lose(cycle);
                return Err(error);
            }
        }
    }

    fn settle(&mut self, upto: Receipt) {
        if let Some(Link { connection, session }) = &mut self.link {
            session.settle(upto, &mut connection.out);
        }
    }

    async fn close(&mut self) {
        let Some(Link { mut connection, session }) = self.link.take() else { return };
        if let Some(topic) = &self.plan.broker.status_topic {
            drop(packet::publish(session.version(), topic, b"offline", true, &mut connection.out));
        }
        packet::goodbye(session.version(), 0, &mut connection.out);
        if let Err(error) = connection.finish().await {
            tracing::debug!(error = %daemon::report(&error), "the goodbye was not heard");
        }
    }

    fn complaint(&self) -> Option<String> {
        self.refusals.iter().flatten().next().cloned().or_else(|| match &self.listener {
            Listener::Desk(_) => None,
            Listener::Sparkplug(host) => host.complaint(),
        })
    }
}

async fn until(timer: Option<Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn connection_refused(target: &str) -> LinkError {
    let what = "it speaks neither version 5 nor 3.1.1".to_owned();
    LinkError::Refused { target: target.to_owned(), what, wait_min: Duration::ZERO }
}

/// MQ-02: nobody knows what the broker would have kept for us.
fn session_lost(device: &str) -> Notice {
    let message = format!("{device} has forgotten the session: what was sent while we were away is lost");
    Notice {
        details: vec![("cause", "session_lost".to_owned()), ("device", device.to_owned())],
        ..Notice::new(SOURCE_GAP, message)
    }
}

fn too_large(topic: &str, bytes: usize, max: u32) -> Notice {
    let message = format!("a message of {bytes} bytes to {topic:.200} was passed over, {max} are taken");
    Notice {
        details: vec![
            ("cause", "message_too_large".to_owned()),
            ("topic", topic.chars().take(200).collect()),
            ("count", "1".to_owned()),
            ("count_kind", "exact".to_owned()),
        ],
        ..Notice::new(DATA_LOSS, message)
    }
}
