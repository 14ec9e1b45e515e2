//! The keys of each table, with their ranges and what has to hold between them.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use shim6_cga::KeySizes;
use shim6_core::Profile;

use super::hold::hold;
use super::metrics::metrics;
use super::observe::observe;
use super::peer::peers;
use super::policy::policies;
use super::read::{self, Section, Seen};
use super::user::user;
use super::wire::wire;
use super::{
    AddressConfig, Config, FailbackConfig, IcmpConfig, LimitsConfig, Prefix64, PrefixError, ReapConfig, SteeringConfig,
    TriggerConfig, TunConfig, UplinkConfig, prefix as prefix64,
};

/// Most uplinks one host may have: an HBA set hashes over the prefixes of all of them.
const MAX_UPLINKS: usize = 16;

/// Longest path of a Unix socket, in octets (`sun_path` less its final zero).
const MAX_SOCKET_PATH: usize = 107;

const PROFILE_EXPECTED: &str = "expected \"fast\" or \"rfc\"";
const SOCKET_EXPECTED: &str = "expected an absolute path of at most 107 octets, such as \"/run/shim6/shim6.sock\"";
const GROUP_EXPECTED: &str = "expected the name of a group of users, 1 to 32 octets, such as \"shim6\"";
const IDENTITY_EXPECTED: &str = "expected an absolute path such as \"/var/lib/shim6/identity\", or \"none\"";
const INTERFACE_EXPECTED: &str = "expected the name of a network interface, 1 to 15 octets, such as \"eth0\"";
const GATEWAY_EXPECTED: &str = "expected the router's unicast IPv6 address, such as \"fe80::1\"";

/// The whole file.
pub(super) fn root(root: &Section<'_>) -> Config {
    let defaults = Config::default();
    let tun = tun(root.section("tun"));
    let reap = reap(root.section("reap"));
    let config = Config {
        control_socket: root
            .parsed("control_socket", SOCKET_EXPECTED, socket_path)
            .unwrap_or(defaults.control_socket),
        control_group: root.parsed("control_group", GROUP_EXPECTED, group_name),
        user: user(root),
        uplinks: uplinks(root, &tun.name),
        tun,
        addresses: addresses(root.section("addresses")),
        trigger: trigger(root.section("trigger")),
        policies: policies(root),
        peers: peers(root, &reap),
        reap,
        failback: failback(root.section("failback")),
        hold: hold(root.section("hold")),
        wire: wire(root.section("wire")),
        observe: observe(root.section("observe")),
        steering: steering(root.section("steering")),
        icmp: icmp(root.section("icmp")),
        limits: limits(root.section("limits")),
        metrics: metrics(root.section("metrics")),
    };
    root.finish();
    config
}

fn tun(section: Section<'_>) -> TunConfig {
    let defaults = TunConfig::default();
    let tun = TunConfig {
        name: section
            .parsed("name", INTERFACE_EXPECTED, interface_name)
            .unwrap_or(defaults.name),
        mtu: section.integer("mtu").or(defaults.mtu),
        queues: section.integer("queues").unwrap_or(defaults.queues),
    };
    section.finish();
    tun
}

fn uplinks(root: &Section<'_>, tun_name: &str) -> Vec<UplinkConfig> {
    let sections = root.sections("uplink", Some("interface"));
    if let Some(first_too_many) = sections.get(MAX_UPLINKS) {
        let wrong = format!("there are {} uplinks", sections.len());
        first_too_many.problem(&wrong, &format!("expected at most {MAX_UPLINKS}"));
    }
    let (mut interfaces, mut prefixes) = (Seen::default(), Seen::default());
    let mut uplinks = Vec::with_capacity(sections.len());
    for section in sections {
        let interface = section.parsed("interface", INTERFACE_EXPECTED, interface_name);
        let prefix = section.parsed("prefix", prefix64::EXPECTED, prefix);
        let gateway = section.parsed("gateway", GATEWAY_EXPECTED, gateway);
        match &interface {
            None => section.required("interface", INTERFACE_EXPECTED),
            Some(name) if name == tun_name => section.problem_at(
                "interface",
                &format!("\"{name}\" is the TUN device (tun.name)"),
                "expected the interface of an uplink",
            ),
            Some(name) => section.unique("interface", &mut interfaces, name.clone()),
        }
        if let Some(prefix) = prefix {
            section.unique("prefix", &mut prefixes, prefix.to_string());
        }
        let metered = section.boolean("metered").unwrap_or(false);
        let priority = section.integer("priority");
        if metered && priority.is_some_and(|priority| priority != UplinkConfig::LAST_RESORT) {
            section.problem_at(
                "priority",
                "is set on a metered uplink, which always comes last",
                "expected either a priority or metered = true",
            );
        }
        let least_wanted = if metered { UplinkConfig::LAST_RESORT } else { 0 };
        let weight = section.integer("weight").unwrap_or(0);
        section.finish();
        uplinks.extend(interface.map(|interface| UplinkConfig {
            interface,
            prefix,
            gateway,
            priority: priority.unwrap_or(least_wanted),
            weight,
            metered,
        }));
    }
    uplinks
}

fn addresses(section: Section<'_>) -> AddressConfig {
    let defaults = AddressConfig::default();
    let addresses = AddressConfig {
        dad: section.boolean("dad").unwrap_or(defaults.dad),
        sec: section.integer("sec").unwrap_or(defaults.sec),
        identity: section
            .parsed("identity", IDENTITY_EXPECTED, identity)
            .unwrap_or(defaults.identity),
    };
    section.finish();
    addresses
}

fn trigger(section: Section<'_>) -> TriggerConfig {
    let defaults = TriggerConfig::default();
    let trigger = TriggerConfig {
        packets: section.integer("packets").unwrap_or(defaults.packets),
        octets: section.integer("octets").unwrap_or(defaults.octets),
        initiate: section.boolean("initiate").unwrap_or(defaults.initiate),
    };
    if trigger.initiate && trigger.packets == 0 && trigger.octets == 0 {
        section.problem_at(
            "packets",
            "is 0 and so is trigger.octets, so that no context would ever be set up",
            "expected one of them above 0, or trigger.initiate = false",
        );
    }
    section.finish();
    trigger
}

fn reap(section: Section<'_>) -> ReapConfig {
    let reap = reap_over(&section, &ReapConfig::default());
    section.finish();
    reap
}

/// The keys of `[reap]` in a table that may have them. A profile brings its own defaults, else `base` gives them.
pub(super) fn reap_over(section: &Section<'_>, base: &ReapConfig) -> ReapConfig {
    let profile = section.parsed("profile", PROFILE_EXPECTED, profile);
    let defaults = profile.map_or_else(|| base.clone(), ReapConfig::of);
    let reap = ReapConfig {
        profile: defaults.profile,
        send_timeout: section.duration("send_timeout").unwrap_or(defaults.send_timeout),
        follow_rtt: section.boolean("follow_rtt").unwrap_or(defaults.follow_rtt),
        keepalive_interval: section.duration("keepalive_interval").or(defaults.keepalive_interval),
        initial_probe_timeout: section
            .duration("initial_probe_timeout")
            .unwrap_or(defaults.initial_probe_timeout),
        initial_probes: section.integer("initial_probes").unwrap_or(defaults.initial_probes),
        max_probe_timeout: section
            .duration("max_probe_timeout")
            .unwrap_or(defaults.max_probe_timeout),
    };
    let table = section.path();
    let (interval, first) = (
        read::show(reap.keepalive_interval()),
        read::show(reap.initial_probe_timeout),
    );
    if reap.keepalive_interval() >= reap.send_timeout {
        section.problem_at(
            "keepalive_interval",
            &format!("{interval} is not below the send timeout"),
            &format!(
                "expected less than {table}.send_timeout, {}",
                read::show(reap.send_timeout)
            ),
        );
    }
    if reap.initial_probe_timeout > reap.max_probe_timeout {
        let most = read::show(reap.max_probe_timeout);
        section.problem_at(
            "initial_probe_timeout",
            &format!("{first} is above the longest probe timeout"),
            &format!("expected at most {table}.max_probe_timeout, {most}"),
        );
    }
    reap
}

fn failback(section: Section<'_>) -> FailbackConfig {
    let defaults = FailbackConfig::default();
    let interval = section.duration("interval").unwrap_or(defaults.interval);
    // A value that was written down takes the defaults of the others with it.
    let stable = section.duration("stable").unwrap_or(defaults.stable.max(interval));
    let failback = FailbackConfig {
        enabled: section.boolean("enabled").unwrap_or(defaults.enabled),
        interval,
        stable,
        max_stable: section
            .duration("max_stable")
            .unwrap_or(defaults.max_stable.max(stable)),
        rate: section.integer("rate").unwrap_or(defaults.rate),
    };
    let bounds = [
        ("stable", failback.stable, "interval", failback.interval),
        ("max_stable", failback.max_stable, "stable", failback.stable),
    ];
    for (key, value, least_key, least) in bounds {
        if value < least {
            section.problem_at(
                key,
                &format!("{} is below failback.{least_key}", read::show(value)),
                &format!("expected at least {}", read::show(least)),
            );
        }
    }
    section.finish();
    failback
}

fn steering(section: Section<'_>) -> SteeringConfig {
    let defaults = SteeringConfig::default();
    let steering = SteeringConfig {
        table: section.integer("table").unwrap_or(defaults.table),
        rule_priority: section.integer("rule_priority").unwrap_or(defaults.rule_priority),
        fwmark: section.integer("fwmark").unwrap_or(defaults.fwmark),
    };
    if (253..=255).contains(&steering.table) {
        section.problem_at(
            "table",
            &format!("{} is one of the kernel's own tables", steering.table),
            "expected a table that nothing else uses",
        );
    }
    section.finish();
    steering
}

fn icmp(section: Section<'_>) -> IcmpConfig {
    let defaults = IcmpConfig::default();
    let icmp = IcmpConfig {
        deliver_all: section.boolean("deliver_all").unwrap_or(defaults.deliver_all),
    };
    section.finish();
    icmp
}

fn limits(section: Section<'_>) -> LimitsConfig {
    let defaults = LimitsConfig::default();
    let contexts = section.integer("contexts").unwrap_or(defaults.contexts);
    let limits = LimitsConfig {
        contexts,
        // A small total lowers the default share of one peer, never a value that was written down.
        contexts_per_peer: section
            .integer("contexts_per_peer")
            .unwrap_or(defaults.contexts_per_peer.min(contexts)),
        contexts_per_prefix: section.integer("contexts_per_prefix").unwrap_or(contexts.div_ceil(4)),
        probes: section.integer("probes").unwrap_or(defaults.probes),
        quiescence: section.duration("quiescence").unwrap_or(defaults.quiescence),
        candidates: section.integer("candidates").unwrap_or(defaults.candidates),
        peer_key_sizes: key_sizes(&section, defaults.peer_key_sizes),
    };
    if limits.contexts_per_peer > limits.contexts {
        section.problem_at(
            "contexts_per_peer",
            &format!("{} is above the total", limits.contexts_per_peer),
            &format!("expected at most limits.contexts, {}", limits.contexts),
        );
    }
    section.finish();
    limits
}

fn key_sizes(section: &Section<'_>, default: KeySizes) -> KeySizes {
    let min = section.integer("min_key_bits").unwrap_or(default.min());
    let max = section.integer("max_key_bits");
    // A lower bound that was raised past the default upper one takes that with it.
    let max = max.unwrap_or(default.max().max(min));
    KeySizes::new(min, max).unwrap_or_else(|_| {
        section.problem_at(
            "max_key_bits",
            &format!("{max} is below the least size"),
            &format!("expected at least limits.min_key_bits, {min}"),
        );
        default
    })
}

fn profile(text: &str) -> Result<Profile, String> {
    match text {
        "fast" => Ok(Profile::Fast),
        "rfc" => Ok(Profile::Rfc),
        other => Err(format!("{other:?} is no profile")),
    }
}

fn socket_path(text: &str) -> Result<PathBuf, String> {
    if text.contains('\0') {
        return Err("has a zero octet in it".to_owned());
    }
    if text.len() > MAX_SOCKET_PATH {
        return Err(format!("is {} octets long", text.len()));
    }
    let path = PathBuf::from(text);
    if !path.is_absolute() || path.file_name().is_none() {
        return Err(format!("{text:?} is not an absolute path of a file"));
    }
    Ok(path)
}

fn group_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 32 {
        return Err(format!("{text:?} is {} octets long", text.len()));
    }
    match text
        .chars()
        .find(|&c| c.is_whitespace() || c.is_control() || matches!(c, ':' | ',' | '/'))
    {
        Some(c) => Err(format!("{text:?} has a {c:?} in it")),
        None => Ok(text.to_owned()),
    }
}

fn identity(text: &str) -> Result<Option<PathBuf>, String> {
    if text == "none" {
        return Ok(None);
    }
    if text.contains('\0') {
        return Err("has a zero octet in it".to_owned());
    }
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err(format!("{text:?} is not an absolute path"));
    }
    Ok(Some(path))
}

pub(super) fn interface_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 15 {
        return Err(format!("{text:?} is {} octets long", text.len()));
    }
    // What the kernel refuses, and `%`, which it takes as a template for numbered names.
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
    match text.chars().find(|&c| bad(c)) {
        _ if text == "." || text == ".." => Err(format!("{text:?} is not a name")),
        Some(c) => Err(format!("{text:?} has a {c:?} in it")),
        None => Ok(text.to_owned()),
    }
}

fn prefix(text: &str) -> Result<Prefix64, String> {
    text.parse().map_err(|error: PrefixError| error.to_string())
}

fn gateway(text: &str) -> Result<Ipv6Addr, String> {
    let address: Ipv6Addr = text.parse().map_err(|_| format!("{text:?} is not an IPv6 address"))?;
    if address.is_multicast() || address.is_unspecified() || address.is_loopback() {
        return Err(format!("{address} is not the address of a router"));
    }
    Ok(address)
}
