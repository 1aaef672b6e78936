//! Everything that adapters send, taken from the wire and taken apart (AC-030, G-01): they read, and nothing else.
//!
//! Each protocol has a run that does all its adapter can do, over a [`crate::wire::Wire`], and a judge that reads the bytes
//! and knows no more than the specification of the protocol. What the run must have reached is asserted too, so that an
//! empty capture proves nothing by accident; and each judge is shown what it has to find.

mod modbus;
mod mqtt;
pub(crate) mod opcua;
