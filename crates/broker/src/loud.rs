//! Warnings about what strangers may cause thousands of times a second: said once a second, with how often they were not.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Time between two warnings of one kind.
const PAUSE: Duration = Duration::from_secs(1);

/// Decides for one kind of warning.
#[derive(Debug, Default)]
pub(crate) struct Loud(Mutex<(Option<Instant>, u64)>);

impl Loud {
    /// How often it was not said since the last time; `None` when now is too early to say it again.
    pub(crate) fn say(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = &mut *state;
        let now = Instant::now();
        if last.is_some_and(|last| now < last + PAUSE) {
            *unsaid += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_often_is_said_seldom_and_counted() {
        let loud = Loud::default();
        assert_eq!(loud.say(), Some(0));
        assert_eq!((loud.say(), loud.say()), (None, None));
        tokio::time::advance(PAUSE).await;
        assert_eq!((loud.say(), loud.say()), (Some(2), None));
        tokio::time::advance(PAUSE).await;
        assert_eq!(loud.say(), Some(1));
    }
}
