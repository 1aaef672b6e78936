//! Device simulators, fault doubles and a demo plant.
