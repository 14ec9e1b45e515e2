//! All that is known of one context.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::super::super::output::{age, count, octets, plain};
use super::super::model::{Model, state};
use super::text::{round_trip, shortened, sparkline};
use super::{Palette, event_line, rule};
use crate::status::{ContextStatus, PairStatus, Volume};

/// Columns of the names of figures.
const NAMES: usize = 12;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &mut Model, id: u64, palette: Palette) {
    let mut lines = vec![Line::styled(
        rule(&format!("context {id}"), area.width),
        palette.heading(),
    )];
    match model.context(id) {
        Some(context) => lines.extend(facts(model, context, area.width, palette)),
        None => lines.push(Line::styled("It is gone.", palette.changing())),
    }
    lines.push(Line::styled(rule("what happened to it", area.width), palette.heading()));
    let own = model.events().rev().filter(|event| event.context == Some(id));
    let before = lines.len();
    lines.extend(own.map(|event| event_line(event, palette)));
    if lines.len() == before {
        lines.push(Line::from("nothing since this was started"));
    }
    // Not beyond the last line.
    let most = lines.len().saturating_sub(usize::from(area.height));
    model.scrolled = model.scrolled.min(u16::try_from(most).unwrap_or(u16::MAX));
    frame.render_widget(Paragraph::new(lines).scroll((model.scrolled, 0)), area);
}

fn facts(model: &Model, context: &ContextStatus, width: u16, palette: Palette) -> Vec<Line<'static>> {
    let room = usize::from(width).saturating_sub(NAMES);
    let fact = |name: &str, text: String| Line::from(format!("{name:<NAMES$}{}", shortened(&text, room)));
    let mut lines = vec![Line::from(vec![
        Span::raw(format!("{:<NAMES$}", "state")),
        Span::styled(state(context).to_owned(), palette.state(context)),
        format!(
            " ({}, {}), {} old",
            plain(&context.state),
            plain(&context.reap),
            age(context.age_ms)
        )
        .into(),
    ])];
    lines.extend(pair("ULIDs", context.ulids, room));
    let uplink = model
        .uplink(context.locators.local)
        .map_or(String::new(), |uplink| format!(" by {}", plain(uplink)));
    if context.locators != context.ulids {
        lines.extend(pair("locators", context.locators, room));
    }
    if context.preferred != context.locators {
        lines.extend(pair("at home on", context.preferred, room));
    }
    let way = if context.steered {
        "through the daemon"
    } else {
        "the kernel's own way"
    };
    lines.push(fact("packets go", format!("{way}{uplink}")));
    let timeout = age(context.send_timeout_ms);
    lines.push(fact("given up", format!("after {timeout} without an answer")));
    let history = model.history(context.id);
    let rate = |volume: Volume, octets_per_second: Option<f64>| {
        format!(
            "{}/s, {} in {} packets",
            octets(octets_per_second.unwrap_or(0.0) as u64),
            octets(volume.octets),
            count(volume.packets)
        )
    };
    lines.push(fact(
        "sent",
        rate(context.sent, history.map(|history| history.out().octets)),
    ));
    lines.push(fact(
        "received",
        rate(context.received, history.map(|history| history.r#in().octets)),
    ));
    lines.push(fact("RTT", round_trip(context.rtt_us)));
    if let Some(history) = history {
        let all = history.rtts();
        let skipped = all.len().saturating_sub(room);
        let shown: Vec<Option<u64>> = all.skip(skipped).collect();
        let largest = shown.iter().flatten().max().copied();
        if largest.is_some() {
            lines.push(fact("  lately", sparkline(shown.iter().copied())));
            lines.push(fact("  at most", round_trip(largest)));
        }
    }
    for locator in &context.peer_locators {
        lines.push(fact("peer has", locator.to_string()));
    }
    lines.push(fact("moves", moves(context)));
    lines
}

/// On one line where both addresses have room.
fn pair(name: &str, pair: PairStatus, room: usize) -> Vec<Line<'static>> {
    let (local, peer) = (pair.local.to_string(), pair.peer.to_string());
    if local.len() + peer.len() + 4 <= room {
        return vec![Line::from(format!("{name:<NAMES$}{local} -> {peer}"))];
    }
    let line = |name: &str, address: &str| Line::from(format!("{name:<NAMES$}{}", shortened(address, room)));
    vec![line(name, &local), line("  to", &peer)]
}

fn moves(context: &ContextStatus) -> String {
    match &context.last_failover {
        None => context.failovers.to_string(),
        Some(last) => format!(
            "{}, the last {} ago: {}",
            context.failovers,
            age(last.ago_ms),
            plain(&last.cause)
        ),
    }
}
