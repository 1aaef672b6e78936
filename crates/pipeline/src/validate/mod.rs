//! Validation: one reading in, one [`Judgement`] out.
//!
//! The order of the checks is fixed: presence, device time, duplicate, range, rate of change, gap. A BAD finding ends the
//! chain and leaves the point's history untouched; no check improves a quality or changes a value. Each rule is a file
//! under [`rules`]; [`Plan`] picks the rules of a point once; [`Validator`] runs the chain over the points of a gateway.

pub mod finding;
pub mod plan;
pub mod rules;
mod validator;

pub use finding::{Codes, Finding};
pub use plan::Plan;
pub use rules::gap::Gap;
pub use validator::{Change, Judgement, POINTS_MAX, Rejection, Validator, Verdict};
