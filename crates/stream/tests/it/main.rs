//! The stream's contracts against the Avro library and the golden samples.

mod codec;
mod golden;
mod samples;
