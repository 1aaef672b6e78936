//! Behaviour of the log as its users see it, over a simulated disk that crashes and over the real one.

mod basics;
mod support;
