//! What is known of the daemon, and what of it the user wants to see.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet, VecDeque};

use super::feed::Update;
use super::history::History;
use crate::status::{ContextStatus, Event, Status};

/// Events that are kept.
const EVENTS: usize = 500;

/// What pressing a key asks for beyond another picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Stay,
    Quit,
}

/// What the contexts are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Id,
    Peer,
    State,
    Rtt,
    Out,
    In,
    Moves,
}

impl Order {
    pub(super) const ALL: [Self; 7] = [
        Self::Id,
        Self::Peer,
        Self::State,
        Self::Rtt,
        Self::Out,
        Self::In,
        Self::Moves,
    ];

    /// The heading of its column.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Id => "ID",
            Self::Peer => "PEER",
            Self::State => "STATE",
            Self::Rtt => "RTT",
            Self::Out => "OUT/s",
            Self::In => "IN/s",
            Self::Moves => "MOVES",
        }
    }

    pub(super) fn next(self) -> Self {
        self.after(1)
    }

    pub(super) fn previous(self) -> Self {
        self.after(Self::ALL.len() - 1)
    }

    fn after(self, steps: usize) -> Self {
        let at = Self::ALL.iter().position(|&order| order == self).unwrap_or(0);
        Self::ALL[(at + steps) % Self::ALL.len()]
    }
}

/// A context in a word: what the protocol does with it, or whether both directions work.
pub(super) fn state(context: &ContextStatus) -> &str {
    match (context.state.as_str(), context.reap.as_str()) {
        ("established", "operational") if context.steered => "moved",
        ("established", "operational") => "ok",
        ("established", reap) => reap,
        (state, _) => state,
    }
}

/// All that the picture is made of.
#[derive(Debug)]
pub(super) struct Model {
    status: Status,
    /// Why there is no daemon, while there is none.
    gone: Option<String>,
    histories: HashMap<u64, History>,
    /// The latest last.
    events: VecDeque<Event>,
    pub(super) order: Order,
    pub(super) reversed: bool,
    pub(super) filter: String,
    /// Keys go into the filter.
    pub(super) typing: bool,
    pub(super) help: bool,
    /// The selected context. It stays selected wherever it is sorted to.
    selected: Option<u64>,
    /// The context whose details are shown.
    pub(super) opened: Option<u64>,
    /// How far down the details are read.
    pub(super) scrolled: u16,
    /// Contexts that fitted into the last picture.
    pub(super) page: usize,
}

impl Model {
    pub(super) fn new(status: Status) -> Self {
        let mut model = Self {
            status: status.clone(),
            gone: None,
            histories: HashMap::new(),
            events: VecDeque::new(),
            order: Order::Id,
            reversed: false,
            filter: String::new(),
            typing: false,
            help: false,
            selected: None,
            opened: None,
            scrolled: 0,
            page: 1,
        };
        model.take_status(status);
        model
    }

    /// Takes in what the daemon says.
    pub(super) fn take(&mut self, update: Update) {
        match update {
            Update::Status(status) => self.take_status(*status),
            Update::Event(event) => self.take_event(event),
            Update::Gone(why) => self.gone = Some(why),
        }
    }

    fn take_status(&mut self, status: Status) {
        self.gone = None;
        if status.pid != self.status.pid {
            // Another daemon: its numbers and times begin again.
            self.histories.clear();
            self.events.clear();
            self.selected = None;
            self.opened = None;
        }
        for context in &status.contexts {
            let history = self.histories.entry(context.id).or_default();
            history.add(status.uptime_ms, context);
        }
        let there: HashSet<u64> = status.contexts.iter().map(|context| context.id).collect();
        self.histories.retain(|id, _| there.contains(id));
        self.status = status;
        self.select_something();
    }

    fn take_event(&mut self, event: Event) {
        self.events.push_back(event);
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }

    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// Why there is no daemon, while there is none.
    pub(super) fn gone(&self) -> Option<&str> {
        self.gone.as_deref()
    }

    /// The latest last.
    pub(super) fn events(&self) -> impl DoubleEndedIterator<Item = &Event> + ExactSizeIterator {
        self.events.iter()
    }

    /// The context's last samples.
    pub(super) fn history(&self, context: u64) -> Option<&History> {
        self.histories.get(&context)
    }

    pub(super) fn context(&self, id: u64) -> Option<&ContextStatus> {
        self.status.contexts.iter().find(|context| context.id == id)
    }

    /// The interface that has this address of ours.
    pub(super) fn uplink(&self, address: std::net::Ipv6Addr) -> Option<&str> {
        let uplink = self.status.uplinks.iter().find(|uplink| uplink.address == address);
        uplink.map(|uplink| uplink.interface.as_str())
    }

    /// The contexts that pass the filter, in the order asked for.
    pub(super) fn shown(&self) -> Vec<&ContextStatus> {
        let wanted = self.filter.to_lowercase();
        let contexts = self.status.contexts.iter();
        let mut shown: Vec<_> = contexts.filter(|context| self.matches(context, &wanted)).collect();
        shown.sort_by(|a, b| {
            let order = self.compare(a, b);
            let order = if self.reversed { order.reverse() } else { order };
            order.then(a.id.cmp(&b.id))
        });
        shown
    }

    /// Where the selected context is among the shown ones.
    pub(super) fn selected(&self) -> Option<usize> {
        self.shown()
            .iter()
            .position(|context| Some(context.id) == self.selected)
    }

    /// Selects the context at this place among the shown ones, or the last.
    pub(super) fn select(&mut self, place: usize) {
        let shown = self.shown();
        self.selected = shown.get(place).or(shown.last()).map(|context| context.id);
    }

    /// The first, if the selected one is not shown.
    pub(super) fn select_something(&mut self) {
        if self.selected().is_none() {
            self.select(0);
        }
    }

    /// Shows the details of the selected context.
    pub(super) fn open(&mut self) {
        self.scrolled = 0;
        self.opened = self.selected.filter(|&id| self.context(id).is_some());
    }

    fn matches(&self, context: &ContextStatus, wanted: &str) -> bool {
        let has = |text: &str| text.to_lowercase().contains(wanted);
        let pairs = [context.ulids, context.locators];
        wanted.is_empty()
            || pairs
                .iter()
                .any(|pair| has(&pair.local.to_string()) || has(&pair.peer.to_string()))
            || has(state(context))
            || has(&context.state)
            || self.uplink(context.locators.local).is_some_and(has)
            || context.id.to_string() == wanted
    }

    /// What people look for first: the largest figures, the smallest numbers and names.
    fn compare(&self, a: &ContextStatus, b: &ContextStatus) -> Ordering {
        let rate = |context: &ContextStatus, of: fn(&History) -> f64| self.history(context.id).map_or(0.0, of);
        let descending = |of: fn(&History) -> f64| rate(b, of).total_cmp(&rate(a, of));
        match self.order {
            Order::Id => a.id.cmp(&b.id),
            Order::Peer => a.ulids.peer.cmp(&b.ulids.peer),
            Order::State => state(a).cmp(state(b)),
            Order::Rtt => b.rtt_us.cmp(&a.rtt_us),
            Order::Out => descending(|history| history.out().octets),
            Order::In => descending(|history| history.r#in().octets),
            Order::Moves => b.failovers.cmp(&a.failovers),
        }
    }
}
