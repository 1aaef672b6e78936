//! The `alert_router` sink: tells people of alarms, by webhook, Slack, Teams, PagerDuty, e-mail and SMS.
//!
//! ```text
//! alarms.clean -> sink -> engine -> router (routes, quiet hours, digests, floods, escalations)
//!                           |          | one outbox per destination
//!                           |          v
//!                        journal     sender -> HTTP, SMTP
//! ```
//!
//! How the laws of [`crate::sink::Sink`] hold:
//! - **All or nothing, confirmed means safe** (1, 2). A batch is one step of the journal, with the positions behind it; a
//!   position is confirmed when the line is on disk. Delivery comes later and is the outboxes' business (RTE-03).
//! - **Again is harmless** (3). Every message has an id made of what it tells and to whom; what is decided is not decided
//!   again, and a receiver sees the same id when a message comes twice (RTE-02).
//! - **Refusal is about the record** (4). Refused is what does not decode. A receiver that refuses a message is no
//!   business of the stream: the message goes to `dlq.alerts` ([`letters`]).
//! - **Bounded memory** (7). Standing alarms, lists of twenty, and outboxes that fold into summaries.
//!
//! Look next: [`plan`] for what can be configured, [`router`] for who is told and when, [`dispatch`] for outboxes and
//! retries, [`message`] for what is sent.

pub mod channel;
pub mod dispatch;
pub mod dry_run;
pub mod engine;
pub mod guard;
pub mod hours;
pub mod journal;
pub mod kept;
pub mod lane;
pub mod letters;
pub mod message;
pub mod metrics;
pub mod notice;
pub mod plan;
pub mod router;
pub mod send;
pub mod settings;
pub mod sink;
pub mod state;

pub use settings::SPEC;
pub use sink::AlertRouterSink;
