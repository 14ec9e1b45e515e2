//! What keys do.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Model, Wish};

/// Longest filter, in characters: an IPv6 address.
const LONGEST_FILTER: usize = 39;

/// Keys and what they do, for the help.
pub(super) const HELP: [(&str, &str); 11] = [
    ("up, down, k, j", "select a context"),
    ("PgUp, PgDn", "a page up, a page down"),
    ("Home, End, g, G", "the first, the last"),
    ("Enter", "its pairs, round-trip times and moves"),
    ("Esc", "back; without a filter"),
    ("s, S", "sort by the next, the previous column"),
    ("1 to 7", "sort by that column"),
    ("r", "sort the other way round"),
    ("/", "filter by address, uplink, state or id"),
    ("?", "this help"),
    ("q, Ctrl-C", "quit"),
];

impl Model {
    /// Does what a key asks for.
    pub(super) fn press(&mut self, key: KeyEvent) -> Wish {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Wish::Quit,
            _ if self.help => self.help = false,
            _ if self.typing => self.edit(key.code, control),
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char('?') | KeyCode::F(1) => self.help = true,
            code if self.opened.is_some() => self.read(code),
            code => self.browse(code),
        }
        Wish::Stay
    }

    fn edit(&mut self, code: KeyCode, control: bool) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char('u') if control => self.filter.clear(),
            KeyCode::Char(char) if !control && self.filter.chars().count() < LONGEST_FILTER => self.filter.push(char),
            _ => {}
        }
        self.select_something();
    }

    /// Keys while the details of a context are shown.
    fn read(&mut self, code: KeyCode) {
        match code {
            KeyCode::Esc | KeyCode::Enter | KeyCode::Left | KeyCode::Backspace | KeyCode::Char('h') => {
                self.opened = None
            }
            KeyCode::Down | KeyCode::Char('j') => self.scrolled = self.scrolled.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::Home | KeyCode::Char('g') => self.scrolled = 0,
            _ => {}
        }
    }

    /// Keys while all contexts are shown.
    fn browse(&mut self, code: KeyCode) {
        let (at, page) = (self.selected().unwrap_or(0), self.page.max(1));
        match code {
            KeyCode::Down | KeyCode::Char('j') => self.select(at.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => self.select(at.saturating_sub(1)),
            KeyCode::PageDown => self.select(at.saturating_add(page)),
            KeyCode::PageUp => self.select(at.saturating_sub(page)),
            KeyCode::Home | KeyCode::Char('g') => self.select(0),
            KeyCode::End | KeyCode::Char('G') => self.select(usize::MAX),
            KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => self.open(),
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('S') => self.order = self.order.previous(),
            KeyCode::Char(digit @ '1'..='7') => self.order = super::model::Order::ALL[digit as usize - '1' as usize],
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => self.filter.clear(),
            _ => {}
        }
        self.select_something();
    }
}
