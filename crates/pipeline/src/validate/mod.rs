//! Validation: one reading in, one [`Judgement`] out.
//!
//! The order of the checks is fixed: known point, type, presence, unit, device time, duplicate, range, allowed values, rate
//! of change, spike, flatline, condition over other points, gap. A BAD finding ends the chain and leaves the point's history
//! untouched; no check improves a quality, and only a listed conversion of units changes a value. Each rule is a file under
//! [`rules`]; [`Plan`] picks the rules of a point once; `chain.rs` runs them; [`Validator`] does so over the points of a
//! gateway, lane by lane.

mod chain;
pub mod explain;
pub mod finding;
mod judgement;
mod lane;
pub mod plan;
mod point;
pub mod rules;
mod save;
mod validator;

pub use finding::{Codes, Finding};
pub use judgement::{Judgement, Rejection, Verdict};
pub use lane::{LaneTime, Stale};
pub use plan::Plan;
pub use point::Change;
pub use rules::gap::Gap;
pub use rules::share::Trouble;
pub use rules::skew;
pub use validator::{POINTS_MAX, Validator};
