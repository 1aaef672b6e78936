//! The gateway's parts against the embedded broker, in one process.

#[cfg(test)]
mod modules;
