//! Things done wrong on purpose, so that it is known of the scenarios that they can fail.

use std::time::Duration;

use super::{Findings, Scenario, Settings, find, firewalls, hosts, links, outages};

/// With it, a scenario must fail.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The scenario.
    pub scenario: &'static str,
    /// What is done wrong, in some words.
    pub wrong: &'static str,
    /// Which of the scenario's statements does not hold then.
    pub breaks: &'static str,
    pub(super) kind: Kind,
}

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Both daemons are told this.
    Configured(&'static str),
    /// Many packets get lost, not a few.
    Losing,
    /// Links give out packets twice.
    Doubling,
    /// Links give packets the same delay all the time.
    Orderly,
    /// What is longer than a path carries vanishes, and no router says so.
    Silent,
    /// There is no firewall, and the daemons never go back to a path.
    Open,
    /// The session's own addresses are not reached for a while after the path works again.
    Lingering,
    /// The peer knows the protocol.
    Knowing,
    /// Nobody hears of the new prefix.
    Unadvertised,
}

impl Fault {
    /// Plays its scenario with it, up to the first statement that does not hold.
    ///
    /// # Errors
    /// The scenario could not be played.
    ///
    /// # Panics
    /// It names no scenario.
    pub async fn run(&'static self, settings: &Settings) -> anyhow::Result<Findings> {
        let scenario = self.scenario();
        let settings = Settings {
            fault: Some(self),
            ..settings.clone()
        };
        scenario.run(&settings).await
    }

    fn scenario(&self) -> &'static Scenario {
        find(self.scenario).unwrap_or_else(|| panic!("there is no scenario {}", self.scenario))
    }
}

/// A daemon that does not notice that packets get no answer.
const NOTICES_NOTHING: Kind = Kind::Configured("[reap]\nsend_timeout = \"1m 40s\"\nfollow_rtt = false\n");
const UNNOTICED: &str = "daemons that do not notice that nothing comes back";

const LINGERING: &str = "a session that stays cut off for three seconds more";
const NO_WAY_BACK: &str = "[failback]\nenabled = false\n";

/// All faults, in the order of the scenarios.
#[must_use]
pub fn faults() -> &'static [Fault] {
    &[
        Fault {
            scenario: "failover-storm",
            wrong: UNNOTICED,
            breaks: outages::GOES_ON,
            kind: NOTICES_NOTHING,
        },
        Fault {
            scenario: "flapping",
            wrong: "daemons that go back to a path that has worked for 200 ms",
            breaks: outages::CALMS_DOWN,
            kind: Kind::Configured(
                "[failback]\ninterval = \"100ms\"\nstable = \"200ms\"\nmax_stable = \"200ms\"\n\
                 [reap]\nsend_timeout = \"50ms\"\nkeepalive_interval = \"10ms\"\nfollow_rtt = false\n",
            ),
        },
        Fault {
            scenario: "flapping",
            wrong: "daemons that never go back",
            breaks: outages::COMES_BACK,
            kind: Kind::Configured(NO_WAY_BACK),
        },
        Fault {
            scenario: "asymmetric-routing",
            wrong: UNNOTICED,
            breaks: outages::EACH_ITS_WAY,
            kind: NOTICES_NOTHING,
        },
        Fault {
            scenario: "both-lose-uplinks",
            wrong: UNNOTICED,
            breaks: outages::GOES_ON_DIAGONALLY,
            kind: NOTICES_NOTHING,
        },
        Fault {
            scenario: "all-uplinks-down",
            wrong: UNNOTICED,
            breaks: outages::RESUMES,
            kind: NOTICES_NOTHING,
        },
        Fault {
            scenario: "peer-reboots",
            wrong: "daemons that have other addresses after a restart",
            breaks: hosts::GOES_ON_AFTER_RESTART,
            kind: Kind::Configured("[addresses]\nidentity = \"none\"\n"),
        },
        Fault {
            scenario: "renumbering",
            wrong: "a router that does not advertise the new prefix",
            breaks: hosts::PEER_IS_TOLD,
            kind: Kind::Unadvertised,
        },
        Fault {
            scenario: "renumbering",
            wrong: UNNOTICED,
            breaks: hosts::GOES_ON_RENUMBERED,
            kind: NOTICES_NOTHING,
        },
        Fault {
            scenario: "loss",
            wrong: "a path that loses 95 % of the packets instead",
            breaks: links::STAYS,
            kind: Kind::Losing,
        },
        Fault {
            scenario: "loss",
            wrong: UNNOTICED,
            breaks: links::FAILS_OVER,
            kind: NOTICES_NOTHING,
        },
        Fault {
            scenario: "reordering",
            wrong: "links that keep the order",
            breaks: links::OVERTAKEN,
            kind: Kind::Orderly,
        },
        Fault {
            scenario: "reordering",
            wrong: "links that repeat packets",
            breaks: links::ONCE,
            kind: Kind::Doubling,
        },
        Fault {
            scenario: "mtu-drop",
            wrong: "a path that says nothing of the packets that are too long for it",
            breaks: links::COMPLETE,
            kind: Kind::Silent,
        },
        Fault {
            scenario: "firewall-on-other-path",
            wrong: LINGERING,
            breaks: hosts::NO_WORSE,
            kind: Kind::Lingering,
        },
        Fault {
            scenario: "firewall-on-other-path",
            wrong: "no firewall, and daemons that never go back",
            breaks: firewalls::AT_HOME,
            kind: Kind::Open,
        },
        Fault {
            scenario: "firewall-on-own-path",
            wrong: "no firewall",
            breaks: firewalls::NEVER_STEERED,
            kind: Kind::Open,
        },
        Fault {
            scenario: "firewall-comes-later",
            wrong: "the path loses 5 % of the packets",
            breaks: firewalls::ALL_ARRIVE,
            kind: Kind::Losing,
        },
        Fault {
            scenario: "firewall-comes-later",
            wrong: LINGERING,
            breaks: hosts::NO_WORSE,
            kind: Kind::Lingering,
        },
        Fault {
            scenario: "firewall-eats-payload",
            wrong: "a path that loses 95 % of the packets one way",
            breaks: firewalls::NOTHING_EATEN,
            kind: Kind::Losing,
        },
        Fault {
            scenario: "peer-without-shim6",
            wrong: "a peer with Shim6",
            breaks: hosts::NO_CONTEXT,
            kind: Kind::Knowing,
        },
    ]
}

impl Settings {
    /// What is added to the daemons' configuration, if that is what is wrong.
    pub(super) fn wrong_configuration(&self) -> Option<&'static str> {
        match self.fault?.kind {
            Kind::Configured(tables) => Some(tables),
            Kind::Open => Some(NO_WAY_BACK),
            _ => None,
        }
    }

    /// Whether this is done wrong.
    pub(super) fn has(&self, kind: Kind) -> bool {
        self.fault.is_some_and(|fault| fault.kind == kind)
    }

    /// How long a condition is waited for: with a fault, it need not come true.
    pub(super) fn patience(&self) -> Duration {
        match self.fault {
            None => super::ground::LIMIT,
            Some(_) => Duration::from_secs(3),
        }
    }
}
