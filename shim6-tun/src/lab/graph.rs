//! A picture of a lab: nodes with their addresses, links with what they do.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use super::description::NodeKind;
use super::status::{LabStatus, LinkState, LinkStatus, NodeStatus};

const MARGIN: f64 = 30.0;
/// Least width of a node.
const NODE_WIDTH: f64 = 140.0;
/// Least room between two columns.
const BETWEEN: f64 = 150.0;
/// Least room between two nodes of a column.
const GAP: f64 = 46.0;
const LINE: f64 = 15.0;
/// Width of a character, about, in nodes and in what is said of links.
const CHARACTER: f64 = 6.6;
const SMALL_CHARACTER: f64 = 6.0;
/// Characters of a line that is said of a link, unless it is one word.
const WRAP: usize = 32;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2933}.name{font-weight:600;font-size:14px}.kind,.more{fill:#66788a;font-size:11px}\
.label{text-anchor:middle;paint-order:stroke;stroke:#fff;stroke-width:5px;stroke-linejoin:round;font-size:11px}\
.node{stroke-width:1.5;fill:#fff}.host{stroke:#2364aa;fill:#eaf2fb}.isp{stroke:#3d8b6d;fill:#eaf6f0}.router{stroke:#7b8794}\
.link{stroke:#7b8794;stroke-width:2.5;fill:none}.blackhole{stroke:#d1495b;stroke-dasharray:7 5}.no-carrier{stroke:#d1495b;\
stroke-dasharray:2 6}.bad{fill:#d1495b;font-weight:600}.element{fill:#b7791f}\
@media(prefers-color-scheme:dark){svg{background:#15191e}text{fill:#e4e9ee}.kind,.more{fill:#9aa8b5}.label{stroke:#15191e}\
.node{fill:#1f252c}.host{fill:#17293d}.isp{fill:#15302a}.bad{fill:#ff7b8a}.element{fill:#e0b25c}}";

/// Where a node is drawn.
#[derive(Clone, Copy, Debug)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// Draws a lab as SVG.
#[must_use]
pub fn svg(name: &str, status: &LabStatus) -> String {
    let columns = columns(status);
    let (between, gap) = room(status);
    let heights = |column: &Vec<usize>| {
        let heights = column.iter().map(|&node| height(&status.nodes[node], status));
        heights.map(|height| height + gap).sum::<f64>() - gap
    };
    let tallest = columns.iter().map(heights).fold(0.0, f64::max);
    let mut places = BTreeMap::new();
    let mut left = MARGIN;
    for column in &columns {
        let mut top = MARGIN + (tallest - heights(column)) / 2.0;
        let widest = column
            .iter()
            .map(|&node| width_of(&status.nodes[node], status))
            .fold(0.0, f64::max);
        for &node in column {
            let shown = &status.nodes[node];
            let place = Place {
                x: left + widest / 2.0,
                y: top + height(shown, status) / 2.0,
                width: width_of(shown, status),
                height: height(shown, status),
            };
            places.insert(shown.name.as_str(), place);
            top += height(shown, status) + gap;
        }
        left += widest + between;
    }
    let width = left - between + MARGIN;
    let height = 2.0 * MARGIN + tallest;
    let title = escape(&format!("The lab {name}"));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
         role=\"img\" aria-label=\"{title}\"><title>{title}</title><style>{STYLE}</style>\n"
    );
    for (number, link) in status.links.iter().enumerate() {
        let earlier = status.links[..number]
            .iter()
            .filter(|other| is_parallel(other, link))
            .count();
        if let [Some(from), Some(to)] = [0, 1].map(|end| places.get(link.ends[end].as_str())) {
            draw_link(&mut out, link, (*from, *to), earlier);
        }
    }
    for node in &status.nodes {
        if let Some(place) = places.get(node.name.as_str()) {
            draw_node(&mut out, node, &lines(node, status), *place);
        }
    }
    out.push_str("</svg>\n");
    out
}

/// The room that is needed between columns, and between the nodes of one, for what is said of links.
fn room(status: &LabStatus) -> (f64, f64) {
    let labels: Vec<_> = status.links.iter().map(labels).collect();
    let longest = labels
        .iter()
        .flatten()
        .map(|(_, text)| text.chars().count())
        .max()
        .unwrap_or(0);
    let lines = labels.iter().map(Vec::len).max().unwrap_or(0);
    // The middles of two links that begin at one node are half as far apart as the nodes where they end.
    let apart = 2.0 * (lines as f64 * LINE + 8.0) - 40.0;
    (BETWEEN.max(longest as f64 * SMALL_CHARACTER + 30.0), GAP.max(apart))
}

/// The nodes by how many links they are away from the first one, those of a column beside the nodes that they are linked with.
fn columns(status: &LabStatus) -> Vec<Vec<usize>> {
    let mut columns: Vec<Vec<usize>> = Vec::new();
    let mut depths: BTreeMap<usize, usize> = BTreeMap::new();
    for start in 0..status.nodes.len() {
        if depths.contains_key(&start) {
            continue;
        }
        depths.insert(start, 0);
        let mut waiting = VecDeque::from([start]);
        while let Some(node) = waiting.pop_front() {
            let depth = depths[&node];
            if columns.len() <= depth {
                columns.resize(depth + 1, Vec::new());
            }
            columns[depth].push(node);
            for other in neighbours(status, node) {
                depths.entry(other).or_insert_with(|| {
                    waiting.push_back(other);
                    depth + 1
                });
            }
        }
    }
    columns
}

/// In the order of the links.
fn neighbours(status: &LabStatus, node: usize) -> Vec<usize> {
    let name = &status.nodes[node].name;
    let other = |link: &LinkStatus| {
        let end = link.ends.iter().position(|end| end == name)?;
        status.nodes.iter().position(|node| node.name == link.ends[1 - end])
    };
    status.links.iter().filter_map(other).collect()
}

fn is_parallel(a: &LinkStatus, b: &LinkStatus) -> bool {
    a.ends == b.ends || (a.ends[0] == b.ends[1] && a.ends[1] == b.ends[0])
}

fn height(node: &NodeStatus, status: &LabStatus) -> f64 {
    40.0 + LINE * lines(node, status).len() as f64
}

fn width_of(node: &NodeStatus, status: &LabStatus) -> f64 {
    let longest = lines(node, status)
        .iter()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0);
    NODE_WIDTH.max(20.0 + CHARACTER * longest as f64)
}

/// What is said of a node below its name: the addresses that a host has on its links.
fn lines(node: &NodeStatus, status: &LabStatus) -> Vec<String> {
    let is_linked = |interface: &String| {
        let ends = status
            .links
            .iter()
            .flat_map(|link| link.ends.iter().zip(&link.interfaces));
        ends.into_iter().any(|end| end == (&node.name, interface))
    };
    let shown = node
        .addresses
        .iter()
        .filter(|(interface, _)| node.kind == NodeKind::Host && is_linked(interface));
    shown
        .map(|(interface, address)| format!("{interface}  {address}"))
        .collect()
}

fn draw_node(out: &mut String, node: &NodeStatus, lines: &[String], place: Place) {
    let (left, top) = (place.x - place.width / 2.0, place.y - place.height / 2.0);
    let radius = if node.kind == NodeKind::Isp {
        place.height / 2.0
    } else {
        7.0
    };
    let _ = write!(
        out,
        "<rect class=\"node {kind}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.0}\" height=\"{:.0}\" rx=\"{radius:.1}\"/>\
         <text class=\"name\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
         <text class=\"kind\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{kind}</text>",
        place.width,
        place.height,
        place.x,
        top + 18.0,
        escape(&node.name),
        place.x,
        top + 32.0,
        kind = node.kind,
    );
    for (number, line) in lines.iter().enumerate() {
        let y = top + 36.0 + LINE * (number + 1) as f64 - 2.0;
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            left + 10.0,
            escape(line)
        );
    }
    out.push('\n');
}

fn draw_link(out: &mut String, link: &LinkStatus, (from, to): (Place, Place), earlier: usize) {
    // A second link between two nodes goes around the first.
    let bend = earlier as f64 * 70.0;
    let same_column = (from.x - to.x).abs() < 1.0;
    let middle = if same_column {
        (from.x + bend, f64::midpoint(from.y, to.y))
    } else {
        (f64::midpoint(from.x, to.x), f64::midpoint(from.y, to.y) + bend)
    };
    // The control point of a curve is twice as far out as its middle.
    let control = (
        2.0 * middle.0 - f64::midpoint(from.x, to.x),
        2.0 * middle.1 - f64::midpoint(from.y, to.y),
    );
    let _ = write!(
        out,
        "<path class=\"link {}\" d=\"M{:.1} {:.1}Q{:.1} {:.1} {:.1} {:.1}\"/>",
        link.state.as_str(),
        from.x,
        from.y,
        control.0,
        control.1,
        to.x,
        to.y
    );
    let place = if same_column {
        middle
    } else {
        between_edges(from, to, bend)
    };
    let labels = labels(link);
    for (number, (class, text)) in labels.iter().enumerate() {
        let y = place.1 + 4.0 + LINE * (number as f64 - (labels.len() - 1) as f64 / 2.0);
        let _ = write!(
            out,
            "<text class=\"label {class}\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            place.0,
            escape(text)
        );
    }
    out.push('\n');
}

/// On the line between two nodes, as far from the edge of the one as from that of the other.
fn between_edges(from: Place, to: Place, bend: f64) -> (f64, f64) {
    let towards = (to.x - from.x).signum();
    let (start, end) = (from.x + towards * from.width / 2.0, to.x - towards * to.width / 2.0);
    let x = f64::midpoint(start, end);
    let y = from.y + (to.y - from.y) * (x - from.x) / (to.x - from.x);
    (x, y + bend)
}

/// What is said of a link, each with its class.
fn labels(link: &LinkStatus) -> Vec<(&'static str, String)> {
    let state = match link.state {
        LinkState::Up => None,
        LinkState::NoCarrier => Some("no carrier".to_owned()),
        LinkState::Blackhole if link.up.blackhole && link.down.blackhole => Some("blackhole".to_owned()),
        LinkState::Blackhole => {
            let sender = if link.up.blackhole {
                &link.ends[0]
            } else {
                &link.ends[1]
            };
            Some(format!("blackhole for what {sender} sends"))
        }
    };
    let mut labels = vec![("", link.name.clone())];
    labels.extend(state.map(|state| ("bad", state)));
    let mut say = |class, text: String| labels.extend(wrapped(&text).into_iter().map(|line| (class, line)));
    if link.up.settings == link.down.settings {
        say("more", link.up.settings.clone());
    } else {
        for (sender, settings) in [(&link.ends[0], &link.up.settings), (&link.ends[1], &link.down.settings)] {
            if !settings.is_empty() {
                say("more", format!("from {sender}: {settings}"));
            }
        }
    }
    link.elements.iter().for_each(|element| say("element", element.clone()));
    labels
}

/// A text in lines of moderate length.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < WRAP => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::DirectionStatus;

    fn node(name: &str, kind: NodeKind, addresses: &[&str]) -> NodeStatus {
        NodeStatus {
            name: name.to_owned(),
            kind,
            addresses: addresses
                .iter()
                .map(|text| ("eth0".to_owned(), text.parse().unwrap()))
                .collect(),
        }
    }

    fn link(name: &str, ends: [&str; 2]) -> LinkStatus {
        LinkStatus {
            name: name.to_owned(),
            ends: ends.map(str::to_owned),
            interfaces: ["eth0".to_owned(), "x".to_owned()],
            prefix: None,
            state: LinkState::Up,
            plain: false,
            elements: Vec::new(),
            up: DirectionStatus::default(),
            down: DirectionStatus::default(),
        }
    }

    fn status() -> LabStatus {
        let mut broken = link("mobile", ["a", "lte"]);
        broken.state = LinkState::Blackhole;
        broken.down.blackhole = true;
        broken.up.settings = "delay=20ms".to_owned();
        broken.elements = vec!["NPTv6 <x> & \"y\"".to_owned()];
        LabStatus {
            nodes: vec![
                node("a", NodeKind::Host, &["2001:db8:a1::1", "2001:db8:a2::1"]),
                node("lte", NodeKind::Isp, &[]),
                node("fibre", NodeKind::Isp, &[]),
                node("core", NodeKind::Router, &["2001:db8::1"]),
            ],
            links: vec![
                link("dsl", ["a", "fibre"]),
                broken,
                link("x", ["fibre", "core"]),
                link("y", ["core", "lte"]),
            ],
        }
    }

    #[test]
    fn nodes_stand_by_their_distance_from_the_first() {
        assert_eq!(columns(&status()), [vec![0], vec![2, 1], vec![3]]);
    }

    #[test]
    fn the_picture_has_every_node_link_address_and_state() {
        let svg = svg("home", &status());
        for text in [
            "The lab home",
            ">a</text>",
            "eth0  2001:db8:a2::1",
            ">mobile</text>",
            "blackhole for what lte sends",
            "from a: delay=20ms",
            "class=\"link blackhole\"",
            "NPTv6 &lt;x&gt; &amp; &quot;y&quot;",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        // A router's addresses are of no interest.
        assert!(!svg.contains("2001:db8::1<"));
        assert_eq!(svg.matches("<path").count(), 4);
    }
}
