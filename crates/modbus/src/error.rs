//! What can be wrong with bytes that claim to be Modbus.
//!
//! An exception reply is not in this list: it is a well-formed answer, see [`crate::Exception`].

/// A reply or request that breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A read of nothing, or of more than the table allows in one request.
    #[error("count {count} is outside 1..={max}")]
    CountOutOfRange {
        /// Bits or registers asked for.
        count: u16,
        /// Most the table allows.
        max: u16,
    },
    /// A read reaching past the last offset, 65535.
    #[error("{count} items from offset {offset} reach past offset 65535")]
    PastEnd {
        /// First item, counted from 0.
        offset: u16,
        /// Number of items.
        count: u16,
    },
    /// The protocol identifier in the TCP header is not 0: framing is lost, the connection is useless.
    #[error("protocol identifier {protocol} instead of 0, framing is lost")]
    ProtocolId {
        /// What stood there.
        protocol: u16,
    },
    /// The length field in the TCP header is outside 2..=254: framing is lost, the connection is useless.
    #[error("frame length {length} outside 2..=254, framing is lost")]
    FrameLength {
        /// What stood there.
        length: u16,
    },
    /// The reply names another unit than the request.
    #[error("reply from unit {actual}, asked unit {expected}")]
    UnitMismatch {
        /// Unit asked.
        expected: u8,
        /// Unit that claims to answer.
        actual: u8,
    },
    /// The reply names another function than the request.
    #[error("reply to function {actual}, asked function {expected}")]
    FunctionMismatch {
        /// Function code sent.
        expected: u8,
        /// Function code received.
        actual: u8,
    },
    /// The byte count in the reply is not what the request asked for.
    #[error("reply announces {actual} data bytes, {expected} are due")]
    ByteCount {
        /// Bytes due: 2 per register, or one per 8 bits rounded up.
        expected: usize,
        /// Bytes announced.
        actual: usize,
    },
    /// The reply is shorter or longer than its own header says.
    #[error("reply of {actual} bytes, {expected} are due")]
    ReplyLength {
        /// Bytes due.
        expected: usize,
        /// Bytes received.
        actual: usize,
    },
}

impl Error {
    /// True if nothing after this can be trusted and only a new connection helps (MB-20).
    pub fn loses_framing(&self) -> bool {
        matches!(self, Self::ProtocolId { .. } | Self::FrameLength { .. })
    }
}
