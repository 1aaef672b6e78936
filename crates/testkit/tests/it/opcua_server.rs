//! The OPC UA double as a client somebody else wrote sees it: asyncua. What our own client makes of it is in `adapters`.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use testkit::sim::opcua::opcua_types::{StatusCode, Variant};
use testkit::sim::opcua::{Limits, Server};

const DEADLINE: Duration = Duration::from_secs(60);

fn interpreter() -> Result<String, String> {
    if std::env::var_os("SF_TEST_EXTERNAL").is_none_or(|value| value != "1") {
        return Err("SF_TEST_EXTERNAL=1 is not set".to_owned());
    }
    let python = std::env::var("SF_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    match Command::new(&python).args(["-c", "import asyncua"]).output() {
        Ok(output) if output.status.success() => Ok(python),
        Ok(_) => Err(format!("{python} has no module asyncua")),
        Err(error) => Err(format!("{python}: {error}")),
    }
}

/// What the client prints, a line for each thing it looked at.
const CLIENT: &str = r#"
import asyncio, logging, sys
from asyncua import Client, ua
logging.disable(logging.CRITICAL)

async def main():
    async with Client(sys.argv[1], timeout=10) as client:
        names = await client.get_namespace_array()
        print("namespaces", *names[1:])
        line = names.index("urn:streamforge:sim:line")
        objects = await client.nodes.objects.get_children()
        print("objects", *sorted({str((await node.read_browse_name()).Name) for node in objects}))
        level = client.get_node(ua.NodeId("Filler.tank_level", line))
        print("level", (await level.read_data_type_as_variant_type()).name, 0 < await level.read_value() <= 90)
        unit = await (await level.get_child("0:EngineeringUnits")).read_value()
        span = await (await level.get_child("0:EURange")).read_value()
        print("unit", unit.DisplayName.Text, span.Low, span.High)
        state = client.get_node(ua.NodeId("Filler.state", line))
        print("states", *[name.Text for name in await (await state.get_child("0:EnumStrings")).read_value()])
        print("array", len(await client.get_node(ua.NodeId("Filler.nozzle_pressure", line)).read_value()))
        print("batch", await client.get_node(ua.NodeId("Filler.batch", line)).read_value())
        try:
            await client.get_node(ua.NodeId("Nowhere", line)).read_value()
        except ua.UaStatusCodeError as error:
            print("unknown", hex(error.code))
        try:
            await level.write_value(1.0)
        except ua.UaError as error:
            print("write", type(error).__name__)
        heard = asyncio.Queue()
        class Handler:
            def datachange_notification(self, node, value, data):
                heard.put_nowait((value, data.monitored_item.Value.StatusCode.value))
        subscription = await client.create_subscription(50, Handler())
        await subscription.subscribe_data_change(client.get_node(ua.NodeId("Given", line)))
        print("first", *(await asyncio.wait_for(heard.get(), 20)), flush=True)
        sys.stdin.readline()
        print("second", *(await asyncio.wait_for(heard.get(), 20)), flush=True)
        await subscription.delete()

asyncio.run(main())
"#;

// UA-32: somebody else's client finds its way, and what it may not do is refused
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_client_browses_reads_and_subscribes() {
    let python = match interpreter() {
        Ok(python) => python,
        Err(why) => {
            let told = writeln!(std::io::stderr(), "not run: OPC UA double: a foreign client ({why})");
            return told.expect("standard error takes a line");
        }
    };
    let limits = Limits { items_per_call: Some(1000), ..Limits::default() };
    let server = Server::start("127.0.0.1:0".parse().unwrap(), limits).await.unwrap();
    server.set("Given", 1.5_f64, StatusCode::Good);
    let url = format!("opc.tcp://127.0.0.1:{}/", server.address().port());
    let mut child = tokio::process::Command::new(python)
        .args(["-c", CLIENT, &url])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let waiting = async {
        while server.item_count() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // the first value has to be heard before the second is there
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.set("Given", Variant::from(2.5_f64), StatusCode::UncertainLastUsableValue);
        drop(child.stdin.take());
        child.wait_with_output().await.unwrap()
    };
    let output = tokio::time::timeout(DEADLINE, waiting).await.expect("the client ends");
    let heard = String::from_utf8(output.stdout).unwrap();
    let expected = "\
namespaces urn:streamforge:sim:server urn:streamforge:sim:line urn:streamforge:sim:spare
objects Capper Filler Given Server
level Double True
unit percent 0.0 100.0
states stopped rinsing filling fault
array 4
batch B-2026-0417
unknown 0x80340000
write BadServiceUnsupported
first 1.5 0
second 2.5 1083179008
";
    assert_eq!(heard, expected, "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.counters().changes_refused, 1);
    assert_eq!((server.session_count(), server.subscription_count()), (0, 0), "it left nothing behind");
}
