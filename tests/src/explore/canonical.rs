//! When two states are the same.
//!
//! What describes a state is text in the form of [`Debug`](std::fmt::Debug). In it, a tag, nonce, validator or generation stands
//! for where else it occurs, not for its value; and an instant for its place among the others of the same host.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Atom {
    /// The hash of what is taken as it is.
    Literal(u64),
    /// Something drawn at random: the hash of its value.
    Random(u64),
    /// Microseconds.
    Instant(u64),
}

/// A description in pieces, made once and compared often.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Description(Vec<Atom>);

/// The names of fields whose values are drawn at random.
const RANDOM_FIELDS: [&str; 6] = [
    "nonce",
    "initiator_nonce",
    "responder_nonce",
    "request_nonce",
    "generation",
    "validator",
];

/// The fields of REAP that count probes, tell how long a report waited, and estimate round-trip times: they say how long to wait, and that is all.
const IGNORED_FIELDS: [&str; 4] = ["count", "smoothed", "variance", "data"];

impl Description {
    pub(super) fn of(text: &str) -> Self {
        let mut atoms = Vec::new();
        let mut literal = DefaultHasher::new();
        let mut rest = text;
        while let Some((before, atom, after)) = next_atom(rest) {
            literal.write(before.as_bytes());
            atoms.push(Atom::Literal(literal.finish()));
            atoms.push(atom);
            literal = DefaultHasher::new();
            rest = after;
        }
        literal.write(rest.as_bytes());
        atoms.push(Atom::Literal(literal.finish()));
        Self(atoms)
    }
}

/// Splits text at the first value that is not taken as it is. Such a value follows "name: " or "Name(".
fn next_atom(text: &str) -> Option<(&str, Atom, &str)> {
    let octets = text.as_bytes();
    let is_word = |octet: &u8| octet.is_ascii_alphanumeric() || *octet == b'_';
    let mut at = 0;
    loop {
        at += octets[at..].iter().position(|octet| matches!(octet, b':' | b'('))?;
        let is_field = octets[at] == b':';
        if is_field && octets.get(at + 1) != Some(&b' ') {
            // In an address.
            at += 1;
            continue;
        }
        let name_at = octets[..at]
            .iter()
            .rposition(|octet| !is_word(octet))
            .map_or(0, |before| before + 1);
        let kind: fn(&str) -> Atom = match &text[name_at..at] {
            "Instant" if !is_field => |value| Atom::Instant(value.parse().unwrap_or(u64::MAX)),
            "ContextTag" if !is_field => random,
            name if is_field && RANDOM_FIELDS.contains(&name) => random,
            name if is_field && IGNORED_FIELDS.contains(&name) => |_| Atom::Literal(0),
            _ => {
                at += 1;
                continue;
            }
        };
        let mut value_at = at + if is_field { 2 } else { 1 };
        if text[value_at..].starts_with("Some(") {
            value_at += 5;
        }
        let value = &octets[value_at..];
        let length = match value.first() {
            Some(b'[') => value.iter().position(|octet| *octet == b']').map(|end| end + 1),
            _ => value.iter().position(|octet| !is_word(octet)),
        };
        let (value, after) = text[value_at..].split_at(length.unwrap_or(value.len()));
        return Some((&text[..value_at], kind(value), after));
    }
}

fn random(value: &str) -> Atom {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    Atom::Random(hasher.finish())
}

/// What a validator is called in descriptions.
pub(super) fn name_of(validator: &[u8]) -> u64 {
    match random(&format!("{validator:?}")) {
        Atom::Random(name) => name,
        Atom::Literal(_) | Atom::Instant(_) => unreachable!(),
    }
}

/// The fingerprint of a state: of each host's description, whose instants are its own, then of the packets, in whatever order.
/// Validators that are `stale` are other than they look: nobody accepts them any more.
pub(super) fn fingerprint(hosts: &[&Description], packets: &[&Description], stale: &[u64], rest: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut names = Names {
        stale,
        given: Vec::new(),
    };
    for host in hosts {
        let instants = || {
            host.0.iter().filter_map(|atom| match atom {
                Atom::Instant(micros) => Some(*micros),
                _ => None,
            })
        };
        // The first one is what the clock shows. What is past is past; of what is to come, the order matters.
        let clock = instants().next().unwrap_or(0);
        let mut instants: Vec<_> = instants().filter(|&micros| micros > clock).collect();
        instants.sort_unstable();
        instants.dedup();
        for atom in &host.0 {
            match atom {
                Atom::Literal(hash) => hash.hash(&mut hasher),
                Atom::Random(value) => names.number(*value).hash(&mut hasher),
                Atom::Instant(micros) => instants.binary_search(micros).ok().hash(&mut hasher),
            }
        }
    }
    // First by what is known of them already, so that new names are given in the same order whichever way they came.
    let mut packets: Vec<_> = packets.iter().map(|packet| (names.known(packet), packet)).collect();
    packets.sort_by_key(|(known, _)| *known);
    for (known, packet) in packets {
        known.hash(&mut hasher);
        for atom in &packet.0 {
            if let Atom::Random(value) = atom {
                names.number(*value).hash(&mut hasher);
            }
        }
    }
    rest.hash(&mut hasher);
    hasher.finish()
}

/// What random values are called: the first one that is met is 0, and so on.
struct Names<'a> {
    stale: &'a [u64],
    given: Vec<u64>,
}

impl Names<'_> {
    fn find(&self, value: u64) -> Option<usize> {
        self.given.iter().position(|&known| known == value)
    }

    fn number(&mut self, value: u64) -> (usize, bool) {
        let number = self.find(value).unwrap_or_else(|| {
            self.given.push(value);
            self.given.len() - 1
        });
        (number, self.stale.contains(&value))
    }

    /// A packet with the names that there are.
    fn known(&self, packet: &Description) -> u64 {
        let mut hasher = DefaultHasher::new();
        for atom in &packet.0 {
            match atom {
                Atom::Literal(hash) => hash.hash(&mut hasher),
                Atom::Random(value) => (self.find(*value), self.stale.contains(value)).hash(&mut hasher),
                Atom::Instant(micros) => micros.hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> u64 {
        fingerprint(&[&Description::of(text)], &[], &[], ())
    }

    #[test]
    fn names_and_times_do_not_matter_but_which_are_the_same_does() {
        let one = host(
            "now: Instant(5), tag: ContextTag(0x12), nonce: 7, peer: ContextTag(0x34), at: Some(Instant(9)), Instant(8)",
        );
        let renamed = host(
            "now: Instant(6), tag: ContextTag(0x99), nonce: 1, peer: ContextTag(0x98), at: Some(Instant(8)), Instant(7)",
        );
        assert_eq!(one, renamed);
        for other in [
            "now: Instant(5), tag: ContextTag(0x12), nonce: 7, peer: ContextTag(0x12), at: Some(Instant(9)), Instant(8)",
            "now: Instant(5), tag: ContextTag(0x12), nonce: 7, peer: ContextTag(0x34), at: Some(Instant(9)), Instant(9)",
            "now: Instant(5), tag: ContextTag(0x12), nonce: 7, peer: ContextTag(0x34), at: Some(Instant(7)), Instant(8)",
            "now: Instant(5), tag: ContextTag(0x12), nonce: 7, peer: ContextTag(0x34), at: Some(Instant(5)), Instant(8)",
            "now: Instant(5), tag: ContextTag(0x12), nonce: 7, peer: ContextTag(0x34), at: None, Instant(8)",
        ] {
            assert_ne!(host(other), one, "{other}");
        }
    }

    #[test]
    fn lists_of_octets_have_one_name() {
        let with = |validator: &str, tail: &str| host(&format!("R1 {{ validator: {validator}, number: {tail} }}"));
        assert_eq!(with("[1, 2]", "3"), with("[4]", "3"));
        assert_ne!(with("[1, 2]", "3"), with("[1, 2]", "4"));
    }

    #[test]
    fn order_of_packets_does_not_matter() {
        let [a, b, c] = ["I1 { nonce: 1 }", "I1 { nonce: 2 }", "R1 { nonce: 2 }"].map(Description::of);
        let fingerprint = |packets: &[&Description]| fingerprint(&[], packets, &[], ());
        assert_eq!(fingerprint(&[&a, &c]), fingerprint(&[&c, &a]));
        assert_ne!(fingerprint(&[&a, &c]), fingerprint(&[&b, &c]));
        assert_ne!(fingerprint(&[&a]), fingerprint(&[&a, &a]));
    }
}
