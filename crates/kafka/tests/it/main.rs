//! The client against the embedded broker: the guarantees that the data path rests on.

mod client;
