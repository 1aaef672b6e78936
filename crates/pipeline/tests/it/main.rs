//! The pure data path over hours of plant life.

mod alarm;
mod killed;
