//! Points in a spreadsheet: out of a document, changed, and back, with everything else left as people wrote it.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::harness::PROGRAM;

const DOCUMENT: &str = "\
# Line 3, by the electrician
version: 1
gateway_id: gw-3
adapters:
  - adapter_id: press
    adapter_type: modbus_tcp
    host: 10.0.0.5   # behind the cabinet
    asset_id: press_7
    registers:
      \"40001\": { param: temperature, type: float32, unit: celsius }
      \"40003\": { param: \"mode\", type: uint16 }
sinks: []
";

/// Exit code and what was printed.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String) {
    command("points", folder, arguments)
}

fn command(name: &str, folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output =
        Command::new(PROGRAM).arg(name).args(arguments).current_dir(folder).output().expect("the program runs");
    let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code().unwrap_or(-1), printed)
}

// wishes 12: thousands of points by table, errors by line, nothing lost on the way
#[test]
fn five_thousand_points_come_from_a_table_and_a_bad_cell_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("gateway.yaml"), DOCUMENT).expect("written");
    let (code, exported) = run(folder.path(), &["export", "gateway.yaml", "press"]);
    assert_eq!(code, 0, "{exported}");
    assert!(exported.starts_with("\u{feff}_key,_op,asset_id,parameter,address,"), "{exported}");
    std::fs::write(at("same.csv"), &exported).expect("written");
    let (code, told) = run(folder.path(), &["import", "gateway.yaml", "press", "same.csv"]);
    assert!(code == 0 && told.contains("0 new, 0 changed, 0 gone, 2 as they were."), "{told}");

    // as a person makes it in a spreadsheet of another country: semicolons, only the columns that matter
    let mut table = "_key;_op;parameter;address;type;scale;states\r\n".to_owned();
    table.push_str(
        "temperature;delete;;;;;\r\nmode;;mode;40003;uint16;;0=off; 1=on\r\n"
            .replace("0=off; 1=on", "\"0=off; 1=on\"")
            .as_str(),
    );
    for at in 0..5_000 {
        writeln!(table, ";;p_{at};{};int16;0,1;\r", 40_101 + at).expect("memory");
    }
    std::fs::write(at("line.csv"), &table).expect("written");
    let bad = table.replace(";;p_4999;45100;int16;0,1;", ";;p_4999;45100;int61;0,1;");
    std::fs::write(at("bad.csv"), bad.replace(";;p_7;40108;int16;0,1;", ";;p_7;40108;int16;x;")).expect("written");
    let (code, told) = run(folder.path(), &["import", "gateway.yaml", "press", "bad.csv", "--write"]);
    assert!(code == 78 && told.contains("bad.csv: line 11, column scale: \"x\" is not a number"), "{code} {told}");
    std::fs::write(at("bad.csv"), bad).expect("written");
    let (code, told) = run(folder.path(), &["import", "gateway.yaml", "press", "bad.csv", "--write"]);
    assert!(code == 78 && told.contains("line 5003, column type: \"int61\" is not one of"), "{code} {told}");
    assert_eq!(std::fs::read_to_string(at("gateway.yaml")).expect("there"), DOCUMENT);

    let (code, told) = run(folder.path(), &["import", "gateway.yaml", "press", "line.csv"]);
    assert!(code == 0 && told.contains("5000 new, 1 changed, 1 gone, 0 as they were."), "{told}");
    assert!(told.contains("~ mode: states nothing -> {\"0\":\"off\",\"1\":\"on\"}"), "{told}");
    assert_eq!(std::fs::read_to_string(at("gateway.yaml")).expect("there"), DOCUMENT, "only told");
    let (code, told) = run(folder.path(), &["import", "gateway.yaml", "press", "line.csv", "--write"]);
    assert!(code == 0 && told.contains("gateway.yaml is written"), "{told}");
    let written = std::fs::read_to_string(at("gateway.yaml")).expect("there");
    assert!(written.starts_with(&DOCUMENT[..DOCUMENT.find("    registers").expect("there")]), "comments stay");
    let mode = "    points:\n      - { parameter: mode, address: \"40003\", states: { \"0\": \"off\", \"1\": \"on\" }, type: uint16 }\n";
    assert!(written.contains(mode), "{}", &written[..600]);
    let checked = Command::new(PROGRAM).arg("check").arg(at("gateway.yaml")).output().expect("the program runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));

    // out again and in again: nothing differs
    run(folder.path(), &["export", "gateway.yaml", "press", "--out", "all.csv"]);
    let (code, told) = run(folder.path(), &["import", "gateway.yaml", "press", "all.csv", "--replace"]);
    assert!(code == 0 && told.contains("0 new, 0 changed, 0 gone, 5001 as they were."), "{told}");
    let (code, told) = run(folder.path(), &["export", "gateway.yaml", "pres"]);
    assert!(code == 64 && told.contains("no adapter \"pres\", but press"), "{code} {told}");
}

// wishes 27: an adapter from a few answers
#[test]
fn a_filled_template_is_an_adapter_of_the_document() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("gateway.yaml"), DOCUMENT).expect("written");
    let template = |arguments: &[&str]| command("template", folder.path(), arguments);
    let (code, told) = template(&["list"]);
    assert!(code == 0 && told.contains("energy_meter") && told.contains("s7_1500"), "{told}");
    let (code, told) = template(&["show", "drive"]);
    assert!(code == 0 && told.contains("speed"), "{told}");
    let (code, told) = template(&["fill", "energy_meter", "--set", "hots=10.0.0.9"]);
    assert!(code == 78 && told.contains("/hots: is not a slot") && told.contains("/host: is missing"), "{code} {told}");
    let set = ["--set", "adapter_id=meters", "--set", "host=10.0.0.9", "--set", "asset_id=meter_press_7"];
    let (code, told) = template(&[&["fill", "energy_meter", "--add-to", "gateway.yaml"], &set[..]].concat());
    assert!(code == 0 && told.contains("has the adapter meters now") && told.contains("meters_silent"), "{told}");
    let written = std::fs::read_to_string(at("gateway.yaml")).expect("there");
    assert!(written.starts_with(DOCUMENT.trim_end_matches("sinks: []\n")), "{written}");
    let checked = Command::new(PROGRAM).arg("check").arg(at("gateway.yaml")).output().expect("the program runs");
    let printed = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && printed.contains("2 adapters"), "{printed}");
    let (code, told) = template(&[&["fill", "energy_meter", "--add-to", "gateway.yaml"], &set[..]].concat());
    assert!(code == 78 && told.contains("used twice"), "the same name again: {code} {told}");
}
