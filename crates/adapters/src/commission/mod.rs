//! A first look at a source: what the person sees who connects a machine, before anything is configured for good.
//!
//! Nothing here publishes, and nothing outlives the look: sessions end with it. What each protocol does is with the
//! protocol ([`crate::opcua::probe`], [`crate::mqtt::probe`], [`crate::preview`] for all); here is what they share.
//!
//! Where to look next: [`stages`] for the staged test, [`reach`] for its first two stages, [`text`] for what is printed of
//! what strangers wrote.

pub mod reach;
pub mod stages;
pub mod text;
