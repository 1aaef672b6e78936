//! A look at a run of registers: each as it is, and as the start of a number in every byte order.
//!
//! For the person who has a device and no manual worth the name. Only reads, ten registers at a time and at most five
//! requests a second, so that a bus in production keeps its own pace.

use std::fmt;
use std::time::Duration;

use modbus::{Data, DataType, Exception, Order, Table};
use tokio::time::Instant;

use super::connection::Connection;
use super::probe::{self, Error, Target};

/// Registers or bits of one request.
const STRIDE: u16 = 10;
/// From one request to the next.
const PACE: Duration = Duration::from_millis(200);
/// Most items of one scan; 40 seconds of registers.
pub const COUNT_MAX: u16 = 2000;

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
    /// The registers from a place on, if all of them are there.
    fn registers(&self, place: usize, count: usize) -> Option<Vec<u16>> {
        self.items.get(place..place + count)?.iter().copied().collect()
    }
}

impl fmt::Display for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { connection, unit, location, .. } = &self.target;
        let table = location.table;
        writeln!(f, "{} unit {unit}, {table} from {}", connection.target(), location.modicon())?;
        if let Some(exception) = self.refusal {
            writeln!(f, "- stands where the device says: {exception}")?;
        }
        let orders = Order::ALL.map(Order::name);
        match table {
            Table::Coil | Table::DiscreteInput => writeln!(f, "offset  value")?,
            _ => writeln!(
                f,
                "offset  hex   uint16   int16  {}      uint32 ABCD       CDAB  text",
                orders.map(|order| format!("float {order:<9}")).join("")
            )?,
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
            if let Some(pair) = self.registers(place, 2) {
                for order in Order::ALL {
                    let float = DataType::Float32.decode(order, &pair).map_or_else(
                        |_| "-".to_owned(),
                        |_| probe::show(DataType::Float32, order, &pair).chars().take(14).collect(),
                    );
                    write!(f, " {float:>14}")?;
                }
                for order in [Order::Abcd, Order::Cdab] {
                    write!(f, " {:>10}", probe::show(DataType::Uint32, order, &pair))?;
                }
                write!(f, "  ")?;
            }
            let printable = |byte: u8| if byte.is_ascii_graphic() { char::from(byte) } else { '.' };
            let [high, low] = item.to_be_bytes().map(printable);
            writeln!(f, "{high}{low}")?;
        }
        Ok(())
    }
}
