//! The rules, one file each: parameters, what is remembered per point, the check, and its tests.

pub mod allowed;
pub mod condition;
pub mod device_time;
pub mod duplicate;
pub mod flatline;
pub mod gap;
pub mod presence;
pub mod range;
pub mod rate;
pub mod share;
pub mod skew;
pub mod spike;
pub mod unit;
pub mod value_type;
