//! A private PostgreSQL with full durability, and the raw `COPY` our sink is held against.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, TryStreamExt};
use testkit::postgres::Postgres;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// What both sides run with.
pub const SETTINGS: &str = "fsync = on\nsynchronous_commit = on\nfull_page_writes = on\nshared_buffers = '512MB'\n\
                            max_wal_size = '4GB'\ncheckpoint_timeout = '15min'\nwal_compression = off\n";
/// The same in one line, for the record.
pub const SETTINGS_SHORT: &str =
    "fsync=on synchronous_commit=on full_page_writes=on shared_buffers=512MB max_wal_size=4GB";

/// Header of the binary format: signature, flags, length of an empty extension.
const HEADER_BYTES: usize = 19;
/// What ends the data.
const TRAILER: [u8; 2] = [0xff, 0xff];
/// Piece sent at once.
const PIECE_BYTES: usize = 256 * 1024;

/// A server with one connection to it.
#[derive(Debug)]
pub struct Database {
    // the order matters: the connection goes before its runtime, then the server, its keeper last
    client: Client,
    runtime: Runtime,
    pub server: Postgres,
    _keeper: Keeper,
}

/// Ends the server when this process is ended before it could: the server is nobody's child.
#[derive(Debug)]
struct Keeper(Child);

impl Keeper {
    fn start(server: u32, folder: &Path) -> anyhow::Result<Self> {
        // end of input means we are gone; a line means we have stopped the server ourselves
        let script = "read -r done || { kill -QUIT \"$0\"; sleep 1; rm -rf \"$1\"; }";
        let mut command = Command::new("sh");
        command.args(["-c", script, &server.to_string()]).arg(folder).stdin(Stdio::piped()).stdout(Stdio::null());
        Ok(Self(command.process_group(0).spawn()?)) // a Ctrl-C at the terminal is not for it
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let told = self.0.stdin.take().map(|mut pipe| pipe.write_all(b"done\n"));
        if !matches!(told, Some(Ok(()))) || self.0.wait().is_err() {
            crate::say::progress("the server's keeper was gone");
        }
    }
}

impl Database {
    /// A new cluster with [`SETTINGS`].
    pub fn start() -> anyhow::Result<Self> {
        let binaries = binaries().context("no PostgreSQL server on this machine")?;
        let server = Postgres::start_with(&binaries, SETTINGS)?;
        let keeper = Keeper::start(pid_of(&server).context("the server has no pid")?, server.folder())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let url = server.url("postgres");
        let (client, connection) = runtime.block_on(tokio_postgres::connect(&url, NoTls))?;
        drop(runtime.spawn(connection)); // ends with the client
        Ok(Self { client, runtime, server, _keeper: keeper })
    }

    pub fn url(&self) -> String {
        self.server.url("postgres")
    }

    /// Process of the server, parent of all its others.
    pub fn pid(&self) -> Option<u32> {
        pid_of(&self.server)
    }

    pub fn execute(&self, sql: &str) -> anyhow::Result<()> {
        Ok(self.runtime.block_on(self.client.batch_execute(sql))?)
    }

    /// The single number a query returns.
    pub fn number(&self, sql: &str) -> anyhow::Result<u64> {
        let row = self.runtime.block_on(self.client.query_one(sql, &[]))?;
        Ok(u64::try_from(row.try_get::<_, Option<i64>>(0)?.unwrap_or_default())?)
    }

    /// The single text a query returns.
    pub fn text(&self, sql: &str) -> anyhow::Result<String> {
        let row = self.runtime.block_on(self.client.query_one(sql, &[]))?;
        Ok(row.try_get::<_, Option<String>>(0)?.unwrap_or_default())
    }

    /// Records of a topic whose rows are committed: the sink keeps its positions in the same transaction.
    pub fn committed(&self, topic: &str) -> u64 {
        let sql = format!("SELECT sum(next_offset)::bigint FROM sf_sink_offsets WHERE topic = '{topic}'");
        self.number(&sql).unwrap_or_default() // before its first start the sink has made no table
    }

    /// Rows a query selects, as one binary `COPY`.
    pub fn copy_out(&self, query: &str) -> anyhow::Result<Bytes> {
        self.runtime.block_on(async {
            let stream = self.client.copy_out(&format!("COPY ({query}) TO STDOUT (FORMAT binary)")).await?;
            let mut stream = std::pin::pin!(stream);
            let mut all = BytesMut::new();
            while let Some(piece) = stream.try_next().await? {
                all.extend_from_slice(&piece);
            }
            Ok(all.freeze())
        })
    }

    /// One transaction of raw `COPY`: these rows into that table.
    pub fn copy_in(&self, table: &str, rows: &Bytes) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let sink = self.client.copy_in(&format!("COPY {table} FROM STDIN (FORMAT binary)")).await?;
            let mut sink = std::pin::pin!(sink);
            let header = Bytes::from_static(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
            sink.feed(header).await?;
            let mut rest = rows.clone();
            while !rest.is_empty() {
                sink.feed(rest.split_to(rest.len().min(PIECE_BYTES))).await?;
            }
            sink.feed(Bytes::from_static(&TRAILER)).await?;
            sink.finish().await?;
            Ok(())
        })
    }
}

fn pid_of(server: &Postgres) -> Option<u32> {
    let file = server.folder().join("data").join("postmaster.pid");
    std::fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()
}

/// Cuts a binary `COPY` into pieces of so many rows, without header and trailer.
pub fn split_rows(copy: &Bytes, rows_per_batch: u64) -> anyhow::Result<Vec<Bytes>> {
    let mut batches = Vec::new();
    let (mut at, mut begin, mut rows) = (HEADER_BYTES, HEADER_BYTES, 0);
    let two = |at: usize| copy.get(at..at + 2)?.try_into().ok().map(i16::from_be_bytes);
    let four = |at: usize| copy.get(at..at + 4)?.try_into().ok().map(i32::from_be_bytes);
    loop {
        let fields = two(at).context("the copy ends in the middle")?;
        if fields == -1 {
            if rows > 0 {
                batches.push(copy.slice(begin..at));
            }
            return Ok(batches);
        }
        at += 2;
        for _ in 0..fields {
            let length = four(at).context("the copy ends in a row")?;
            at += 4 + usize::try_from(length).unwrap_or(0); // -1 is NULL and has no bytes
        }
        rows += 1;
        if rows == rows_per_batch {
            batches.push(copy.slice(begin..at));
            (begin, rows) = (at, 0);
        }
        if at > copy.len() {
            bail!("the copy is damaged");
        }
    }
}

/// PATH first, then the Debian layout.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut debian: Vec<PathBuf> =
        std::fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten().map(|e| e.path()).collect();
    debian.sort();
    folders.extend(debian.into_iter().rev().map(|version| version.join("bin")));
    let has = |folder: &Path, program: &str| folder.join(program).is_file();
    folders.into_iter().find(|folder| has(folder, "initdb") && has(folder, "postgres"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_cut_between_rows() {
        let mut copy = vec![0_u8; HEADER_BYTES];
        let row: &[u8] = &[0, 2, 0, 0, 0, 1, 7, 0xff, 0xff, 0xff, 0xff]; // two fields: one byte, and NULL
        for _ in 0..5 {
            copy.extend_from_slice(row);
        }
        copy.extend_from_slice(&TRAILER);
        let batches = split_rows(&Bytes::from(copy.clone()), 2).unwrap();
        assert_eq!(batches.iter().map(Bytes::len).collect::<Vec<_>>(), [22, 22, 11]);
        copy.truncate(HEADER_BYTES + 15);
        assert!(split_rows(&Bytes::from(copy), 2).is_err());
    }
}
