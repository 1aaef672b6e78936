//! Readings of a plant in a file, to be played into a stream again: the same hour for rules that are tried out, for tests
//! and for a bug report.
//!
//! Lines of JSON, so that a text editor and a script can change them. The first one says what it is and when it began:
//! `{"streamforge_recording":1,"begin":"2026-01-29T10:00:00Z"}`. An object is a point, numbered in the order of appearance
//! from 0: `{"asset":"pump_01","parameter":"pressure","unit":"bar","type":"FLOAT","time_source":"DEVICE"}`. A list is a
//! reading: milliseconds since the reading before, number of the point, value, and as far as they differ from the usual how
//! many milliseconds the device's time lies behind the gateway's (0), the quality (GOOD) and its reason:
//! `[200,0,4.2]`, `[0,0,null,0,"BAD","TIMEOUT"]`.

use std::io::{BufRead, Write};

use model::{Quality, Timestamp, Value, ValueType};
use serde_json::{Value as Json, json};

/// Version of the format, in the first line.
const VERSION: u64 = 1;
/// Longest line that is read, in bytes.
const LINE_MAX: u64 = 64 * 1024;
/// Points of one recording.
const POINTS_MAX: usize = 100_000;

/// What a reading is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub asset_id: String,
    pub parameter: String,
    pub unit: Option<String>,
    pub value_type: ValueType,
    /// One of [`model::time_source`].
    pub time_source: String,
}

/// One reading of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Gateway time in milliseconds since the recording began.
    pub at_ms: i64,
    /// Number of the point.
    pub point: usize,
    /// Null, a number, a truth or a text.
    pub value: Json,
    /// How far the device's time lies behind the gateway's, in milliseconds.
    pub behind_ms: i64,
    pub quality: Quality,
    pub reason: Option<String>,
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the recording cannot be read")]
    Read(#[source] std::io::Error),
    #[error("line {line}: {reason}")]
    Line { line: u64, reason: String },
}

/// Reads a recording row by row.
#[derive(Debug)]
pub struct Reader<R> {
    lines: R,
    line: u64,
    begin: Timestamp,
    points: Vec<Point>,
    at_ms: i64,
}

/// Writes a recording row by row.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    at_ms: i64,
}

impl Row {
    /// The value as its point declares it; `None` when it is of another type.
    pub fn value(&self, value_type: ValueType) -> Option<Value<'_>> {
        match (&self.value, value_type) {
            (Json::Null, _) => Some(Value::Null),
            (Json::Number(number), ValueType::Float) => number.as_f64().map(Value::Float),
            (Json::Number(number), ValueType::Int) => number.as_i64().map(Value::Int),
            (Json::Bool(truth), ValueType::Bool) => Some(Value::Bool(*truth)),
            (Json::String(text), ValueType::String | ValueType::Raw) => Some(Value::Text(text)),
            _ => None,
        }
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line.
    pub fn open(lines: R) -> Result<Self, Error> {
        let mut reader = Self { lines, line: 0, begin: Timestamp::default(), points: Vec::new(), at_ms: 0 };
        let head = reader.next_line()?.unwrap_or_default();
        let version = head["streamforge_recording"].as_u64();
        let begin = head["begin"].as_str().and_then(Timestamp::parse_rfc3339);
        match (version, begin) {
            (Some(VERSION), Some(begin)) => reader.begin = begin,
            (Some(VERSION), None) => return Err(reader.wrong("\"begin\" is not a time like 2026-01-29T10:00:00Z")),
            (Some(other), _) => return Err(reader.wrong(&format!("version {other} is not one this program reads"))),
            (None, _) => return Err(reader.wrong("this is not a recording: \"streamforge_recording\" is missing")),
        }
        Ok(reader)
    }

    /// When the recording began, by the gateway's clock.
    pub fn begin(&self) -> Timestamp {
        self.begin
    }

    /// The points so far.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The next reading; `None` at the end.
    pub fn row(&mut self) -> Result<Option<Row>, Error> {
        loop {
            match self.next_line()? {
                None => return Ok(None),
                Some(Json::Object(object)) => {
                    let point = point(&object).map_err(|reason| self.wrong(&reason))?;
                    if self.points.len() == POINTS_MAX {
                        return Err(self.wrong(&format!("more than {POINTS_MAX} points")));
                    }
                    self.points.push(point);
                }
                Some(Json::Array(fields)) => return self.reading(fields).map(Some),
                Some(_) => return Err(self.wrong("a line is an object (a point) or a list (a reading)")),
            }
        }
    }

    fn reading(&mut self, mut fields: Vec<Json>) -> Result<Row, Error> {
        fields.resize(6, Json::Null);
        let whole = |at: usize| fields[at].as_i64();
        let passed = whole(0).filter(|passed| *passed >= 0);
        let passed = passed.ok_or_else(|| self.wrong("the first field is not a number of milliseconds, 0 or more"))?;
        self.at_ms = self.at_ms.saturating_add(passed);
        let number = whole(1).and_then(|number| usize::try_from(number).ok());
        let number = number.filter(|number| *number < self.points.len());
        let point = number.ok_or_else(|| self.wrong("the second field is not the number of a point above it"))?;
        let behind_ms = whole(3).unwrap_or(0);
        let quality = match &fields[4] {
            Json::Null => Some(Quality::Good),
            other => other.as_str().and_then(Quality::parse),
        };
        let quality = quality.ok_or_else(|| self.wrong("the fifth field is not GOOD, SUSPECT, UNCERTAIN or BAD"))?;
        let reason = fields[5].as_str().map(str::to_owned);
        let row = Row { at_ms: self.at_ms, point, value: fields.swap_remove(2), behind_ms, quality, reason };
        let Point { value_type, parameter, .. } = &self.points[point];
        if row.value(*value_type).is_none() {
            let reason = format!("{} is not a value of {parameter}, which is {}", row.value, value_type.as_str());
            return Err(self.wrong(&reason));
        }
        Ok(row)
    }

    /// The next line that is not empty.
    fn next_line(&mut self) -> Result<Option<Json>, Error> {
        loop {
            self.line += 1;
            let mut text = String::new();
            let length = std::io::Read::take(&mut self.lines, LINE_MAX).read_line(&mut text).map_err(Error::Read)?;
            if length == 0 {
                return Ok(None);
            }
            if u64::try_from(length).is_ok_and(|length| length >= LINE_MAX) {
                return Err(self.wrong(&format!("longer than {LINE_MAX} bytes")));
            }
            if !text.trim().is_empty() {
                let parsed = serde_json::from_str(&text);
                return parsed.map(Some).map_err(|error| self.wrong(&format!("not JSON: {error}")));
            }
        }
    }

    fn wrong(&self, reason: &str) -> Error {
        Error::Line { line: self.line, reason: reason.to_owned() }
    }
}

fn point(object: &serde_json::Map<String, Json>) -> Result<Point, String> {
    let text = |name: &str| object.get(name).and_then(Json::as_str).map(str::to_owned);
    let needed = |name: &str| text(name).filter(|text| !text.is_empty()).ok_or_else(|| format!("{name:?} is missing"));
    let value_type = match needed("type")?.as_str() {
        "FLOAT" => ValueType::Float,
        "INT" => ValueType::Int,
        "BOOL" => ValueType::Bool,
        "STRING" => ValueType::String,
        "RAW" => ValueType::Raw,
        other => return Err(format!("\"type\" {other:?} is not FLOAT, INT, BOOL, STRING or RAW")),
    };
    Ok(Point {
        asset_id: needed("asset")?,
        parameter: needed("parameter")?,
        unit: text("unit"),
        value_type,
        time_source: text("time_source").unwrap_or_else(|| model::time_source::ACQUISITION.to_owned()),
    })
}

impl<W: Write> Writer<W> {
    /// Writes the first line.
    pub fn create(mut out: W, begin: Timestamp) -> std::io::Result<Self> {
        writeln!(out, "{}", json!({ "streamforge_recording": VERSION, "begin": begin.to_string() }))?;
        Ok(Self { out, at_ms: 0 })
    }

    /// Writes a point; the first one has the number 0.
    pub fn point(&mut self, point: &Point) -> std::io::Result<()> {
        let Point { asset_id, parameter, unit, value_type, time_source } = point;
        let line = json!({ "asset": asset_id, "parameter": parameter, "unit": unit, "type": value_type.as_str(),
            "time_source": time_source });
        writeln!(self.out, "{line}")
    }

    /// Writes a reading of a point that was written. Readings come in the order of their gateway time.
    pub fn row(&mut self, row: &Row) -> std::io::Result<()> {
        let passed = row.at_ms.saturating_sub(self.at_ms).max(0);
        self.at_ms = self.at_ms.saturating_add(passed);
        let quality = (row.quality != Quality::Good).then(|| row.quality.as_str());
        let fields = [
            json!(passed),
            json!(row.point),
            row.value.clone(),
            if row.behind_ms == 0 { Json::Null } else { json!(row.behind_ms) },
            json!(quality),
            json!(row.reason),
        ];
        let used = fields.iter().rposition(|field| !field.is_null()).map_or(3, |last| (last + 1).max(3));
        writeln!(self.out, "{}", json!(fields[..used]))
    }

    /// Hands the output back.
    pub fn finish(self) -> W {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Vec<Point>, Vec<Row>), Error> {
        let mut reader = Reader::open(text.as_bytes())?;
        let mut rows = Vec::new();
        while let Some(row) = reader.row()? {
            rows.push(row);
        }
        Ok((reader.points().to_vec(), rows))
    }

    const HEAD: &str = "{\"streamforge_recording\":1,\"begin\":\"2026-01-29T10:00:00Z\"}\n";

    #[test]
    fn what_is_written_is_read_again() {
        let point = |parameter: &str, value_type, unit: Option<&str>| Point {
            asset_id: "pump".to_owned(),
            parameter: parameter.to_owned(),
            unit: unit.map(str::to_owned),
            value_type,
            time_source: "DEVICE".to_owned(),
        };
        let points = [point("pressure", ValueType::Float, Some("bar")), point("on", ValueType::Bool, None)];
        let good = Row { at_ms: 5, point: 0, value: json!(1.5), behind_ms: 0, quality: Quality::Good, reason: None };
        let bad = Row { value: Json::Null, quality: Quality::Bad, reason: Some("TIMEOUT".to_owned()), ..good.clone() };
        let late = Row { at_ms: 900, point: 1, value: json!(true), behind_ms: -20, ..good.clone() };
        let rows = [good, bad, late];
        let begin = Timestamp::parse_rfc3339("2026-01-29T10:00:00Z").unwrap();
        let mut writer = Writer::create(Vec::new(), begin).unwrap();
        for point in &points {
            writer.point(point).unwrap();
        }
        for row in &rows {
            writer.row(row).unwrap();
        }
        let text = String::from_utf8(writer.finish()).unwrap();
        assert!(text.contains("\n[5,0,1.5]\n[0,0,null,null,\"BAD\",\"TIMEOUT\"]\n[895,1,true,-20]\n"), "{text}");
        let (read_points, read_rows) = read(&text).unwrap();
        assert_eq!((read_points.as_slice(), read_rows.as_slice()), (points.as_slice(), rows.as_slice()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let point = "{\"asset\":\"a\",\"parameter\":\"p\",\"type\":\"INT\"}\n";
        for (text, expected) in [
            ("hello\n".to_owned(), "line 1: not JSON"),
            ("{}\n".to_owned(), "line 1: this is not a recording"),
            ("{\"streamforge_recording\":2}\n".to_owned(), "line 1: version 2"),
            (format!("{HEAD}[0,0,1]\n"), "line 2: the second field"),
            (format!("{HEAD}{point}[0,0,\"x\"]\n"), "line 3: \"x\" is not a value of p, which is INT"),
            (format!("{HEAD}{point}[-1,0,1]\n"), "line 3: the first field"),
            (format!("{HEAD}{point}[0,0,1,0,\"FINE\"]\n"), "line 3: the fifth field"),
            (format!("{HEAD}{{\"asset\":\"a\"}}\n"), "line 2: \"type\" is missing"),
            (format!("{HEAD}{}\n", "x".repeat(70_000)), "line 2: longer than"),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
