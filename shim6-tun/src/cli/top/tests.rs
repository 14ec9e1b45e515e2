use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::draw::{Palette, draw};
use super::feed::Update;
use super::keys::HELP;
use super::model::{Model, Order, Wish};
use super::snapshot::Snapshot;
use crate::cli::status::tests::sample;
use crate::status::{Event, Status};

const SIZE: (u16, u16) = (80, 24);

/// The picture as lines without the blanks at their ends.
fn lines(model: &mut Model, (width, height): (u16, u16)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal
        .draw(|frame| draw(frame, model, Palette::new(true)))
        .expect("a picture");
    let cells = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| cells[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

fn press(model: &mut Model, keys: &str) {
    for char in keys.chars() {
        let code = match char {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\u{8}' => KeyCode::Backspace,
            char => KeyCode::Char(char),
        };
        assert_eq!(
            model.press(KeyEvent::new(code, KeyModifiers::NONE)),
            Wish::Stay,
            "{char:?}"
        );
    }
}

fn at(uptime_ms: u64, change: impl FnOnce(&mut Status)) -> Update {
    let mut status = sample();
    status.uptime_ms = uptime_ms;
    change(&mut status);
    Update::Status(Box::new(status))
}

fn event(at_ms: u64, context: u64, kind: &str, message: &str) -> Event {
    Event {
        at_ms,
        kind: kind.to_owned(),
        context: Some(context),
        message: message.to_owned(),
        detail: serde_json::Value::Null,
    }
}

/// The ids of the contexts in the order of their rows.
fn ids(model: &Model) -> Vec<u64> {
    model.shown().iter().map(|context| context.id).collect()
}

#[test]
fn each_context_has_a_row_with_its_state_and_rates() {
    let start = sample().uptime_ms;
    let mut model = Model::new(sample());
    model.take(at(start + 2000, |status| {
        status.contexts[0].sent.octets += 2_000_000;
        status.contexts[1].received.octets += 500_000;
    }));
    let lines = lines(&mut model, SIZE);
    let row = |id: &str| {
        let found = lines.iter().find(|line| line.trim_start().starts_with(id));
        found.unwrap_or_else(|| panic!("no row {id}: {lines:#?}")).clone()
    };
    let words = |line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert_eq!(words(row("1 ")), "1 2001:db8:…5f44:6a55 ok wwan0 20.4 ms 1.00 MB 0 B 0");
    assert_eq!(
        words(row("2 ")),
        "2 2001:db8:…5f44:6a55 moved wwan0 20.4 ms 0 B 250 kB 1"
    );
    assert!(
        lines[0].starts_with("shim6 top  2 contexts, 1 moved  out 1.00 MB/s in 250 kB/s"),
        "{lines:#?}"
    );
    assert!(
        lines[1].contains("eth0 DOWN") && lines[1].contains("wwan0 up"),
        "{lines:#?}"
    );
    assert!(lines[SIZE.1 as usize - 1].starts_with("q quit"), "{lines:#?}");
}

#[test]
fn events_are_shown_in_their_order() {
    let mut model = Model::new(sample());
    model.take(Update::Event(event(8_000, 1, "failover", "an earlier one")));
    model.take(Update::Event(event(9_000, 2, "failover", "path moved")));
    model.take(Update::Event(event(9_500, 2, "reachability", "both directions work")));
    let text = lines(&mut model, SIZE);
    let happened: Vec<&String> = text.iter().filter(|line| line.contains("00s ")).collect();
    let [first, second, third] = happened.as_slice() else {
        panic!("{text:#?}");
    };
    assert!(first.contains("8.000s failover     1: an earlier one"), "{text:#?}");
    assert!(second.contains("9.000s failover     2: path moved"), "{text:#?}");
    assert!(third.contains("9.500s reachability"), "{text:#?}");
}

#[test]
fn events_are_bounded() {
    let mut model = Model::new(sample());
    for number in 0..2000 {
        model.take(Update::Event(event(number, 1, "failover", "again")));
    }
    assert_eq!(model.events().len(), 500);
    assert_eq!(model.events().next_back().map(|event| event.at_ms), Some(1999));
}

#[test]
fn contexts_are_sorted_and_stay_selected() {
    let mut model = Model::new(sample());
    model.take(at(sample().uptime_ms + 1000, |status| {
        status.contexts[1].sent.octets += 10
    }));
    assert_eq!((ids(&model), model.selected()), (vec![1, 2], Some(0)));
    press(&mut model, "5");
    assert_eq!((model.order, ids(&model)), (Order::Out, vec![2, 1]));
    assert_eq!(model.selected(), Some(1), "still the context with id 1");
    press(&mut model, "r");
    assert_eq!(ids(&model), [1, 2]);
    press(&mut model, "rs");
    assert_eq!(model.order, Order::In);
    press(&mut model, "S");
    assert_eq!(model.order, Order::Out);
    for order in Order::ALL {
        model.order = order;
        assert_eq!(ids(&model).len(), 2);
        let heading = lines(&mut model, SIZE)[2].clone();
        assert!(heading.contains(&format!("{}▼", order.title())), "{heading}");
    }
}

#[test]
fn filter_leaves_what_has_its_text() {
    let mut model = Model::new(sample());
    press(&mut model, "/movedx\u{8}");
    assert!(lines(&mut model, SIZE)[23].starts_with("/moved_"));
    press(&mut model, "\n");
    assert_eq!(ids(&model), [2]);
    assert_eq!(model.selected(), Some(0));
    press(&mut model, "/q");
    assert_eq!(ids(&model), [0; 0], "letters go into the filter");
    let text = lines(&mut model, SIZE).join("\n");
    assert!(text.contains("None of 2 contexts has `movedq`"), "{text}");
    press(&mut model, "\u{1b}");
    assert_eq!(ids(&model), [1, 2]);
    press(&mut model, "/DB8:A1:\n");
    assert_eq!(ids(&model), [2], "addresses in either case");
}

#[test]
fn details_have_the_round_trip_times_and_moves_of_one_context() {
    let mut model = Model::new(sample());
    model.take(Update::Event(event(9_000, 1, "established", "another one")));
    model.take(Update::Event(event(
        9_500,
        2,
        "failover",
        "path moved: link down on eth0",
    )));
    for (step, rtt_us) in [10_000, 40_000].into_iter().enumerate() {
        model.take(at(sample().uptime_ms + 1000 * (step as u64 + 1), |status| {
            status.contexts[1].rtt_us = Some(rtt_us);
        }));
    }
    press(&mut model, "j\n");
    let text = lines(&mut model, SIZE).join("\n");
    for expected in [
        "── context 2 ",
        "state       moved (established, operational), 1m 0s old",
        "2001:db8:a1:0:1c0d:22e3:3f44:5a55",
        "packets go  through the daemon by wwan0",
        "  lately    ▄▂█",
        "  at most   40.0 ms",
        "moves       1, the last 12.3s ago: link down on eth0",
        "9.500s failover     2: path moved",
    ] {
        assert!(text.contains(expected), "no {expected}: {text}");
    }
    assert!(!text.contains("another one"), "{text}");
    // What has no room can be read, but no further.
    press(&mut model, &"j".repeat(100));
    let end = lines(&mut model, (80, 12));
    assert!(end[10].contains("9.500s failover"), "{end:#?}");
    press(&mut model, "\u{1b}");
    assert_eq!(model.opened, None);
}

#[test]
fn a_context_that_ends_while_it_is_looked_at_is_said_to_be_gone() {
    let mut model = Model::new(sample());
    press(&mut model, "\n");
    assert_eq!(model.opened, Some(1));
    model.take(at(sample().uptime_ms + 1000, |status| drop(status.contexts.remove(0))));
    let text = lines(&mut model, SIZE).join("\n");
    assert!(text.contains("context 1 ") && text.contains("It is gone."), "{text}");
    press(&mut model, "\n");
    assert_eq!(model.selected(), Some(0), "another one is selected");
}

#[test]
fn without_a_daemon_it_says_so_until_there_is_one() {
    let mut model = Model::new(sample());
    press(&mut model, "\n");
    model.take(Update::Gone("no daemon runs at /run/shim6/shim6.sock".to_owned()));
    let text = lines(&mut model, (100, 24)).join("\n");
    assert!(text.contains("NO DAEMON, trying again"), "{text}");
    model.take(Update::Event(event(1, 1, "established", "of the first daemon")));
    model.take(at(500, |status| status.pid += 1));
    let text = lines(&mut model, SIZE).join("\n");
    assert!(
        !text.contains("NO DAEMON") && !text.contains("of the first daemon"),
        "{text}"
    );
    assert_eq!(model.opened, None, "its contexts are others");
}

#[test]
fn every_size_has_a_picture() {
    for width in [1, 5, 29, 30, 39, 47, 63, 80, 200] {
        for height in [1, 5, 6, 7, 11, 12, 24, 100] {
            let mut model = Model::new(sample());
            model.take(at(1, |status| status.problems = vec!["one".repeat(50); 5]));
            for keys in ["", "\n", "\u{1b}?", " /"] {
                press(&mut model, keys);
                let text = lines(&mut model, (width, height)).join("\n");
                if width >= 30 && height >= 6 {
                    assert!(!text.contains("needs"), "{width}x{height}: {text}");
                }
            }
        }
    }
    let mut model = Model::new(sample());
    let small = lines(&mut model, (40, 8)).join("\n");
    assert!(small.contains("moved") && small.contains("20.4 ms"), "{small}");
    let tiny = lines(&mut model, (29, 6)).join(" ");
    assert!(tiny.contains("needs 30 columns and 6"), "{tiny}");
}

#[test]
fn many_contexts_are_read_page_by_page() {
    let mut model = Model::new(sample());
    model.take(at(1, |status| {
        let context = status.contexts[0].clone();
        status.contexts = (0..1000)
            .map(|id| crate::status::ContextStatus { id, ..context.clone() })
            .collect();
    }));
    let first = lines(&mut model, SIZE);
    assert!(first[3].trim_start().starts_with("0 "), "{first:#?}");
    press(&mut model, "G");
    let last = lines(&mut model, SIZE);
    assert!(
        last.iter().any(|line| line.trim_start().starts_with("999 ")),
        "{last:#?}"
    );
    let page = model.page;
    let up = model.press(KeyEvent::new(KeyCode::PageUp, KeyModifiers::NONE));
    assert_eq!((up, model.selected()), (Wish::Stay, Some(999 - page)));
}

#[test]
fn help_names_every_key_and_any_key_closes_it() {
    let mut model = Model::new(sample());
    press(&mut model, "?");
    let text = lines(&mut model, SIZE).join("\n");
    for (keys, what) in HELP {
        assert!(text.contains(keys) && text.contains(what), "{text}");
    }
    press(&mut model, "q");
    assert!(!model.help);
}

#[test]
fn q_and_control_c_end_it_wherever_they_are_pressed() {
    let mut model = Model::new(sample());
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    for keys in ["", "\n", "\u{1b}/ab", "\n?"] {
        press(&mut model, keys);
        assert_eq!(model.press(control_c), Wish::Quit, "{keys:?}");
    }
    model.help = false;
    let q = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
    assert_eq!(model.press(q), Wish::Quit);
}

#[test]
fn without_colour_the_text_is_the_same() {
    let picture = |colored| {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal");
        let mut model = Model::new(sample());
        terminal
            .draw(|frame| draw(frame, &mut model, Palette::new(colored)))
            .expect("a picture");
        terminal.backend().buffer().clone()
    };
    let (with, without) = (picture(true), picture(false));
    let colors =
        |buffer: &ratatui::buffer::Buffer| buffer.content.iter().filter(|cell| cell.fg != Color::Reset).count();
    assert!(colors(&with) > 0);
    assert_eq!(colors(&without), 0);
    let symbols = |buffer: &ratatui::buffer::Buffer| {
        buffer
            .content
            .iter()
            .map(|cell| cell.symbol().to_owned())
            .collect::<String>()
    };
    assert_eq!(symbols(&with), symbols(&without));
}

#[test]
fn what_the_daemon_says_cannot_act_on_the_terminal() {
    let mut model = Model::new(sample());
    model.take(Update::Event(event(9_000, 1, "failover", "\u{1b}[2Jmoved\nhere")));
    let text = lines(&mut model, SIZE).join("\n");
    assert!(text.contains("?[2Jmoved?here"), "{text}");
}

#[test]
fn snapshot_has_the_rates_of_contexts_that_stayed() {
    let mut later = sample();
    later.uptime_ms += 500;
    later.contexts[1].sent.packets += 10;
    later.contexts[1].sent.octets += 1000;
    later.contexts[0].id = 7;
    let json = serde_json::to_value(Snapshot::between(sample(), later)).expect("serialises");
    assert_eq!(json["interval_ms"], 500);
    let nothing = serde_json::json!({ "packets": 0.0, "octets": 0.0 });
    let sent = serde_json::json!({ "packets": 20.0, "octets": 2000.0 });
    assert_eq!(
        json["rates"],
        serde_json::json!([{ "context": 2, "sent": sent, "received": nothing }])
    );
    assert_eq!(json["status"]["contexts"][0]["id"], 7);
}
