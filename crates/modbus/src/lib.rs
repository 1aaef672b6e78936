//! Modbus application protocol, TCP and serial framing, without I/O.
//!
//! Everything here is a pure function of its input or a small state machine fed with frames: no socket, no clock, no
//! task. Whoever owns the connection sends the bytes, keeps the deadlines and decides what a failure means.
//!
//! Invariants:
//! - The client side can only read. Function codes 1 to 4 have an encoder; a writing code has none (MB-01).
//! - No byte string makes a decoder panic (G-08).
//! - An exception reply is data about the device, not a broken connection: `Result<Result<T, Exception>, Error>`.
//!
//! Where to look next: [`pdu`] for requests and replies, [`frame`] for the TCP envelope,
//! [`rtu`] for the serial one and [`timing`] for its silences, [`exchange`] for which reply
//! belongs to which request, [`address`] for how people write addresses, [`order`] and [`value`] for what registers
//! mean, [`plan`] for turning points into few requests, [`server`] for the other end of the wire.

pub mod address;
pub mod error;
pub mod exchange;
pub mod frame;
pub mod order;
pub mod pdu;
pub mod plan;
pub mod rtu;
pub mod server;
pub mod timing;
pub mod value;

pub use address::{BitNumbering, Location};
pub use error::Error;
pub use exchange::{Exchange, Verdict};
pub use frame::{Deframer, Frame};
pub use order::Order;
pub use pdu::{Data, Exception, Read, Table};
pub use plan::{Block, Limits, Span, Want};
pub use timing::Line;
pub use value::{DataType, Decoded, Defect, Value};
