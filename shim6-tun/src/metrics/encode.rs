//! From a snapshot to text.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::{Amounts, Figures};
use crate::status::PathStatus;

/// Writes a snapshot in the text format of OpenMetrics.
///
/// # Errors
///
/// None as long as there is memory.
pub fn encode(figures: Figures) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("shim6");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The daemon", build);
    let observation = Info::new([("method", figures.observation.clone())]);
    let help = "By what packets are watched that the daemon does not touch";
    registry.register("observation", help, observation);
    let changes = &figures.failovers.0;
    let help = "Changes of path by cause; preferred is the way back, requested a move by hand";
    registry.register("path_changes", help, changes.count.clone());
    let help = "How long nothing had worked when a context changed its path, by cause";
    registry.register_with_unit("failover_duration", help, Unit::Seconds, changes.duration.clone());
    registry.register_collector(Box::new(Snapshot(figures)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Snapshot(Figures);

/// Writes one family after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = &self.0;
        let mut families = Families(encoder);
        families.daemon(figures)?;
        families.contexts(figures)?;
        families.counters(figures)?;
        families.paths(figures)
    }
}

impl Families<'_> {
    fn daemon(&mut self, figures: &Figures) -> fmt::Result {
        let uptime = figures.uptime_ms as f64 / 1e3;
        self.gauge("uptime", "Time since the daemon started", Some(&Unit::Seconds), uptime)?;
        let help = "Things that keep the daemon from doing its work; shim6 status tells them";
        self.gauge("problems", help, None, figures.problems as f64)?;
        let uplinks = figures.uplinks.iter().map(|uplink| {
            let labels = [
                ("interface", uplink.interface.as_str()),
                ("prefix", uplink.prefix.as_str()),
            ];
            (labels, f64::from(u8::from(uplink.up)))
        });
        let help = "Whether the link is up and has our address";
        self.gauges("uplink_up", help, None, uplinks)
    }

    fn contexts(&mut self, figures: &Figures) -> fmt::Result {
        let gauges = |amounts: &Amounts, key: &'static str| {
            let labelled = amounts
                .iter()
                .map(move |(name, &count)| ([(key, name.clone())], count as f64));
            labelled.collect::<Vec<_>>()
        };
        let help = "Contexts by state (RFC 5533 section 6.2)";
        self.gauges("contexts", help, None, gauges(&figures.contexts, "state"))?;
        let help = "Contexts by the state of failure detection (RFC 5534 section 6)";
        self.gauges(
            "contexts_by_reachability",
            help,
            None,
            gauges(&figures.reachability, "state"),
        )?;
        let help = "Contexts on another locator pair than their ULIDs";
        self.gauge("contexts_moved", help, None, figures.moved as f64)?;
        let help = "Peers with which no context is tried for a while, by reason";
        self.gauges("peers_left_alone", help, None, gauges(&figures.left_alone, "reason"))?;
        let (sent, received) = (figures.sent, figures.received);
        let (out, back) = ([("direction", "sent")], [("direction", "received")]);
        let packets = [(out, sent.packets), (back, received.packets)];
        self.counts("context_packets", "Packets of contexts, on any path", packets)?;
        let octets = [(out, sent.octets), (back, received.octets)];
        self.counts(
            "context_octets",
            "Octets of those packets, without the Shim6 header",
            octets,
        )
    }

    fn counters(&mut self, figures: &Figures) -> fmt::Result {
        let counters = &figures.counters;
        let messages = |direction: &'static str, counts: &Amounts| {
            let labelled = counts
                .iter()
                .map(move |(kind, &count)| ([("direction", direction.to_owned()), ("type", kind.clone())], count));
            labelled.collect::<Vec<_>>()
        };
        let both = [
            messages("sent", &counters.sent),
            messages("received", &counters.received),
        ]
        .concat();
        self.counts(
            "messages",
            "Control messages by type; received ones were well-formed",
            both,
        )?;
        let discards = counters
            .discards
            .iter()
            .map(|(reason, &count)| ([("reason", reason.as_str())], count));
        self.counts("discards", "Messages and packets dropped, by reason", discards)?;
        let is_held = |name: &str| name.strip_prefix("hold_").map(str::to_owned);
        let is_octets = |name: &str| name.strip_suffix("_octets").map(str::to_owned);
        let packets = counters
            .dataplane
            .iter()
            .filter(|(name, _)| is_held(name).is_none() && is_octets(name).is_none());
        let packets = packets.map(|(name, &count)| ([("event", name.clone())], count));
        self.counts("dataplane_packets", "What the packet path did, by what", packets)?;
        let octets = counters
            .dataplane
            .iter()
            .filter_map(|(name, &count)| Some(([("event", is_octets(name)?)], count)));
        let help = "Octets of packets rewritten and restored, without the Shim6 header";
        self.counts("dataplane_octets", help, octets)?;
        let held = counters
            .dataplane
            .iter()
            .filter_map(|(name, &count)| Some(([("event", is_held(name)?)], count)));
        let help = "What became of packets that were sent while a path was looked for";
        self.counts("hold_packets", help, held)
    }

    fn paths(&mut self, figures: &Figures) -> fmt::Result {
        let help =
            "Locator pairs without series of their own; metrics.paths in the configuration is how many have some";
        self.gauge("paths_omitted", help, None, figures.paths_omitted as f64)?;
        let of = |value: fn(&PathStatus) -> Option<f64>| {
            let valued = figures
                .paths
                .iter()
                .filter_map(move |path| Some((pair(path), value(path)?)));
            valued.collect::<Vec<_>>()
        };
        let help = "Contexts that send on a locator pair";
        self.gauges("path_contexts", help, None, of(|path| Some(path.users as f64)))?;
        let help = "Whether a locator pair works as far as is known; absent where it was not tried";
        self.gauges("path_up", help, None, of(is_up))?;
        let rtt = of(|path| path.rtt_us.map(|rtt| rtt as f64 / 1e6));
        self.gauges("path_rtt", "The smoothed round-trip time", Some(&Unit::Seconds), rtt)?;
        let loss = of(|path| path.loss_permille.map(|loss| f64::from(loss) / 1e3));
        let help = "The share of the last 32 probes that got no answer";
        self.gauges("path_loss", help, Some(&Unit::Other("ratio".to_owned())), loss)?;
        let probes = figures.paths.iter().map(|path| (pair(path), path.probes_sent));
        self.counts("path_probes", "Probes sent that want an answer", probes)?;
        let answers = figures.paths.iter().map(|path| (pair(path), path.probes_answered));
        self.counts("path_answers", "Probes that were answered", answers)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        let family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(family)
    }

    fn gauges<const N: usize, V: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        series: impl IntoIterator<Item = ([(&'static str, V); N], f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in series {
            let labels = labels.each_ref().map(|(key, value)| (*key, value.as_ref()));
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counts<const N: usize, V: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'static str, V); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            let labels = labels.each_ref().map(|(key, value)| (*key, value.as_ref()));
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn pair(path: &PathStatus) -> [(&'static str, String); 3] {
    [
        ("local", path.pair.local.to_string()),
        ("peer", path.pair.peer.to_string()),
        ("uplink", path.uplink.clone().unwrap_or_default()),
    ]
}

fn is_up(path: &PathStatus) -> Option<f64> {
    match path.state.as_str() {
        "working" => Some(1.0),
        "unknown" => None,
        _ => Some(0.0),
    }
}
