//! Unpacks and packs the records of compressed batches: to compact topics whose producers compress, and to find records by
//! time, and for nothing else. Produce and fetch pass batches through as they are.
//!
//! Invariant: nothing is unpacked beyond the limit given, whatever a batch claims to hold.

use std::io::{self, Read, Write};

use commitlog::Codec;

/// The numbers of the methods in a batch's attributes.
const GZIP: i16 = 1;
const SNAPPY: i16 = 2;
const LZ4: i16 = 3;
const ZSTD: i16 = 4;

/// Largest window of a zstd frame, as a power of two: 32 MiB. Frames that need more stay packed.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;
/// Level of what is packed again; the usual one.
const ZSTD_LEVEL: i32 = 3;
/// What the Java client puts before snappy blocks: a name, its version and the oldest one it can be read by.
const XERIAL_NAME: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

/// All methods that clients use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codecs;

impl Codec for Codecs {
    fn unpack(&self, compression: i16, records: &[u8], limit: usize) -> Option<Vec<u8>> {
        match compression {
            GZIP => read_up_to(flate2::read::MultiGzDecoder::new(records), limit),
            SNAPPY => unpack_snappy(records, limit),
            LZ4 => read_up_to(lz4_flex::frame::FrameDecoder::new(records), limit),
            ZSTD => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(records).ok()?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).ok()?;
                read_up_to(decoder, limit)
            }
            _ => None,
        }
    }

    fn pack(&self, compression: i16, records: &[u8]) -> Option<Vec<u8>> {
        match compression {
            GZIP => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(records).and_then(|()| encoder.finish()).ok()
            }
            SNAPPY => snap::raw::Encoder::new().compress_vec(records).ok(),
            LZ4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(records).ok()?;
                encoder.finish().ok()
            }
            ZSTD => zstd::stream::encode_all(records, ZSTD_LEVEL).ok(),
            _ => None,
        }
    }
}

fn read_up_to(reader: impl Read, limit: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let allowed = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read: io::Result<usize> = reader.take(allowed).read_to_end(&mut bytes);
    (read.is_ok() && bytes.len() <= limit).then_some(bytes)
}

/// One raw block, or the Java client's sequence of them.
fn unpack_snappy(records: &[u8], limit: usize) -> Option<Vec<u8>> {
    if !records.starts_with(XERIAL_NAME) {
        return unpack_snappy_block(records, limit);
    }
    let mut rest = records.get(XERIAL_HEADER_BYTES..)?;
    let mut bytes = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (block, behind) = behind.split_at_checked(length)?;
        bytes.extend_from_slice(&unpack_snappy_block(block, limit - bytes.len())?);
        rest = behind;
    }
    rest.is_empty().then_some(bytes)
}

fn unpack_snappy_block(block: &[u8], limit: usize) -> Option<Vec<u8>> {
    let length = snap::raw::decompress_len(block).ok().filter(|length| *length <= limit)?;
    let mut bytes = vec![0; length];
    let written = snap::raw::Decoder::new().decompress(block, &mut bytes).ok()?;
    (written == length).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_gives_back_what_it_took_and_no_more_than_allowed() {
        let records: Vec<u8> = (0..200_000_u32).flat_map(|number| (number / 7).to_be_bytes()).collect();
        for compression in [GZIP, SNAPPY, LZ4, ZSTD] {
            let packed = Codecs.pack(compression, &records).unwrap();
            assert!(packed.len() < records.len(), "{compression}");
            assert_eq!(Codecs.unpack(compression, &packed, records.len()).as_ref(), Some(&records), "{compression}");
            assert_eq!(Codecs.unpack(compression, &packed, records.len() - 1), None, "{compression}");
            for length in (0..packed.len()).step_by(997) {
                let cut = Codecs.unpack(compression, &packed[..length], records.len());
                assert!(cut.is_none_or(|cut| cut.len() < records.len()), "{compression} cut to {length}");
            }
        }
        assert_eq!(Codecs.unpack(5, &records, records.len()), None);
    }

    #[test]
    fn snappy_in_the_frame_of_the_java_client() {
        let block = |text: &[u8]| {
            let packed = snap::raw::Encoder::new().compress_vec(text).unwrap();
            [&u32::try_from(packed.len()).unwrap().to_be_bytes()[..], &packed].concat()
        };
        let framed = [XERIAL_NAME, &[0, 0, 0, 1, 0, 0, 0, 1], &block(b"one "), &block(b"two")].concat();
        assert_eq!(Codecs.unpack(SNAPPY, &framed, 7).unwrap(), b"one two");
        assert_eq!(Codecs.unpack(SNAPPY, &framed, 6), None);
        assert_eq!(Codecs.unpack(SNAPPY, &framed[..framed.len() - 1], 7), None);
    }
}
