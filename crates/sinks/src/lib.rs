//! Destination connectors.
