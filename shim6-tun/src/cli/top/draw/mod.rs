//! The picture.

mod details;
mod table;
mod text;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::super::output::{age, octets, plain, seconds};
use super::keys::HELP;
use super::model::{Model, state};
use crate::status::{ContextStatus, Event};
use text::shortened;

/// The smallest picture that says something, in columns and rows.
const SMALLEST: (u16, u16) = (30, 6);
/// Rows from which on there are events below the contexts.
const ROWS_WITH_EVENTS: u16 = 12;
/// Problems that are told; the others are counted.
const PROBLEMS: usize = 2;

/// Colours, or none. Nothing is said by colour alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    colored: bool,
}

impl Palette {
    /// What the user asks for: <https://no-color.org>.
    pub(super) fn of_environment() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Self {
            colored: !is_set("NO_COLOR"),
        }
    }

    #[cfg(test)]
    pub(super) fn new(colored: bool) -> Self {
        Self { colored }
    }

    fn color(self, color: Color) -> Style {
        if self.colored {
            Style::new().fg(color)
        } else {
            Style::new()
        }
    }

    fn good(self) -> Style {
        self.color(Color::Green)
    }

    fn bad(self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn changing(self) -> Style {
        self.color(Color::Yellow)
    }

    fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn state(self, context: &ContextStatus) -> Style {
        match state(context) {
            "ok" => self.good(),
            "exploring" | "inbound-ok" => self.bad(),
            _ => self.changing(),
        }
    }
}

/// Draws all of it, and keeps in the model how much of it there was room for.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model, palette: Palette) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (columns, rows) = SMALLEST;
        let text = format!("needs {columns} columns and {rows} rows; q quits");
        frame.render_widget(Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true }), area);
        return;
    }
    let top = top(model, palette, area.width);
    let tall = |lines: &[Line<'_>]| u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let events = match model.opened {
        None if area.height >= ROWS_WITH_EVENTS => area.height / 3,
        _ => 0,
    };
    let rows = [
        Constraint::Length(tall(&top)),
        Constraint::Min(2),
        Constraint::Length(events),
        Constraint::Length(1),
    ];
    let [head, middle, below, foot] = Layout::vertical(rows).areas(area);
    frame.render_widget(Paragraph::new(top), head);
    match model.opened {
        Some(id) => details::draw(frame, middle, model, id, palette),
        None => table::draw(frame, middle, model, palette),
    }
    if events > 0 {
        let heading = Line::styled(rule("what happened", below.width), palette.heading());
        let room = usize::from(events) - 1;
        let lines = latest(model.events(), room).map(|event| event_line(event, palette));
        frame.render_widget(
            Paragraph::new([heading].into_iter().chain(lines).collect::<Vec<_>>()),
            below,
        );
    }
    frame.render_widget(Paragraph::new(bottom(model, palette)), foot);
    if model.help {
        help(frame, area, palette);
    }
}

/// The daemon as a whole: what it carries, its uplinks, and what is wrong.
fn top(model: &Model, palette: Palette, width: u16) -> Vec<Line<'static>> {
    let status = model.status();
    let count = |wanted: &dyn Fn(&ContextStatus) -> bool| status.contexts.iter().filter(|c| wanted(c)).count();
    let moved = count(&|context| context.steered);
    let lost = count(&|context| matches!(state(context), "exploring" | "inbound-ok"));
    let mut first = vec![Span::styled("shim6 top", palette.heading())];
    first.push(format!("  {} contexts", status.contexts.len()).into());
    if moved > 0 {
        first.push(Span::styled(format!(", {moved} moved"), palette.changing()));
    }
    if lost > 0 {
        first.push(Span::styled(format!(", {lost} without a path"), palette.bad()));
    }
    let (mut out, mut received) = (0.0, 0.0);
    for history in status.contexts.iter().filter_map(|context| model.history(context.id)) {
        out += history.out().octets;
        received += history.r#in().octets;
    }
    first.push(
        format!(
            "  out {}/s in {}/s  up {}",
            octets(out as u64),
            octets(received as u64),
            age(status.uptime_ms)
        )
        .into(),
    );
    let mut lines = vec![Line::from(first), uplinks(model, palette)];
    if let Some(why) = model.gone() {
        let text = format!("NO DAEMON, trying again; what is shown is old: {}", plain(why));
        lines.push(Line::styled(shortened(&text, usize::from(width)), palette.bad()));
    }
    for problem in status.problems.iter().take(PROBLEMS) {
        let text = format!("! {}", plain(problem));
        lines.push(Line::styled(shortened(&text, usize::from(width)), palette.bad()));
    }
    if status.problems.len() > PROBLEMS {
        let more = status.problems.len() - PROBLEMS;
        lines.push(Line::styled(format!("! {more} more: shim6 status"), palette.bad()));
    }
    lines
}

fn uplinks(model: &Model, palette: Palette) -> Line<'static> {
    let mut spans = vec![Span::raw("uplinks")];
    for uplink in &model.status().uplinks {
        spans.push(format!("  {} ", plain(&uplink.interface)).into());
        spans.push(match uplink.up {
            true => Span::styled("up", palette.good()),
            false => Span::styled("DOWN", palette.bad()),
        });
        spans.push(format!(" {}", plain(&uplink.prefix)).into());
    }
    if model.status().uplinks.is_empty() {
        spans.push(Span::styled("  none: nothing can move", palette.bad()));
    }
    Line::from(spans)
}

/// The last line: what keys do, or what is typed.
fn bottom(model: &Model, palette: Palette) -> Line<'static> {
    if model.typing {
        return Line::from(vec![
            Span::styled(format!("/{}", plain(&model.filter)), palette.heading()),
            Span::styled("_", Style::new().add_modifier(Modifier::SLOW_BLINK)),
            "  Enter keeps, Esc clears".into(),
        ]);
    }
    if model.opened.is_some() {
        return Line::from("Esc back  up, down scroll  ? help  q quit");
    }
    let way = if model.reversed { ", reversed" } else { "" };
    let mut text = format!(
        "q quit  ? help  Enter details  s sort: {}{way}  / filter",
        model.order.title()
    );
    if !model.filter.is_empty() {
        text = format!("filter: {} (Esc clears)  {text}", plain(&model.filter));
    }
    Line::from(text)
}

fn help(frame: &mut Frame<'_>, area: Rect, palette: Palette) {
    let width = 60.min(area.width);
    let height = (HELP.len() as u16 + 2).min(area.height);
    let place = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    let line = |(keys, what): &(&'static str, &'static str)| {
        Line::from(vec![
            Span::styled(format!("{keys:<17}"), palette.heading()),
            (*what).into(),
        ])
    };
    let lines: Vec<Line<'_>> = HELP.iter().map(line).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), place);
}

fn event_line(event: &Event, palette: Palette) -> Line<'static> {
    let style = match event.kind.as_str() {
        "failover" | "reachability" | "no-answer" | "lagged" => palette.changing(),
        "established" | "failback" => palette.good(),
        _ => Style::new(),
    };
    let context = event.context.map_or(String::new(), |id| format!("{id}: "));
    Line::from(vec![
        format!("{:>10} ", seconds(event.at_ms)).into(),
        Span::styled(format!("{:<12} ", plain(&event.kind)), style),
        format!("{context}{}", plain(&event.message)).into(),
    ])
}

/// The last ones that there is room for.
fn latest<T>(all: impl ExactSizeIterator<Item = T>, room: usize) -> impl Iterator<Item = T> {
    let skipped = all.len().saturating_sub(room);
    all.skip(skipped)
}

/// A heading with a line behind it.
fn rule(title: &str, width: u16) -> String {
    let rest = usize::from(width).saturating_sub(title.chars().count() + 4);
    format!("── {title} {}", "─".repeat(rest))
}
