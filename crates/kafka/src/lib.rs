//! Kafka wire protocol and client. Knows nothing of us.
