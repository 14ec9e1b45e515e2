//! All contexts, one per row.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Text;
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::super::super::output::{count, octets};
use super::super::model::{Model, Order, state};
use super::Palette;
use super::text::{round_trip, shortened};
use crate::status::ContextStatus;

/// A column: what it shows, how wide it is, and from which width of the terminal on there is room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Sortable(Order),
    /// The uplink that packets leave by.
    Uplink,
}

const COLUMNS: [(Column, u16, u16); 8] = [
    (Column::Sortable(Order::Id), 5, 0),
    (Column::Sortable(Order::Peer), 0, 0),
    (Column::Sortable(Order::State), 10, 0),
    (Column::Uplink, 7, 48),
    (Column::Sortable(Order::Rtt), 8, 40),
    (Column::Sortable(Order::Out), 9, 64),
    (Column::Sortable(Order::In), 9, 64),
    (Column::Sortable(Order::Moves), 6, 72),
];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &mut Model, palette: Palette) {
    let columns: Vec<(Column, u16, u16)> = COLUMNS.into_iter().filter(|&(_, _, from)| area.width >= from).collect();
    // A blank between each two.
    let fixed: u16 = columns.iter().map(|(_, width, _)| width + 1).sum();
    let peer_width = (area.width + 1).saturating_sub(fixed);
    model.page = usize::from(area.height.saturating_sub(1)).max(1);
    let shown = model.shown();
    if shown.is_empty() {
        frame.render_widget(Paragraph::new(nothing(model)), area);
        return;
    }
    let selected = model.selected();
    // Only what fits: there may be thousands.
    let first = first_row(selected.unwrap_or(0), shown.len(), model.page);
    let rows = shown.iter().skip(first).take(model.page).map(|context| {
        let cell =
            |&(column, _, _): &(Column, u16, u16)| cell(model, context, column, usize::from(peer_width), palette);
        Row::new(columns.iter().map(cell).collect::<Vec<_>>())
    });
    let heading = |&(column, _, _): &(Column, u16, u16)| heading(column, model);
    let widths = columns.iter().map(|&(_, width, _)| match width {
        0 => Constraint::Fill(1),
        width => Constraint::Length(width),
    });
    let table = Table::new(rows, widths)
        .header(Row::new(columns.iter().map(heading).collect::<Vec<_>>()).style(palette.heading()))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(selected.map(|at| at - first));
    frame.render_stateful_widget(table, area, &mut state);
}

/// The first row of the picture: the page that the selected one is on.
fn first_row(selected: usize, all: usize, page: usize) -> usize {
    (selected / page * page).min(all.saturating_sub(page))
}

fn nothing(model: &Model) -> String {
    if model.status().contexts.is_empty() {
        "No contexts yet: one is set up with each peer that speaks Shim6, once there is traffic.".to_owned()
    } else {
        format!(
            "None of {} contexts has `{}`; Esc shows all.",
            model.status().contexts.len(),
            model.filter
        )
    }
}

fn heading(column: Column, model: &Model) -> Cell<'static> {
    let (title, sorted) = match column {
        Column::Sortable(order) => (order.title(), order == model.order),
        Column::Uplink => ("UPLINK", false),
    };
    let text = match (sorted, model.reversed) {
        (false, _) => title.to_owned(),
        (true, false) => format!("{title}▼"),
        (true, true) => format!("{title}▲"),
    };
    aligned(column, text)
}

fn cell(model: &Model, context: &ContextStatus, column: Column, peer_width: usize, palette: Palette) -> Cell<'static> {
    let order = match column {
        Column::Sortable(order) => order,
        Column::Uplink => {
            let uplink = model.uplink(context.locators.local);
            return Cell::from(shortened(uplink.unwrap_or("?"), 7));
        }
    };
    let history = model.history(context.id);
    let rate = |octets_per_second: Option<f64>| octets(octets_per_second.unwrap_or(0.0) as u64);
    let text = match order {
        Order::Id => context.id.to_string(),
        Order::Peer => shortened(&context.ulids.peer.to_string(), peer_width),
        Order::State => return Cell::from(state(context).to_owned()).style(palette.state(context)),
        Order::Rtt => round_trip(context.rtt_us),
        Order::Out => rate(history.map(|history| history.out().octets)),
        Order::In => rate(history.map(|history| history.r#in().octets)),
        Order::Moves => count(context.failovers),
    };
    aligned(column, text)
}

/// Figures stand at the right.
fn aligned(column: Column, text: String) -> Cell<'static> {
    use Order::{Id, In, Moves, Out, Rtt};
    let text = Text::from(text);
    Cell::from(match column {
        Column::Sortable(Id | Rtt | Out | In | Moves) => text.right_aligned(),
        Column::Sortable(_) | Column::Uplink => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selected_row_is_on_the_page() {
        for (all, page) in [(1, 1), (10, 3), (10, 10), (5, 10), (1000, 7)] {
            for selected in 0..all {
                let first = first_row(selected, all, page);
                assert!(
                    first <= selected && selected < first + page,
                    "{selected} of {all}, {page}"
                );
            }
        }
    }
}
