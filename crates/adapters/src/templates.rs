//! Adapters with a few slots to fill: what people begin with. Each is a file in `templates/`, listed here.

use std::sync::LazyLock;

use config::Template;

const FILES: [&str; 9] = [
    include_str!("../templates/modbus.json"),
    include_str!("../templates/energy_meter.json"),
    include_str!("../templates/drive.json"),
    include_str!("../templates/s7_1500.json"),
    include_str!("../templates/kepware.json"),
    include_str!("../templates/ignition.json"),
    include_str!("../templates/json_mqtt.json"),
    include_str!("../templates/sparkplug.json"),
    include_str!("../templates/simulator.json"),
];

static ALL: LazyLock<Vec<Template>> =
    LazyLock::new(|| FILES.iter().map(|file| serde_json::from_str(file).expect("a test reads all of them")).collect());

/// All templates, in the order people see them.
pub fn all() -> &'static [Template] {
    &ALL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_filled_with_its_examples_is_a_good_adapter_with_good_alarms() {
        let catalog = config::Catalog::new(crate::catalog::specs());
        for (place, template) in all().iter().enumerate() {
            let id = &template.id;
            assert!(all()[..place].iter().all(|other| other.id != *id), "{id} is there twice");
            assert!((3..=6).contains(&template.slots.len()), "{id}: 3 to 6 slots");
            let filled = template.fill(&template.examples()).unwrap_or_else(|problems| panic!("{id}: {problems:?}"));
            let document = serde_json::json!({
                "version": 1, "gateway_id": "gw", "adapters": [filled.settings], "alarms": {"rules": filled.alarms},
            });
            if let Err(problems) = config::document::read(&document, &catalog) {
                panic!("{id}: {problems:?}");
            }
            let whole = format!("{document}{}", filled.notes);
            assert!(!whole.contains("${"), "{id}: a slot without a name in {whole}");
        }
    }
}
