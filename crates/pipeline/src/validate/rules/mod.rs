//! The rules, one file each: parameters, what is remembered per point, the check, and its tests.

pub mod device_time;
pub mod duplicate;
pub mod gap;
pub mod presence;
pub mod range;
pub mod rate;
