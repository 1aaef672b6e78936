//! The desired state of a gateway: the document, the components' specs, and problems reported all at once.
//!
//! Validation is pure and total: it never stops at the first problem and never touches the world. The same functions run
//! in `streamforge check`, in the gateway before it accepts a document, and behind the forms.

pub mod aggregation;
pub mod alarms;
pub mod catalog;
pub mod clock;
pub mod document;
pub mod edit;
pub mod expr;
pub mod external;
pub mod problem;
pub mod read;
pub mod rules;
pub mod secret;
pub mod table;
pub mod template;
pub mod yaml;

pub use aggregation::Aggregation;
pub use alarms::{AlarmRule, Alarms};
pub use catalog::{Catalog, Claim, Kind, Spec};
pub use clock::ClockSettings;
pub use document::{Component, Document, StreamMode, parse, parse_rules, parse_value};
pub use external::External;
pub use problem::Problem;
pub use read::Object;
pub use rules::{Limits, Rule, Validation};
pub use secret::SecretRef;
pub use table::Table;
pub use template::Template;
