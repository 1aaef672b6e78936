//! The messages of the stream, one module per contract in `contracts/avro`.

pub mod aggregate;
pub mod alarm;
pub mod dead_letter;
pub mod event;
pub mod json;
pub mod telemetry;

pub use dead_letter::DeadLetter;
pub use event::Event;

/// A contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Schema {
    Telemetry,
    Event,
    Alarm,
    Aggregate,
    DeadLetter,
}

impl Schema {
    pub const ALL: [Self; 5] = [Self::Telemetry, Self::Event, Self::Alarm, Self::Aggregate, Self::DeadLetter];

    /// The contract's text, compiled in, so that a gateway starts without a registry (REC-07).
    pub const fn text(self) -> &'static str {
        match self {
            Self::Telemetry => include_str!("../../../../contracts/avro/telemetry.v1.avsc"),
            Self::Event => include_str!("../../../../contracts/avro/event.v1.avsc"),
            Self::Alarm => include_str!("../../../../contracts/avro/alarm.v1.avsc"),
            Self::Aggregate => include_str!("../../../../contracts/avro/aggregate.v2.avsc"),
            Self::DeadLetter => include_str!("../../../../contracts/avro/dead-letter.v1.avsc"),
        }
    }

    /// Texts of earlier versions, oldest first. Their records are still on the stream, and are still read (REC-05).
    pub const fn earlier_texts(self) -> &'static [&'static str] {
        match self {
            Self::Aggregate => &[include_str!("../../../../contracts/avro/aggregate.v1.avsc")],
            Self::Telemetry | Self::Event | Self::Alarm | Self::DeadLetter => &[],
        }
    }
}
