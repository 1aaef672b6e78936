//! The MQTT broker double keeps the protocol over real sockets, misbehaves as its script says, and foreign clients agree.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::BytesMut;
use mqtt311::mqttbytes::QoS;
use mqtt311::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, LastWill, Packet, PubRel, Publish, SubscribeReasonCode,
};
use testkit::mosquitto;
use testkit::sim::mqtt::client::Client;
use testkit::sim::mqtt::fault::{Fault, Rule};
use testkit::sim::mqtt::sparkplug::{self, Metric, Value};
use testkit::sim::mqtt::{Broker, Fleet, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(20);

fn greeting(name: &str, clean: bool) -> Connect {
    let mut greeting = Connect::new(name);
    greeting.clean_session = clean;
    greeting
}

async fn connect(broker: &Broker, greeting: &Connect) -> Client {
    Client::connect(&broker.address().to_string(), greeting).await.unwrap()
}

async fn next(client: &mut Client) -> Packet {
    tokio::time::timeout(DEADLINE, client.next()).await.expect("an answer in time").unwrap()
}

async fn next_message(client: &mut Client) -> Publish {
    loop {
        if let Packet::Publish(publish) = next(client).await {
            return publish;
        }
    }
}

async fn subscribed(client: &mut Client, filter: &str) -> SubscribeReasonCode {
    client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    match next(client).await {
        Packet::SubAck(answer) => answer.return_codes[0],
        other => panic!("no answer to the subscription: {other:?}"),
    }
}

fn message(topic: &str, payload: &str, retain: bool) -> Message {
    Message { topic: topic.to_owned(), payload: payload.to_owned().into(), qos: 1, retain }
}

fn text(publish: &Publish) -> String {
    String::from_utf8(publish.payload.to_vec()).unwrap()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "never {what}");
}

// MQ-02, MQ-03, MQ-07: wildcards, kept messages, a session that outlives its connection
#[tokio::test]
async fn a_lasting_session_gets_what_it_missed_and_what_it_did_not_acknowledge() {
    let broker = Broker::local().await.unwrap();
    broker.publish(&message("a/kept", "kept", true));
    let mut reader = connect(&broker, &greeting("reader", false)).await;
    assert!(!reader.session_present);
    assert_eq!(subscribed(&mut reader, "a/+").await, SubscribeReasonCode::Success(QoS::AtLeastOnce));
    let kept = next_message(&mut reader).await;
    assert_eq!((text(&kept).as_str(), kept.retain, kept.dup), ("kept", true, false));
    reader.acknowledge(kept.pkid).await.unwrap();
    let mut writer = connect(&broker, &greeting("writer", true)).await;
    writer.publish("a/b", b"1".to_vec(), QoS::AtLeastOnce, false).await.unwrap();
    assert!(matches!(next(&mut writer).await, Packet::PubAck(_)));
    writer.publish("a/b/c", b"deeper".to_vec(), QoS::AtLeastOnce, false).await.unwrap();
    let first = next_message(&mut reader).await;
    assert_eq!((text(&first).as_str(), first.retain), ("1", false));
    drop(reader);
    until("the reader is gone", || broker.clients() == ["writer"]).await;
    writer.publish("a/b", b"2".to_vec(), QoS::AtLeastOnce, false).await.unwrap();
    let mut reader = connect(&broker, &greeting("reader", false)).await;
    assert!(reader.session_present);
    let again = next_message(&mut reader).await;
    assert_eq!((text(&again).as_str(), again.dup, again.pkid), ("1", true, first.pkid));
    let missed = next_message(&mut reader).await;
    assert_eq!((text(&missed).as_str(), missed.dup), ("2", false));
    let mut other = connect(&broker, &greeting("reader", true)).await;
    assert!(!other.session_present, "a clean session forgets");
    assert!(reader.next().await.is_err(), "one name, one connection");
    other.send(&Packet::Disconnect).await.unwrap();
}

// MQ-11, MQ-19: a will is told when a client is cut off, silent for too long, or gone, and not after a goodbye
#[tokio::test]
async fn wills() {
    let broker = Broker::local().await.unwrap();
    let mut watcher = connect(&broker, &greeting("watcher", true)).await;
    subscribed(&mut watcher, "status/#").await;
    let with_will = |name: &str| {
        let mut greeting = greeting(name, true);
        greeting.last_will = Some(LastWill::new(format!("status/{name}"), "gone", QoS::AtLeastOnce, true));
        greeting
    };
    let mut polite = connect(&broker, &with_will("polite")).await;
    polite.send(&Packet::Disconnect).await.unwrap();
    until("it said goodbye", || !broker.clients().contains(&"polite".to_owned())).await;
    let cut = connect(&broker, &with_will("cut")).await;
    broker.cut("cut");
    assert_eq!(&next_message(&mut watcher).await.topic[..], b"status/cut");
    drop(cut);
    let mut silent = with_will("silent");
    silent.keep_alive = 1;
    let _silent = connect(&broker, &silent).await;
    assert_eq!(&next_message(&mut watcher).await.topic[..], b"status/silent");
    drop(connect(&broker, &with_will("gone")).await);
    assert_eq!(&next_message(&mut watcher).await.topic[..], b"status/gone");
    assert_eq!(broker.counters().wills, 3);
}

// AC-052 and what MQ-01 to MQ-07 have to live with
#[tokio::test]
async fn faults_strike_as_scripted() {
    let broker = Broker::local().await.unwrap();
    broker.script(Rule::every(Fault::Subscription).topic("a/#").times(1));
    broker.script(Rule::every(Fault::Duplicate).topic("a/twice"));
    broker.script(Rule::every(Fault::Flood(3)).topic("a/flood"));
    broker.script(Rule::every(Fault::LoseAck).topic("a/unheard").client("writer"));
    broker.script(Rule::every(Fault::Deaf).client("reader").times(1));
    broker.script(Rule::every(Fault::Refuse(5)).client("stranger"));
    let refused = Client::connect(&broker.address().to_string(), &greeting("stranger", true)).await.unwrap_err();
    assert!(refused.to_string().contains("NotAuthorized"), "{refused}");
    let mut reader = connect(&broker, &greeting("reader", false)).await;
    assert_eq!(subscribed(&mut reader, "a/#").await, SubscribeReasonCode::Failure);
    assert_eq!(subscribed(&mut reader, "$share/g/a").await, SubscribeReasonCode::Failure);
    assert_eq!(subscribed(&mut reader, "a/#").await, SubscribeReasonCode::Success(QoS::AtLeastOnce));
    let mut writer = connect(&broker, &greeting("writer", true)).await;
    for topic in ["a/unheard", "a/twice", "a/flood"] {
        writer.publish(topic, topic.into(), QoS::AtLeastOnce, false).await.unwrap();
    }
    // the first is never acknowledged: it had the first id
    let Packet::PubAck(ack) = next(&mut writer).await else { panic!("an acknowledgement") };
    assert_eq!(ack.pkid, 2);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let publish = next_message(&mut reader).await;
        seen.push((String::from_utf8(publish.topic.to_vec()).unwrap(), publish.pkid, publish.dup));
    }
    let expected = [
        ("a/unheard", 1, false),
        ("a/twice", 2, false),
        ("a/twice", 2, true),
        ("a/flood", 3, false),
        ("a/flood", 4, false),
        ("a/flood", 5, false),
    ];
    assert_eq!(seen, expected.map(|(topic, id, dup)| (topic.to_owned(), id, dup)));
    for id in 1..=5 {
        reader.acknowledge(id).await.unwrap();
    }
    until("one acknowledgement was not heard", || broker.waiting("reader") == 1).await;
    broker.script(Rule::every(Fault::Forget).client("reader").after(1));
    let mut reader = connect(&broker, &greeting("reader", false)).await;
    assert_eq!(next_message(&mut reader).await.pkid, 1);
    assert!(!connect(&broker, &greeting("reader", false)).await.session_present, "forgotten as the script says");
    broker.behave();
    broker.script(Rule::every(Fault::Close).client("writer"));
    writer.publish("a/b", b"x".to_vec(), QoS::AtLeastOnce, false).await.unwrap();
    while writer.next().await.is_ok() {}
    broker.set_offline(true);
    until("everybody is gone", || broker.clients().is_empty()).await;
    assert!(Client::connect(&broker.address().to_string(), &greeting("late", true)).await.is_err());
    broker.set_offline(false);
    connect(&broker, &greeting("late", true)).await;
    assert!(broker.counters().faults >= 6, "{:?}", broker.counters());
}

// MQ-01: a client of version 5 is told to speak the older one
#[tokio::test]
async fn another_version_is_refused_in_a_way_it_understands() {
    let broker = Broker::local().await.unwrap();
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    stream.write_all(&[0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 30, 0, 0, 1, b'c']).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let mut bytes = BytesMut::from(&answer[..]);
    let refusal = ConnAck::new(ConnectReturnCode::RefusedProtocolVersion, false);
    assert_eq!(Packet::read(&mut bytes, 100).unwrap(), Packet::ConnAck(refusal));
    // bytes that are no protocol end the connection and nothing else
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok());
    connect(&broker, &greeting("c", true)).await;
}

#[tokio::test]
async fn a_message_of_quality_of_service_2_is_handed_on_once() {
    let broker = Broker::local().await.unwrap();
    let mut reader = connect(&broker, &greeting("reader", true)).await;
    subscribed(&mut reader, "#").await;
    let mut writer = connect(&broker, &greeting("writer", true)).await;
    let mut publish = Publish::new("a", QoS::ExactlyOnce, "once");
    publish.pkid = 7;
    for dup in [false, true] {
        publish.dup = dup;
        writer.send(&Packet::Publish(publish.clone())).await.unwrap();
        assert!(matches!(next(&mut writer).await, Packet::PubRec(received) if received.pkid == 7));
    }
    writer.send(&Packet::PubRel(PubRel::new(7))).await.unwrap();
    assert!(matches!(next(&mut writer).await, Packet::PubComp(done) if done.pkid == 7));
    writer.publish("a", b"after".to_vec(), QoS::AtMostOnce, false).await.unwrap();
    assert_eq!(text(&next_message(&mut reader).await), "once");
    assert_eq!(text(&next_message(&mut reader).await), "after");
}

// MQ-16 to MQ-18: the edge node is born, sends by alias, and is born again when it is asked
#[tokio::test]
async fn the_fleet_publishes_and_the_edge_node_is_born_again_on_demand() {
    let broker = Broker::local().await.unwrap();
    let mut host = connect(&broker, &greeting("host", true)).await;
    subscribed(&mut host, "plant/#").await;
    subscribed(&mut host, "spBv1.0/demo/#").await;
    let fleet = Fleet::start(&broker.address().to_string(), Duration::from_millis(20));
    let mut topics = Vec::new();
    let mut wait_for = async |wanted: &[&str], host: &mut Client| {
        topics.clear();
        while !wanted.iter().all(|topic| topics.iter().any(|seen| seen == topic)) {
            let publish = next_message(host).await;
            if publish.pkid > 0 {
                host.acknowledge(publish.pkid).await.unwrap();
            }
            topics.push(String::from_utf8(publish.topic.to_vec()).unwrap());
        }
        topics.clone()
    };
    let (birth, data) = ("spBv1.0/demo/NBIRTH/packaging", "spBv1.0/demo/DDATA/packaging/wrapper_01");
    let everything = [birth, "spBv1.0/demo/DBIRTH/packaging/wrapper_01", data, "plant/hall_1/hall_1_climate_01/state"];
    let seen = wait_for(&everything, &mut host).await;
    let first = |topic: &str| seen.iter().position(|seen| seen == topic).unwrap();
    assert!(first(birth) < first(everything[1]) && first(everything[1]) < first(data), "{seen:?}");
    let ask = sparkplug::payload(1, None, &[Metric::named(sparkplug::REBIRTH, Value::Bool(true))]);
    host.publish("spBv1.0/demo/NCMD/packaging", ask, QoS::AtLeastOnce, false).await.unwrap();
    wait_for(&[birth], &mut host).await;
    drop(fleet);
    wait_for(&["spBv1.0/demo/NDEATH/packaging"], &mut host).await;
}

// Clients somebody else wrote: mosquitto_pub and mosquitto_sub
#[tokio::test]
async fn foreign_clients_publish_subscribe_and_leave_wills() {
    if let Err(why) = mosquitto::available() {
        let told = writeln!(std::io::stderr(), "not run: MQTT broker double: foreign clients ({why})");
        return told.expect("standard error takes a line");
    }
    let broker = Broker::local().await.unwrap();
    let port = broker.address().port().to_string();
    let command = |program: &str, more: &[&str]| {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &port, "-V", "mqttv311"]).args(more).stdout(Stdio::piped());
        command
    };
    let run = async |mut command: Command| {
        let ran = tokio::task::spawn_blocking(move || command.output().unwrap());
        tokio::time::timeout(DEADLINE, ran).await.expect("it ends").unwrap()
    };
    let listening = ["-t", "a/+", "-t", "will", "-q", "1", "-C", "4", "-F", "%t %q %r %p", "-W", "15"];
    let sub = command("mosquitto_sub", &[&listening[..], &["-i", "foreign", "-c"]].concat()).spawn().unwrap();
    until("it listens", || broker.clients() == ["foreign"]).await;
    until("it has subscribed", || broker.seen().iter().any(|seen| matches!(seen.packet, Packet::Subscribe(_)))).await;
    for quality in ["0", "1", "2"] {
        let more = ["-t", "a/b", "-q", quality, "-m", quality, "-r"];
        assert!(run(command("mosquitto_pub", &more)).await.status.success());
    }
    let with_will = ["-t", "x", "--will-topic", "will", "--will-payload", "gone", "--will-qos", "1", "-i", "mortal"];
    let mut mortal = command("mosquitto_sub", &with_will).spawn().unwrap();
    until("it is there", || broker.clients().contains(&"mortal".to_owned())).await;
    mortal.kill().unwrap();
    mortal.wait().unwrap();
    let heard = tokio::task::spawn_blocking(move || sub.wait_with_output().unwrap()).await.unwrap();
    let heard = String::from_utf8(heard.stdout).unwrap();
    assert_eq!(heard, "a/b 0 0 0\na/b 1 0 1\na/b 1 0 2\nwill 1 0 gone\n");
    let kept = run(command("mosquitto_sub", &["-t", "#", "-q", "1", "-C", "1", "-F", "%t %r %p", "-W", "15"])).await;
    assert_eq!(String::from_utf8(kept.stdout).unwrap(), "a/b 1 2\n");
    // the same without saying the version: it is told the one we speak
    let mut plain = Command::new("mosquitto_pub");
    plain.args(["-h", "127.0.0.1", "-p", &port, "-t", "a", "-m", "1"]);
    assert!(run(plain).await.status.success());
}
