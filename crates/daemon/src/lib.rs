//! What every process shares: logs, admin HTTP, signals, tasks, backoff, breaker.
