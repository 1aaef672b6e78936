//! One request of the plan, and what is known of it.

use std::sync::Arc;

use modbus::Block;
use tokio::time::Instant;

/// A request of the plan as it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub block: Arc<Block>,
    /// The device refuses it, and it cannot be cut any finer.
    pub is_refused: bool,
    /// Asked again at this time, if it is refused.
    pub(super) refused_until: Option<Instant>,
    /// The memory behind it was found broken, which was told.
    pub(super) is_broken: bool,
}

impl Planned {
    /// Nothing is known of it.
    pub fn new(block: Block) -> Self {
        Self { block: Arc::new(block), is_refused: false, refused_until: None, is_broken: false }
    }
}
