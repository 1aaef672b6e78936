//! The broker as its clients see it: librdkafka for Kafka, HTTP for the schema registry, raw frames for the rude ones.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by panicking")]

mod access;
mod admin;
mod attacks;
mod clock;
mod compaction;
mod consume;
mod consumer_groups;
mod disk;
mod fetch_sessions;
mod figures;
mod frames;
mod group_peers;
mod groups;
mod peers;
mod power_cuts;
mod produce;
mod questions;
mod registry;
mod registry_clients;
mod restart;
mod stopping;
mod support;
mod transactions;
mod wire;
