//! What every process of a gateway shares: logs, admin HTTP, signals, the task tree, backoff and the circuit breaker.
//!
//! Knows nothing of streams, devices or targets. A role gets one [`Context`], registers its metrics in it, reports its
//! state on its [`Board`] and stops when [`Context::stop`] is cancelled.

pub mod admin;
pub mod backoff;
pub mod board;
pub mod breaker;
pub mod clock;
pub mod context;
pub mod identity;
pub mod launch;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod report;
pub mod ring_file;
pub mod state_file;
pub mod tasks;

pub use backoff::Backoff;
pub use board::Board;
pub use breaker::Breaker;
pub use context::Context;
pub use launch::Launch;
pub use metrics::Metrics;
pub use report::report;
pub use tasks::TaskSet;
