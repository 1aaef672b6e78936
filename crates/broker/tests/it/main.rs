//! The broker as its clients see it: librdkafka for Kafka, HTTP for the schema registry, raw frames for the rude ones.

mod admin;
mod consume;
mod frames;
mod groups;
mod produce;
mod registry;
mod restart;
mod support;
