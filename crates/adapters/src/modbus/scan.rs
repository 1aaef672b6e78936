//! A look at a run of registers: each as it is, and as the start of a number in every byte order.
//!
//! For the person who has a device and no manual worth the name. Only reads, ten registers at a time and at most five
//! requests a second, so that a bus in production keeps its own pace.

use std::fmt;
use std::time::Duration;

use modbus::{Data, DataType, Exception, Order};
use tokio::time::Instant;

use super::connection::Connection;
use super::probe::{self, Error, Target};

/// Registers or bits of one request.
const STRIDE: u16 = 10;
/// From one request to the next.
const PACE: Duration = Duration::from_millis(200);
/// Most items of one scan; 40 seconds of registers.
pub const COUNT_MAX: u16 = 2000;

/// The longest float32: `-1.23456789e-38`.
const FLOAT_WIDTH: usize = 15;
const UINT_WIDTH: usize = 10;

/// What was seen. `Display` prints it for a terminal.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    pub target: Target,
    /// From the target's offset on; `None` where the device refuses.
    pub items: Vec<Option<u16>>,
    /// The first refusal, in words.
    pub refusal: Option<Exception>,
}

/// Connects, reads `count` items from the target's address on, disconnects.
pub async fn scan(target: &str, count: u16) -> Result<Scan, Error> {
    let target = Target::parse(target)?;
    let mut connection = Connection::open(&target.connection).await.map_err(|source| Error::Link { source })?;
    let end = (u32::from(target.location.offset) + u32::from(count.clamp(1, COUNT_MAX))).min(65_536);
    let mut scan = Scan { items: Vec::with_capacity(usize::from(count)), refusal: None, target };
    let mut next = u32::from(scan.target.location.offset);
    let mut due = Instant::now();
    while next < end {
        let length = u16::try_from(end - next).unwrap_or(STRIDE).min(STRIDE);
        let items = match one(&mut connection, &scan.target, next, length, &mut due).await {
            Ok(items) => items,
            Err(Error::Refused { exception, .. }) => {
                scan.refusal.get_or_insert(exception);
                if exception == Exception::ILLEGAL_FUNCTION {
                    vec![None; usize::from(length)]
                } else {
                    one_by_one(&mut connection, &scan.target, next, length, &mut due).await?
                }
            }
            Err(other) => return Err(other),
        };
        scan.items.extend(items);
        next += u32::from(length);
    }
    Ok(scan)
}

/// Where ten are refused together some of them may still be there.
async fn one_by_one(
    connection: &mut Connection,
    target: &Target,
    offset: u32,
    length: u16,
    due: &mut Instant,
) -> Result<Vec<Option<u16>>, Error> {
    let mut items = Vec::with_capacity(usize::from(length));
    for place in 0..u32::from(length) {
        items.extend(match one(connection, target, offset + place, 1, due).await {
            Err(Error::Refused { .. }) => vec![None],
            other => other?,
        });
    }
    Ok(items)
}

async fn one(
    connection: &mut Connection,
    target: &Target,
    offset: u32,
    length: u16,
    due: &mut Instant,
) -> Result<Vec<Option<u16>>, Error> {
    tokio::time::sleep_until(*due).await;
    *due = Instant::now() + PACE;
    let offset = u16::try_from(offset).unwrap_or(u16::MAX);
    let (data, _) = probe::read(connection, target, offset, length).await?;
    Ok(match data {
        Data::Bits(bits) => bits.into_iter().map(|bit| Some(u16::from(bit))).collect(),
        Data::Registers(registers) => registers.into_iter().map(Some).collect(),
    })
}

impl Scan {
    /// For scripts; null stands where the device refuses.
    pub fn to_json(&self) -> serde_json::Value {
        let Target { connection, unit, location, .. } = &self.target;
        serde_json::json!({
            "target": connection.target(),
            "unit": unit,
            "address": location.modicon(),
            "offset": location.offset,
            "items": self.items,
            "refusal": self.refusal.map(|refusal| refusal.to_string()),
        })
    }

    /// The registers from a place on, if all of them are there.
    fn registers(&self, place: usize, count: usize) -> Option<Vec<u16>> {
        self.items.get(place..place + count)?.iter().copied().collect()
    }
}

/// Two registers as a number of 32 bits.
fn write_pair(f: &mut fmt::Formatter<'_>, pair: &[u16]) -> fmt::Result {
    for order in Order::ALL {
        let is_number = DataType::Float32.decode(order, pair).is_ok();
        let text = if is_number { probe::show(DataType::Float32, order, pair) } else { "-".to_owned() };
        write!(f, " {text:>FLOAT_WIDTH$}")?;
    }
    for order in [Order::Abcd, Order::Cdab] {
        write!(f, " {:>UINT_WIDTH$}", probe::show(DataType::Uint32, order, pair))?;
    }
    Ok(())
}

impl fmt::Display for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { connection, unit, location, .. } = &self.target;
        let table = location.table;
        writeln!(f, "{} unit {unit}, {table} from {}", connection.target(), location.modicon())?;
        if let Some(exception) = self.refusal {
            writeln!(f, "- stands where the device says: {exception}")?;
        }
        if table.holds_bits() {
            writeln!(f, "offset  value")?;
        } else {
            write!(f, "offset  hex   uint16   int16")?;
            for order in Order::ALL {
                write!(f, " {:>FLOAT_WIDTH$}", format!("float {}", order.name()))?;
            }
            writeln!(f, " {:>UINT_WIDTH$} {:>UINT_WIDTH$}  text", "uint ABCD", "uint CDAB")?;
        }
        for (place, item) in self.items.iter().enumerate() {
            let offset = usize::from(location.offset) + place;
            let Some(item) = item else {
                writeln!(f, "{offset:6}  -")?;
                continue;
            };
            if table.holds_bits() {
                writeln!(f, "{offset:6}  {item}")?;
                continue;
            }
            let signed = i16::from_be_bytes(item.to_be_bytes());
            write!(f, "{offset:6}  {item:04X}  {item:6}  {signed:6}")?;
            match self.registers(place, 2) {
                Some(pair) => write_pair(f, &pair)?,
                None => write!(f, "{:1$}", "", 4 * (1 + FLOAT_WIDTH) + 2 * (1 + UINT_WIDTH))?,
            }
            let printable = |byte: u8| if byte.is_ascii_graphic() { char::from(byte) } else { '.' };
            let [high, low] = item.to_be_bytes().map(printable);
            writeln!(f, "  {high}{low}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_their_names() {
        let target = Target::parse("modbus://plc/1?address=40001").unwrap();
        let items = vec![Some(0x42AA), Some(0xCCCD), None, Some(0x7FC0), Some(0x4142)];
        let scan = Scan { target, items, refusal: Some(Exception::ILLEGAL_ADDRESS) };
        let text = scan.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("illegal data address"), "{text}");
        let end_of = |name: &str| lines[2].find(name).unwrap() + name.len();
        assert!(lines[3][..end_of("float ABCD")].ends_with(" 85.4"), "{text}");
        assert!(lines[3][..end_of("uint ABCD")].ends_with(" 1118489805"), "{text}");
        assert_eq!(lines[5], "     2  -");
        assert!(lines[6][..end_of("float ABCD")].ends_with(" -"), "not a number: {text}");
        assert_eq!(lines[7].find("AB"), lines[2].find("text"), "{text}");
        assert!(!text.contains("e-1\n") && lines[3].len() == lines[7].len(), "{text}");
    }
}
