//! The gateway's parts against the embedded broker, in one process.

#[cfg(test)]
mod api;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod modules;
#[cfg(test)]
mod schema_cache;
