//! Readings as a Parquet file: the columns of the record, timestamps in microseconds UTC, the value split by type.
//!
//! Pure but for memory: bytes in, bytes out. Texts are not copied: they are slices of the arena the records stand in.
//! The same readings give the same bytes, so a file can be written again under its name.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use model::{Reading, TextList, Value};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::TypePtr;

/// The columns, as Parquet's own text form.
const MESSAGE: &str = "
message reading {
  required int64 device_time (TIMESTAMP(MICROS, true));
  required int64 gateway_time (TIMESTAMP(MICROS, true));
  required binary asset_id (STRING);
  required binary parameter (STRING);
  optional double value;
  optional int64 value_int;
  optional boolean value_bool;
  optional binary value_text (STRING);
  required binary value_type (STRING);
  optional binary value_label (STRING);
  optional binary unit (STRING);
  required binary quality (STRING);
  optional binary quality_reason (STRING);
  required group reasons (LIST) { repeated group list { required binary element (STRING); } }
  required binary classification (STRING);
  required binary time_source (STRING);
  required binary clock_state (STRING);
  optional int64 clock_skew_ms;
  optional binary asset_path (STRING);
  required int64 epoch;
  required int64 seq;
  required group flags (LIST) { repeated group list { required binary element (STRING); } }
  required group metadata (MAP) { repeated group key_value { required binary key (STRING); required binary value (STRING); } }
  required group tags (MAP) { repeated group key_value { required binary key (STRING); required binary value (STRING); } }
}";

static SCHEMA: LazyLock<TypePtr> =
    LazyLock::new(|| Arc::new(parse_message_type(MESSAGE).expect("a constant that a test parses")));

static PROPERTIES: LazyLock<Arc<WriterProperties>> = LazyLock::new(|| {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by("StreamForge".to_owned())
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .build();
    Arc::new(properties)
});

/// A file being written into memory.
pub struct ParquetFile {
    writer: SerializedFileWriter<Vec<u8>>,
}

impl std::fmt::Debug for ParquetFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetFile").field("bytes", &self.bytes()).finish()
    }
}

impl ParquetFile {
    pub fn new() -> Result<Self, ParquetError> {
        let writer = SerializedFileWriter::new(Vec::new(), Arc::clone(&SCHEMA), Arc::clone(&PROPERTIES))?;
        Ok(Self { writer })
    }

    /// Compressed bytes so far.
    pub fn bytes(&self) -> usize {
        self.writer.bytes_written()
    }

    /// Writes one row group. The readings must borrow from `arena`, or be constants.
    pub fn write(&mut self, arena: &Bytes, readings: &[Reading<'_>]) -> Result<(), ParquetError> {
        let text = |text: &str| slice(arena, text);
        let mut group = Group { rows: readings, writer: self.writer.next_row_group()? };
        group.required::<Int64Type>(|r| r.device_time.as_micros())?;
        group.required::<Int64Type>(|r| r.gateway_time.as_micros())?;
        group.required::<ByteArrayType>(|r| text(r.asset_id))?;
        group.required::<ByteArrayType>(|r| text(r.parameter))?;
        group.optional::<DoubleType>(|r| r.value.as_number())?;
        group.optional::<Int64Type>(|r| if let Value::Int(number) = r.value { Some(number) } else { None })?;
        group.optional::<BoolType>(|r| if let Value::Bool(truth) = r.value { Some(truth) } else { None })?;
        group.optional::<ByteArrayType>(|r| if let Value::Text(value) = r.value { Some(text(value)) } else { None })?;
        group.required::<ByteArrayType>(|r| constant(r.value_type.as_str()))?;
        group.optional::<ByteArrayType>(|r| r.value_label.map(text))?;
        group.optional::<ByteArrayType>(|r| r.unit.map(text))?;
        group.required::<ByteArrayType>(|r| constant(r.quality.as_str()))?;
        group.optional::<ByteArrayType>(|r| r.quality_reason.map(text))?;
        group.list(arena, |r| r.reasons)?;
        group.required::<ByteArrayType>(|r| constant(r.classification.as_str()))?;
        group.required::<ByteArrayType>(|r| text(r.time_source))?;
        group.required::<ByteArrayType>(|r| text(r.clock_state))?;
        group.optional::<Int64Type>(|r| r.clock_skew_ms)?;
        group.optional::<ByteArrayType>(|r| r.asset_path.map(text))?;
        group.required::<Int64Type>(|r| r.epoch)?;
        group.required::<Int64Type>(|r| r.seq)?;
        group.list(arena, |r| r.flags)?;
        group.repeated(|r, out| out.extend(r.metadata.iter().map(|(key, _)| text(key))))?;
        group.repeated(|r, out| out.extend(r.metadata.iter().map(|(_, value)| text(value))))?;
        group.repeated(|r, out| out.extend(r.tags.iter().map(|(key, _)| text(key))))?;
        group.repeated(|r, out| out.extend(r.tags.iter().map(|(_, value)| text(value))))?;
        group.writer.close()?;
        Ok(())
    }

    /// Ends the file; `notes` go into its footer.
    pub fn finish(mut self, notes: &[(&str, String)]) -> Result<Bytes, ParquetError> {
        for (key, value) in notes {
            self.writer.append_key_value_metadata(KeyValue::new((*key).to_owned(), value.clone()));
        }
        Ok(self.writer.into_inner()?.into())
    }
}

/// A text of the arena without a copy; a text from elsewhere is copied.
fn slice(arena: &Bytes, text: &str) -> ByteArray {
    let begin = arena.as_ptr().addr();
    let inside = text.as_ptr().addr() >= begin && text.as_ptr().addr() + text.len() <= begin + arena.len();
    if inside { arena.slice_ref(text.as_bytes()).into() } else { Bytes::copy_from_slice(text.as_bytes()).into() }
}

fn constant(text: &'static str) -> ByteArray {
    Bytes::from_static(text.as_bytes()).into()
}

/// Columns are written in the order of the schema, one whole column at a time.
struct Group<'g, 'w, 'r> {
    rows: &'g [Reading<'r>],
    writer: SerializedRowGroupWriter<'w, Vec<u8>>,
}

impl<'r> Group<'_, '_, 'r> {
    fn column<T: DataType>(
        &mut self,
        values: &[T::T],
        definitions: Option<&[i16]>,
        repetitions: Option<&[i16]>,
    ) -> Result<(), ParquetError> {
        let column = self.writer.next_column()?;
        let mut column = column.ok_or_else(|| ParquetError::General("more columns than the schema has".to_owned()))?;
        column.typed::<T>().write_batch(values, definitions, repetitions)?;
        column.close()
    }

    fn required<T: DataType>(&mut self, of: impl Fn(&Reading<'r>) -> T::T) -> Result<(), ParquetError> {
        let values: Vec<T::T> = self.rows.iter().map(of).collect();
        self.column::<T>(&values, None, None)
    }

    fn optional<T: DataType>(&mut self, of: impl Fn(&Reading<'r>) -> Option<T::T>) -> Result<(), ParquetError> {
        let mut values = Vec::new();
        let mut definitions = Vec::with_capacity(self.rows.len());
        for row in self.rows {
            let value = of(row);
            definitions.push(i16::from(value.is_some()));
            values.extend(value);
        }
        self.column::<T>(&values, Some(&definitions), None)
    }

    fn list(&mut self, arena: &Bytes, of: impl Fn(&Reading<'r>) -> TextList<'r>) -> Result<(), ParquetError> {
        self.repeated(|row, out| out.extend(of(row).iter().map(|text| slice(arena, text))))
    }

    /// A repeated text below a required group: definition 1 for an element, 0 for "none"; repetition 0 begins a row.
    fn repeated(&mut self, of: impl Fn(&Reading<'r>, &mut Vec<ByteArray>)) -> Result<(), ParquetError> {
        let mut values = Vec::new();
        let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
        for row in self.rows {
            let before = values.len();
            of(row, &mut values);
            let count = values.len() - before;
            definitions.push(i16::from(count > 0));
            repetitions.push(0);
            for _ in 1..count {
                definitions.push(1);
                repetitions.push(1);
            }
        }
        self.column::<ByteArrayType>(&values, Some(&definitions), Some(&repetitions))
    }
}
