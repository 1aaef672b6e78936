//! The catalog of component types: data about adapters and sinks, not their code.
//!
//! The binary builds it from the lists in `adapters` and `sinks` and hands it to whoever must validate a document, so
//! that a gateway can check the settings of a component without linking its protocol stack.

use serde_json::Value;

use crate::rules::PointGlob;
use crate::{Problem, Table};

/// Source or destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Adapter,
    Sink,
}

impl Kind {
    /// Key of the component's name in its settings: `adapter_id`, `sink_id`.
    pub const fn id_key(self) -> &'static str {
        match self {
            Self::Adapter => "adapter_id",
            Self::Sink => "sink_id",
        }
    }

    /// Key of the component's type in its settings.
    pub const fn type_key(self) -> &'static str {
        match self {
            Self::Adapter => "adapter_type",
            Self::Sink => "sink_type",
        }
    }

    /// Word in commands and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adapter => "adapter",
            Self::Sink => "sink",
        }
    }
}

/// Something on or behind this machine that components would share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// In words that can stand in a sentence: `the serial port /dev/ttyUSB0`.
    pub what: String,
    /// Nobody else may use it.
    pub alone: bool,
}

/// One component type.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub kind: Kind,
    /// Value of `adapter_type` or `sink_type`.
    pub type_name: &'static str,
    /// One sentence for lists and forms.
    pub summary: &'static str,
    /// JSON Schema (draft 2020-12) of the settings.
    pub schema: fn() -> Value,
    /// Checks settings that stand at a pointer of the document; pure, reports everything.
    pub validate: fn(&Value, &str) -> Vec<Problem>,
    /// The points valid settings bring; `None` for a component that learns them while it runs, and for sinks.
    pub points: fn(&Value) -> Option<Vec<PointGlob>>,
    /// What of the settings people keep in spreadsheets.
    pub table: Option<Table>,
    /// What valid settings lay claim to.
    pub claim: fn(&Value) -> Option<Claim>,
}

/// All component types of this binary, in a stable order.
#[derive(Debug, Clone, Default)]
pub struct Catalog(Vec<Spec>);

impl Catalog {
    pub fn new(specs: impl IntoIterator<Item = Spec>) -> Self {
        Self(specs.into_iter().collect())
    }

    pub fn specs(&self) -> &[Spec] {
        &self.0
    }

    pub fn find(&self, kind: Kind, type_name: &str) -> Option<&Spec> {
        self.0.iter().find(|spec| spec.kind == kind && spec.type_name == type_name)
    }

    /// Type names of a kind.
    pub fn type_names(&self, kind: Kind) -> Vec<&'static str> {
        self.0.iter().filter(|spec| spec.kind == kind).map(|spec| spec.type_name).collect()
    }
}
