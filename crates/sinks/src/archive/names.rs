//! Names of archive files. Pure; the rule is told in [`super`].

use model::Timestamp;
use stream::Topic;

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileName {
    pub topic: Topic,
    pub partition: i32,
    /// Offset of the first record.
    pub first: i64,
    /// Kafka time of the first record in milliseconds.
    pub first_ms: i64,
    /// The offset behind the last record.
    pub next: i64,
}

/// Day of a Kafka time, `2026-01-29`.
pub fn day(timestamp_ms: i64) -> String {
    Timestamp::from_millis(timestamp_ms).to_string().chars().take_while(|c| *c != 'T').collect()
}

/// The same day as a number, to compare.
pub fn day_number(timestamp_ms: i64) -> i64 {
    const DAY_MS: i64 = 24 * 3_600_000;
    timestamp_ms.div_euclid(DAY_MS)
}

/// Folder of a day.
pub fn folder(topic: Topic, timestamp_ms: i64) -> String {
    format!("{}/date={}", topic.name(), day(timestamp_ms))
}

/// What the names of all files that begin with this very record have in common.
pub fn beginning(partition: i32, first: i64, first_ms: i64) -> String {
    format!("p{partition:02}-{first:020}-{first_ms:013}-")
}

impl FileName {
    /// The whole path below the archive's root.
    pub fn path(&self) -> String {
        let folder = folder(self.topic, self.first_ms);
        format!("{folder}/{}{:020}.parquet", beginning(self.partition, self.first, self.first_ms), self.next)
    }
}

/// The next offset a file name ends with, when it begins with `beginning`.
pub fn next_of(file: &str, beginning: &str) -> Option<i64> {
    let digits = file.strip_prefix(beginning)?.strip_suffix(".parquet")?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_deterministic_sort_by_offset_and_read_back() {
        let name = FileName {
            topic: Topic::TelemetryClean,
            partition: 7,
            first: 1_234_567,
            first_ms: 1_769_680_800_123,
            next: 1_238_900,
        };
        let path =
            "telemetry.clean/date=2026-01-29/p07-00000000000001234567-1769680800123-00000000000001238900.parquet";
        assert_eq!(name.path(), path);
        let file = path.rsplit('/').next().unwrap();
        assert_eq!(next_of(file, &beginning(7, 1_234_567, 1_769_680_800_123)), Some(1_238_900));
        for (partition, first, ms) in [(6, 1_234_567, 1_769_680_800_123), (7, 0, 1_769_680_800_123), (7, 1_234_567, 1)]
        {
            assert_eq!(next_of(file, &beginning(partition, first, ms)), None);
        }
        assert_eq!(next_of("p07-x.parquet#1", "p07-"), None);
    }
}
