//! Device simulators, fault doubles and a demo plant.
//!
//! Invariant: everything here speaks the real protocol over a real socket; a test or a trial that works against it
//! works against a device that behaves the same. Nothing here is linked into the data path.
//!
//! Where to look next: [`sim`] for the simulators, [`plant`] for what the demo plant measures,
//! [`recording`] for readings in files, [`postgres`] for a private database server, [`mosquitto`] for a
//! private MQTT broker.

pub mod mosquitto;
pub mod plant;
pub mod postgres;
pub mod recording;
pub mod sim;
