//! What is on the stream: topics, messages, Avro, publisher and subscription.
