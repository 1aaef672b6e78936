//! OPC UA against servers somebody else wrote, on ports and in folders of their own: asyncua, and in `node_opcua` node-opcua.
//!
//! Needs `SF_TEST_EXTERNAL=1` and a Python with asyncua (`SF_PYTHON`) or Node.js with node-opcua (`SF_NODE_MODULES`); says
//! `not run` otherwise. What no such server does on purpose is in `double`, which needs nothing.

mod browsing;
mod coming_back;
mod double;
mod events;
mod limits;
mod listening;
mod node_opcua;
pub(crate) mod probing;
pub(crate) mod process;
pub(crate) mod server;
mod trusting;
