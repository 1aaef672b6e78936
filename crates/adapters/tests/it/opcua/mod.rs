//! OPC UA against a server somebody else wrote: asyncua, on a port and in a folder of its own.
//!
//! Needs `SF_TEST_EXTERNAL=1` and a Python with asyncua (`SF_PYTHON`); says `not run` otherwise. What no such server does
//! on purpose is in `double`, which needs nothing.

mod browsing;
mod coming_back;
mod double;
mod events;
mod listening;
mod probing;
mod process;
mod server;
mod trusting;
