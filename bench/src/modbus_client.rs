//! Our side of the Modbus benchmark, as a process like its peers: reads registers in a closed loop.
//!
//! It drives the adapter's own connection (`adapters::modbus::connection`): a tokio TCP stream with both timeouts armed,
//! transaction ids, strict checks of every reply, a time stamp per answer. By default it also runs where an adapter polls:
//! in the main task of a runtime with one worker. The other place, a runtime of one thread, shows what that costs.

use std::time::Duration;

use adapters::modbus::connection::{Connection, Outcome};
use adapters::modbus::transport::ConnectionPlan;
use anyhow::bail;
use modbus::{Data, Read, Table};
use model::SystemClock;

use crate::{clock, say};

/// Answers every line "MILLISECONDS" of standard input with "COUNT NANOSECONDS SUM".
pub fn run(port: u16, registers: u16, one_thread: bool) -> anyhow::Result<()> {
    let mut builder = if one_thread {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1);
        builder
    };
    builder.enable_all().build()?.block_on(serve(port, registers))
}

async fn serve(port: u16, registers: u16) -> anyhow::Result<()> {
    let plan = ConnectionPlan::tcp("127.0.0.1".to_owned(), port, Duration::from_secs(1));
    let mut connection = Connection::open(&plan).await?;
    let reads = [Read::new(1, Table::HoldingRegister, 0, registers)?];
    let mut discarded = Vec::new();
    let mut line = String::new();
    // nothing else runs here: waiting for the next command may block
    while std::io::stdin().read_line(&mut line)? > 0 {
        let length = Duration::from_millis(line.trim().parse()?);
        line.clear();
        let begin = clock::now();
        let (mut count, mut sum) = (0_u64, 0_u64);
        let elapsed = loop {
            connection.check_alive()?;
            let outcomes = connection.request(&reads, &SystemClock, &mut discarded).await?;
            let [Outcome::Answer { answer: Ok(Data::Registers(values)), .. }] = outcomes.as_slice() else {
                bail!("the server refused: {outcomes:?}");
            };
            sum += values.iter().map(|value| u64::from(*value)).sum::<u64>();
            count += 1;
            let elapsed = begin.elapsed();
            if elapsed >= length {
                break elapsed;
            }
        };
        say::line(&format!("{count} {} {sum}", elapsed.as_nanos()));
    }
    Ok(())
}
