//! What the text says, and that the dashboard asks for nothing else.

use std::collections::BTreeSet;

use serde_json::Value;

use super::openmetrics::read;
use super::*;

#[test]
fn the_text_is_openmetrics_and_says_what_the_figures_are() {
    let text = encode(figures(3)).unwrap();
    let families = read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let value = |family: &str, sample: &str, labels: &[(&str, &str)]| families[family].value(sample, labels);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(value("shim6_build", "shim6_build_info", &version), 1.0);
    assert_eq!(value("shim6_uptime_seconds", "shim6_uptime_seconds", &[]), 12.345);
    let odd = [("interface", "odd\"name\\")];
    assert_eq!(value("shim6_uplink_up", "shim6_uplink_up", &odd), 1.0);
    assert_eq!(value("shim6_contexts", "shim6_contexts", &[("state", "i1-sent")]), 1.0);
    assert_eq!(value("shim6_contexts_moved", "shim6_contexts_moved", &[]), 3.0);
    let probes = [("direction", "received"), ("type", "Probe")];
    assert_eq!(value("shim6_messages", "shim6_messages_total", &probes), 1.0);
    let octets = [("direction", "received")];
    assert_eq!(
        value("shim6_context_octets", "shim6_context_octets_total", &octets),
        4.0
    );
    assert_eq!(
        value("shim6_hold_packets", "shim6_hold_packets_total", &[("event", "held")]),
        1.0
    );
    let rewritten = [("event", "out_rewritten")];
    let octets = value("shim6_dataplane_octets", "shim6_dataplane_octets_total", &rewritten);
    assert_eq!(octets, 2.0);
    let packets = &families["shim6_dataplane_packets"];
    assert_eq!(packets.samples.len(), 1, "octets are no packets");
    let pair = [("local", "2001:db8::1"), ("peer", "2001:db8::100"), ("uplink", "eth0")];
    assert_eq!(value("shim6_path_rtt_seconds", "shim6_path_rtt_seconds", &pair), 0.0205);
    assert_eq!(value("shim6_path_loss_ratio", "shim6_path_loss_ratio", &pair), 0.111);
    assert_eq!(
        families["shim6_path_up"].samples.len(),
        2,
        "what was not tried is neither"
    );

    let failovers = &families["shim6_failover_duration_seconds"];
    let bucket = |bound| {
        let labels = [("cause", "send-timeout"), ("le", bound)];
        failovers.value("shim6_failover_duration_seconds_bucket", &labels)
    };
    assert_eq!(
        (bucket("0.1"), bucket("0.2"), bucket("60.0"), bucket("+Inf")),
        (0.0, 1.0, 1.0, 2.0)
    );
    let changes = &families["shim6_path_changes"];
    assert_eq!(
        changes.value("shim6_path_changes_total", &[("cause", "send-timeout")]),
        2.0
    );
    assert_eq!(
        changes.value("shim6_path_changes_total", &[("cause", "icmp-error")]),
        0.0,
        "each cause is there"
    );
    assert_eq!(
        families["shim6_discards"].samples.len(),
        shim6_core::wire::Discard::ALL.len()
    );
}

#[test]
fn only_locator_pairs_make_the_text_grow() {
    let lines = |paths| encode(figures(paths)).unwrap().lines().count();
    assert!(lines(0) < 250, "{}", lines(0));
    assert!(lines(300) - lines(0) <= 6 * 300);
}

/// The metrics that a query names.
fn named(query: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    query
        .split(|c| !is_name(c))
        .filter(|word| word.starts_with("shim6_"))
        .collect()
}

fn queries<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(query) if ["expr", "query", "definition"].contains(&key.as_str()) => found.push(query),
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_metrics_and_labels_that_there_are() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/grafana/shim6.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let text = encode(figures(1)).unwrap();
    let families = read(&text).unwrap();
    let mut samples = BTreeSet::new();
    let mut labels: BTreeSet<&str> = ["instance", "job"].into();
    for (name, have) in families.values().flat_map(|family| family.samples.keys()) {
        samples.insert(name.as_str());
        labels.extend(have.keys().map(String::as_str));
    }
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    let metrics: BTreeSet<_> = found.iter().flat_map(|query| named(query)).collect();
    assert!(metrics.len() >= 15, "{metrics:?}");
    for metric in &metrics {
        assert!(samples.contains(metric), "{metric} is not exported");
    }
    for query in found {
        for part in query.split(['{', ',']).skip(1) {
            if let Some((label, _)) = part.split_once('=') {
                let label = label.trim_end_matches(['!', '~']).trim();
                assert!(labels.contains(label), "{label} is no label: {query}");
            }
        }
    }
}
