//! Reading the broker's own logs back at the start: group offsets, schemas and transactions.

use commitlog::Log;
use commitlog::batch::Batches;
use kafka::protocol::records;

use crate::Error;

/// Bytes read at once.
const READ_BYTES: usize = 1024 * 1024;

/// Visits every record of the log of `topic` with its offset.
pub(crate) fn replay(log: &Log, topic: &'static str, mut visit: impl FnMut(records::Stored<'_>)) -> Result<(), Error> {
    let mut offset = log.start_offset();
    let end = log.end_offset();
    while offset < end {
        let bytes = match log.read(offset, READ_BYTES, true, end) {
            Ok(bytes) => bytes,
            Err(commitlog::Error::Damaged { first_offset, last_offset, .. }) => {
                tracing::error!(topic, first_offset, last_offset, "damaged records are left out");
                offset = last_offset + 1;
                continue;
            }
            Err(source) => return Err(Error::Internal { action: "read", topic, source }),
        };
        // by the headers: the last records of a batch may have been compacted away
        let next = Batches::new(&bytes).flatten().map(|(header, _)| header.next_offset()).last().unwrap_or(offset);
        records::decode(&bytes, |stored| {
            if stored.offset >= offset {
                visit(stored);
            }
        })
        .map_err(|source| Error::InternalRecords { topic, source })?;
        if next == offset {
            break; // nothing more can be read
        }
        offset = next;
    }
    Ok(())
}
