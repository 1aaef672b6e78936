//! Many clients, slow clients, silent clients: limits hold and memory stays modest.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use kafka_protocol::messages::ApiVersionsRequest;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::client::Client;
use super::tls::{Authority, listener, write};
use super::{GUARDED, Site};
use crate::support::{PATIENCE, eventually};

/// Memory of this process in bytes.
fn memory() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Set for the process that is the broker alone: its memory is measured, and it needs a descriptor for each connection.
const ALONE: &str = "SF_TEST_CROWD_ALONE";
const CROWD: usize = 10_000;

/// Takes as many descriptors as the system lets it; how many connections that is, ten thousand at most.
fn crowd() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let descriptors = limit.maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap());
    // other tests of this process need some
    descriptors.saturating_sub(1_000).min(CROWD)
}

// security D.4 39: ten thousand idle connections, and the broker serves on
#[test]
fn a_silent_crowd_takes_little_memory() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if std::env::var_os(ALONE).is_some() {
        runtime.block_on(serve_a_crowd());
        return;
    }
    let arguments = ["access::crowd::a_silent_crowd_takes_little_memory", "--exact", "--nocapture"];
    let mut broker = Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .env(ALONE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(broker.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut said = said.filter_map(|line| line.strip_prefix("crowd: ").map(str::to_owned));
    let address = said.next().expect("the broker's address").parse().unwrap();
    let count = crowd();
    let held = runtime.block_on(gather(address, count));
    writeln!(broker.stdin.as_mut().unwrap(), "{count}").unwrap();
    let each: usize = said.next().expect("what the broker holds").parse().unwrap();
    // few connections would only show the noise
    assert!(each < 10 * 1024 || count < 2_000, "{each} bytes for each of {count} connections");
    runtime.block_on(async {
        let mut one = Client::connect(address).await;
        assert_eq!(one.call(3, &ApiVersionsRequest::default()).await.error_code, 0);
    });
    println!("{count} silent connections, {each} bytes each");
    drop((held, broker.stdin.take()));
    assert!(broker.wait().unwrap().success());
}

/// The broker's side: says its address, is told how many have come, says how many bytes it took for each.
async fn serve_a_crowd() {
    crowd();
    let broker = Site::start(|settings| {
        settings.connections_max = 20_000;
        settings.connections_per_address_max = 20_000;
    })
    .await;
    let before = memory();
    say(&broker.handle().kafka().to_string());
    let count: usize = told().await.unwrap().parse().unwrap();
    let open = format!(" {count}");
    eventually("all are held", async || broker.figures("sf_broker_connections{")[0].ends_with(&open)).await;
    say(&(memory().saturating_sub(before) / count).to_string());
    while told().await.is_some() {} // until the other side has seen enough
}

/// A line for the other side, which skips those of the test harness.
fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\ncrowd: {what}").unwrap();
}

/// The next line of the other side.
async fn told() -> Option<String> {
    tokio::task::spawn_blocking(|| std::io::stdin().lines().next()?.ok()).await.unwrap()
}

async fn gather(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::with_capacity(count);
    for number in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            // half of them spoke once
            stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0, 0]).await.unwrap();
            let size = timeout(PATIENCE, stream.read_i32()).await.unwrap().unwrap();
            stream.read_exact(&mut vec![0; usize::try_from(size).unwrap()]).await.unwrap();
        }
        held.push(stream);
    }
    held
}

/// Whether the broker ends the connection, and after what time on its clock.
async fn end(stream: &mut TcpStream) -> Duration {
    let begun = Instant::now();
    let mut bytes = [0; 64];
    let read = timeout(Duration::from_mins(30), stream.read(&mut bytes)).await.expect("the end");
    assert!(!matches!(read, Ok(1..)), "no answer");
    begun.elapsed()
}

// security D.4 39, STR-13: the time passes by itself here as soon as nobody has anything to do
#[tokio::test(start_paused = true)]
async fn slow_and_silent_clients_are_closed_in_their_time() {
    let files = tempfile::tempdir().unwrap();
    let authority = Authority::new("plant");
    write(files.path(), &authority.sign("broker"), &authority);
    let broker = Site::start(|settings| settings.listeners.push(listener(files.path(), "tls", ""))).await;
    let at_least = |time: Duration, seconds| {
        assert!(time >= Duration::from_secs(seconds) && time < Duration::from_secs(seconds + 5), "{time:?}");
    };
    let first = broker.handle().kafka();
    let mut half_a_frame = TcpStream::connect(first).await.unwrap();
    half_a_frame.write_all(&[0, 0, 0, 10, 0, 18]).await.unwrap();
    at_least(end(&mut half_a_frame).await, 60);
    let mut half_a_handshake = TcpStream::connect(broker.handle().listener("tls").unwrap()).await.unwrap();
    half_a_handshake.write_all(&[22, 3, 1]).await.unwrap();
    at_least(end(&mut half_a_handshake).await, 10);
    let mut half_a_login = TcpStream::connect(broker.handle().listener(GUARDED).unwrap()).await.unwrap();
    half_a_login.write_all(&[0, 0]).await.unwrap();
    at_least(end(&mut half_a_login).await, 10);
    let mut silent = TcpStream::connect(first).await.unwrap();
    at_least(end(&mut silent).await, 600);
}

// security D.4 39: those who have not logged in have few places, and one address not all of them
#[tokio::test(flavor = "multi_thread")]
async fn half_logins_of_one_address_leave_room_for_others() {
    let broker = Site::start(|_| ()).await;
    let address = broker.handle().listener(GUARDED).unwrap();
    let mut held = Vec::new();
    for _ in 0..140 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    eventually("some are refused", async || {
        let refused = broker.figures("sf_broker_connections_refused_total");
        refused.iter().any(|line| line.contains("limit=\"login\"") && line.ends_with(" 12"))
    })
    .await;
    // another address of this machine
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Client::over(Box::new(socket.connect(address).await.unwrap()));
    other.plain(super::ADMIN, super::PASSWORD).await.unwrap();
}

// security D.1 CR 7.1, STR-13: refused and counted, each limit by its name
#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_a_limit_are_counted_by_it() {
    for (limit, in_all, of_one) in [("in_all", 2, 10), ("address", 10, 2)] {
        let broker = Site::start(|settings| {
            settings.connections_max = in_all;
            settings.connections_per_address_max = of_one;
        })
        .await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut client = Client::connect(broker.handle().kafka()).await;
            client.call(3, &ApiVersionsRequest::default()).await;
            held.push(client);
        }
        assert!(Client::connect(broker.handle().kafka()).await.closed().await);
        let refused = broker.figures("sf_broker_connections_refused_total");
        assert!(refused.iter().any(|line| line.contains(limit) && line.ends_with(" 1")), "{refused:?}");
    }
}
