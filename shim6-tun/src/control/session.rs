//! What programs ask for their sessions, after the intent of RFC 6316.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::methods::{Parameters, invalid};
use super::server::{Connection, reply};
use super::wire::Reply;
use super::{Answer, Objection, Request};
use crate::status::{AdviceStatus, Event, MoveStatus, PairStatus, SessionFlow, SessionName, SessionStatus};

/// What a program wants for its session.
#[derive(Debug)]
pub struct SessionRequest {
    /// The session.
    pub session: SessionName,
    /// Who asks, as the kernel says; `None` where it does not.
    pub user: Option<u32>,
    /// What for.
    pub wish: SessionWish,
}

/// What it wants.
#[derive(Debug)]
pub enum SessionWish {
    /// To be told what is known of it.
    Show(Answer<Result<SessionStatus, Objection>>),
    /// To have a context now, or never. The answer comes when there is one, or after some seconds.
    Protect(Protect, Answer<Result<SessionStatus, Objection>>),
    /// To have its context go back to this pair instead of the ULIDs, or to those again.
    Prefer(Option<PairStatus>, Answer<Result<SessionStatus, Objection>>),
    /// To have its context send on a pair until that fails, or to have the daemon choose again.
    Pin(Option<PairStatus>, Answer<Result<MoveStatus, Objection>>),
    /// To tell what the upper layer knows of the path.
    Advise(Advice, Answer<Result<AdviceStatus, Objection>>),
    /// To have a path of its own for the flow. The answer comes when it has, or after some seconds.
    Fork(Answer<Result<SessionStatus, Objection>>),
    /// To have the flow take the path of the others again.
    Join(Answer<Result<SessionStatus, Objection>>),
}

/// When a session gets a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protect {
    /// Now, whatever the policy says.
    Now,
    /// Never: those that there are get closed, and the peer's attempts are not answered.
    Never,
    /// As the configuration says, which is so from the start.
    ByPolicy,
}

/// What an upper layer knows of the path in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Advice {
    /// The peer has acknowledged something new.
    Positive,
    /// The peer has not acknowledged what it should have.
    Negative,
}

/// A call about a session, without the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionMethod {
    Show,
    Protect(Protect),
    Prefer(Option<PairStatus>),
    Pin(Option<PairStatus>),
    Advise(Advice),
    Fork,
    Join,
    Events,
}

/// Which events are about a session.
#[derive(Debug)]
pub(super) struct Watch {
    session: SessionName,
    /// The context of the flow's fork, while it has one.
    fork: Option<u64>,
}

impl SessionMethod {
    /// Reads a call by its name; `None` if it is about something else.
    pub(super) fn read(name: &str, parameters: &mut Parameters) -> Option<Result<(SessionName, Self), Reply>> {
        let method = match name {
            "GetSession" => Ok(Self::Show),
            "Protect" => parameters.required("protection").map(Self::Protect),
            "Prefer" => parameters.optional("pair").map(Self::Prefer),
            "Pin" => parameters.optional("pair").map(Self::Pin),
            "Advise" => parameters.required("advice").map(Self::Advise),
            "Fork" => Ok(Self::Fork),
            "Join" => Ok(Self::Join),
            "SessionEvents" => Ok(Self::Events),
            _ => return None,
        };
        Some(method.and_then(|method| Ok((session(parameters)?, method))))
    }

    /// What to log of it; `None`: it only reads. Advice comes often, and what it changes shows in the events.
    fn change(self) -> Option<&'static str> {
        match self {
            Self::Show | Self::Events | Self::Advise(_) => None,
            Self::Protect(Protect::Now) => Some("protect now"),
            Self::Protect(Protect::Never) => Some("never protect"),
            Self::Protect(Protect::ByPolicy) => Some("protect by policy"),
            Self::Prefer(_) => Some("prefer a path"),
            Self::Pin(_) => Some("pin to a path"),
            Self::Fork => Some("fork"),
            Self::Join => Some("join"),
        }
    }
}

fn session(parameters: &mut Parameters) -> Result<SessionName, Reply> {
    let session: SessionName = parameters.required("session")?;
    let is_flow = |flow: SessionFlow| flow.has_ports() && flow.local_port > 0 && flow.peer_port > 0;
    match session.flow.is_none_or(is_flow) {
        true => Ok(session),
        false => Err(invalid("session")),
    }
}

impl Connection {
    /// Has the daemon do what a program asks for its session. `None`: it does not answer.
    pub(super) async fn serve_session(&self, session: SessionName, method: SessionMethod) -> Option<Reply> {
        let user = self.user();
        if let Some(what) = method.change() {
            tracing::info!(uid = user, pid = self.process(), %session, "asked to {what}");
        }
        let request = |wish| Request::Session(SessionRequest { session, user, wish });
        match method {
            SessionMethod::Show => self.ask(|answer| request(SessionWish::Show(answer))).await.map(shown),
            SessionMethod::Protect(when) => {
                let asked = self.ask(|answer| request(SessionWish::Protect(when, answer)));
                asked.await.map(shown)
            }
            SessionMethod::Prefer(pair) => {
                let asked = self.ask(|answer| request(SessionWish::Prefer(pair, answer)));
                asked.await.map(shown)
            }
            SessionMethod::Pin(pair) => {
                let asked = self.ask_again(|answer| request(SessionWish::Pin(pair, answer)));
                asked.await.map(reply)
            }
            SessionMethod::Advise(advice) => {
                let asked = self.ask(|answer| request(SessionWish::Advise(advice, answer)));
                asked.await.map(reply)
            }
            SessionMethod::Fork => self.ask(|answer| request(SessionWish::Fork(answer))).await.map(shown),
            SessionMethod::Join => self.ask(|answer| request(SessionWish::Join(answer))).await.map(shown),
            // Answered by a stream.
            SessionMethod::Events => None,
        }
    }

    /// Begins to watch a session, which has to be known before its events are.
    pub(super) async fn watch(&self, session: SessionName) -> Result<Watch, Reply> {
        let user = self.user();
        let asked = self.ask(|answer| {
            Request::Session(SessionRequest {
                session,
                user,
                wish: SessionWish::Show(answer),
            })
        });
        match asked.await {
            Some(Ok(status)) => Ok(Watch::new(&status)),
            Some(Err(objection)) => Err(reply(Err::<Value, _>(objection))),
            None => Err(Reply::error(super::wire::INTERFACE, "Unavailable", Map::new())),
        }
    }
}

fn shown(answer: Result<SessionStatus, Objection>) -> Reply {
    reply(answer.map(|status| BTreeMap::from([("status", status)])))
}

impl Watch {
    fn new(status: &SessionStatus) -> Self {
        let forks = status.forks.iter();
        let its = forks.filter(|fork| Some(fork.flow) == status.session.flow);
        Self {
            session: status.session,
            fork: its.map(|fork| fork.context).next(),
        }
    }

    /// Whether the event is about the session. All events since it was asked for have to be shown to it.
    pub(super) fn is_about(&mut self, event: &Event) -> bool {
        let read = |name: &str| event.detail.get(name).cloned();
        let ulids: Option<PairStatus> = read("ulids").and_then(|ulids| serde_json::from_value(ulids).ok());
        if ulids != Some(self.session.pair()) {
            return false;
        }
        let Some(flow) = self.session.flow else { return true };
        let its: Option<SessionFlow> = read("flow").and_then(|flow| serde_json::from_value(flow).ok());
        match (event.kind.as_str(), its) {
            ("forked" | "joined", Some(its)) if its == flow => {
                self.fork = event.context.filter(|_| event.kind == "forked");
                true
            }
            ("forked" | "joined", _) => false,
            _ => match self.fork {
                Some(fork) => event.context == Some(fork),
                None => read("forked_instance").is_none_or(|instance| instance == 0),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(flow: Option<&str>) -> SessionName {
        SessionName {
            local: "2001:db8:a::1".parse().expect("an address"),
            peer: "2001:db8:b::1".parse().expect("an address"),
            flow: flow.map(|flow| flow.parse().expect("a flow")),
        }
    }

    fn watch(flow: Option<&str>, fork: Option<u64>) -> Watch {
        Watch {
            session: name(flow),
            fork,
        }
    }

    fn event(kind: &str, context: u64, instance: u32, flow: Option<&str>) -> Event {
        let mut detail = json!({ "ulids": name(None).pair(), "forked_instance": instance });
        if let Some(flow) = flow {
            detail["flow"] = json!(name(Some(flow)).flow);
        }
        Event {
            at_ms: 0,
            kind: kind.to_owned(),
            context: Some(context),
            message: String::new(),
            detail,
        }
    }

    #[test]
    fn a_session_of_all_flows_gets_the_events_of_its_addresses_alone() {
        let mut watch = watch(None, None);
        assert!(watch.is_about(&event("failover", 1, 0, None)) && watch.is_about(&event("move", 2, 9, None)));
        let mut other = event("failover", 1, 0, None);
        other.detail["ulids"]["peer"] = json!("2001:db8:c::1");
        assert!(!watch.is_about(&other));
        other.detail = json!({});
        assert!(!watch.is_about(&other));
    }

    #[test]
    fn a_flow_gets_the_events_of_the_context_that_it_is_on() {
        let mut watch = watch(Some("tcp:5:6"), None);
        assert!(watch.is_about(&event("failover", 1, 0, None)) && !watch.is_about(&event("failover", 2, 9, None)));
        assert!(!watch.is_about(&event("forked", 2, 9, Some("tcp:5:7"))));
        assert!(watch.is_about(&event("forked", 2, 9, Some("tcp:5:6"))));
        assert!(!watch.is_about(&event("failover", 1, 0, None)) && watch.is_about(&event("failover", 2, 9, None)));
        assert!(watch.is_about(&event("joined", 2, 9, Some("tcp:5:6"))));
        assert!(watch.is_about(&event("failover", 1, 0, None)) && !watch.is_about(&event("failover", 2, 9, None)));
    }
}
