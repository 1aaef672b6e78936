//! The gateway runtime: supervisor, validator, aggregator, status page.
