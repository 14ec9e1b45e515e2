use alloc::vec;

use proptest::prelude::*;
use proptest::sample::SizeRange;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use shim6_cga::{HbaSet, Sec, SubnetPrefix};

use super::*;
use crate::context::PeerLocators;
use crate::identity::Identity;
use crate::wire::PreferenceFlags;

const NONE: PreferenceFlags = PreferenceFlags(0);
const FINE: Preference = preference(NONE, 0, 0);
const BROKEN: Preference = preference(PreferenceFlags::BROKEN, 0, 0);

/// Of whatever a host can have: global, 6to4, Teredo, unique local and link-local addresses.
const PREFIXES: [&str; 6] = [
    "2001:db8:1::",
    "2001:db8:2::",
    "2002:c000:201::",
    "2001::",
    "fd00::",
    "fe80::",
];

fn rng() -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(1)
}

fn address(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 1)
}

const fn preference(flags: PreferenceFlags, priority: u8, weight: u8) -> Preference {
    Preference {
        flags,
        priority,
        weight,
    }
}

/// A host's locators, one under each of these prefixes, and what it says of each.
#[derive(Debug, Clone)]
struct Site {
    identity: Identity,
    preferences: Vec<Preference>,
}

impl Site {
    fn new(number: u64, prefixes: &[&str], preferences: &[Preference]) -> Self {
        let prefix = |text: &&str| SubnetPrefix::from(text.parse::<Ipv6Addr>().expect("an address"));
        let prefixes: Vec<_> = prefixes.iter().map(prefix).collect();
        let mut rng = ChaCha12Rng::seed_from_u64(number);
        let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng).expect("a set");
        Self::of(&Identity::from_hba_set(&set, &mut rng), preferences)
    }

    fn of(identity: &Identity, preferences: &[Preference]) -> Self {
        let locators = identity.locators().iter().copied();
        let said: Vec<_> = locators.zip(preferences.iter().copied()).collect();
        Self {
            identity: identity.with_preferences(&said),
            preferences: preferences.to_vec(),
        }
    }

    fn locator(&self, index: usize) -> Ipv6Addr {
        self.identity.locators()[index]
    }

    fn as_peer(&self) -> PeerLocators {
        PeerLocators {
            locators: self.identity.locators().into(),
            listed: u8::try_from(self.identity.locators().len()).expect("a few"),
            generation: Some(1),
            preferences: self.preferences.clone().into(),
            parameters: None,
        }
    }
}

/// Calls `look` with both ends of a context between the first locators.
fn with_ends<T>(ours: &Site, theirs: &Site, look: impl Fn(&Ends<'_>) -> T) -> T {
    look(&Ends {
        ulids: LocatorPair::new(ours.locator(0), theirs.locator(0)),
        ours: &ours.identity,
        known: Some(&ours.identity),
        peer: &theirs.as_peer(),
        wished: None,
    })
}

/// The order of all pairs, each named after the indices of its locators.
fn order(ours: &Site, theirs: &Site) -> Vec<(usize, usize)> {
    let index = |site: &Site, locator| {
        let mut locators = site.identity.locators().iter();
        locators.position(|&own| own == locator).expect("one of the site's")
    };
    let pairs = with_ends(ours, theirs, |ends| exploration_order(ends, &mut rng()));
    let pairs = pairs.into_iter();
    pairs
        .map(|pair| (index(ours, pair.local), index(theirs, pair.peer)))
        .collect()
}

fn is_better_by_index(ours: &Site, theirs: &Site, pair: (usize, usize), than: (usize, usize)) -> bool {
    let pair_of = |(local, peer)| LocatorPair::new(ours.locator(local), theirs.locator(peer));
    with_ends(ours, theirs, |ends| is_better(ends, pair_of(pair), pair_of(than)))
}

/// Two hosts with two locators each of the same kind, and these preferences for them.
fn sites(ours: [Preference; 2], theirs: [Preference; 2]) -> (Site, Site) {
    (
        Site::new(1, &PREFIXES[..2], &ours),
        Site::new(2, &PREFIXES[..2], &theirs),
    )
}

/// The same order, `a1` for our first locator with the peer's first.
fn named_order(ours: [Preference; 2], theirs: [Preference; 2]) -> [&'static str; 4] {
    let (ours, theirs) = sites(ours, theirs);
    let pairs = order(&ours, &theirs);
    core::array::from_fn(|place| [["a1", "a2"], ["b1", "b2"]][pairs[place].0][pairs[place].1])
}

#[test]
fn disjoint_pairs_come_right_after_the_ulids() {
    assert_eq!(named_order([FINE; 2], [FINE; 2]), ["a1", "b2", "a2", "b1"]);
}

#[test]
fn broken_locators_of_either_end_come_last() {
    assert_eq!(named_order([FINE; 2], [BROKEN, FINE]), ["b2", "a2", "a1", "b1"]);
    assert_eq!(named_order([FINE, BROKEN], [FINE; 2]), ["a1", "a2", "b2", "b1"]);
    assert_eq!(named_order([BROKEN; 2], [FINE; 2]), ["a1", "b2", "a2", "b1"]);
}

#[test]
fn lower_priority_numbers_come_first_and_passing_addresses_after_lasting_ones() {
    let [first, second] = [1, 2].map(|priority| preference(NONE, priority, 0));
    assert_eq!(named_order([FINE; 2], [second, first]), ["b2", "a2", "a1", "b1"]);
    let passing = preference(PreferenceFlags::TRANSIENT, 1, 0);
    assert_eq!(named_order([FINE; 2], [passing, first]), ["b2", "a2", "a1", "b1"]);
    assert_eq!(named_order([passing, first], [FINE; 2]), ["b2", "b1", "a1", "a2"]);
}

/// RFC 5534 section 4.3: local preferences, and then what the protocol carries.
#[test]
fn own_priorities_come_before_the_peers_however_large_these_are() {
    let [first, second, never] = [1, 2, 255].map(|priority| preference(NONE, priority, 0));
    assert_eq!(named_order([second, first], [first, never]), ["b1", "b2", "a1", "a2"]);
    assert_eq!(named_order([second, first], [never, first]), ["b2", "b1", "a2", "a1"]);
    // Priorities of either end before either's flags.
    let passing = preference(PreferenceFlags::TRANSIENT, 1, 0);
    assert_eq!(named_order([passing, first], [second, first]), ["b2", "a2", "b1", "a1"]);
}

/// RFC 6724 section 6, rule 5: a unique local address is for another one.
#[test]
fn pairs_of_unlike_labels_come_after_all_others_whatever_the_priorities_say() {
    let ours = Site::new(1, &["2001:db8:1::", "fd00::"], &[preference(NONE, 9, 0), FINE]);
    let theirs = Site::new(2, &["2001:db8:2::", "fd00:1::"], &[preference(NONE, 9, 0), FINE]);
    assert_eq!(order(&ours, &theirs), [(0, 0), (1, 1), (1, 0), (0, 1)]);
}

#[test]
fn broken_locators_come_after_pairs_of_unlike_labels() {
    let ours = Site::new(1, &["2001:db8:1::", "fd00::"], &[BROKEN, FINE]);
    let theirs = Site::new(2, &["2001:db8:2::"], &[FINE]);
    assert_eq!(order(&ours, &theirs), [(1, 0), (0, 0)]);
}

/// RFC 6724 section 6, rule 6.
#[test]
fn addresses_of_tunnels_come_after_native_ones() {
    let prefixes = ["2001:db8:1::", "2002:c000:201::", "2001:db8:2::"];
    let (ours, theirs) = (Site::new(1, &prefixes, &[FINE; 3]), Site::new(2, &prefixes, &[FINE; 3]));
    let pairs = order(&ours, &theirs);
    assert_eq!(pairs[..5], [(0, 0), (2, 2), (0, 2), (2, 0), (1, 1)]);
}

/// The application has chosen, and may have its reasons: two sites with a network between them.
#[test]
fn no_address_is_better_than_the_ulids_unless_an_end_says_so() {
    let prefixes = ["fd00::", "2001:db8:1::"];
    let sites = |preferences: [Preference; 2]| [1, 2].map(|number| Site::new(number, &prefixes, &preferences));
    let [ours, theirs] = sites([FINE; 2]);
    assert_eq!(order(&ours, &theirs), [(0, 0), (1, 1), (0, 1), (1, 0)]);
    assert!(!is_better_by_index(&ours, &theirs, (1, 1), (0, 0)));
    let [ours, theirs] = sites([preference(NONE, 1, 0), FINE]);
    assert_eq!(order(&ours, &theirs)[0], (1, 1));
    assert!(is_better_by_index(&ours, &theirs, (1, 1), (0, 0)));
}

/// RFC 5534 section 3.1.
#[test]
fn addresses_bound_to_a_link_are_in_no_pair_but_that_of_the_ulids() {
    let (local, global) = (["fe80::", "2001:db8:1::"], ["2001:db8:1::", "fe80::"]);
    let site = |number, prefixes| Site::new(number, prefixes, &[FINE; 2]);
    assert_eq!(order(&site(1, &global), &site(2, &global)), [(0, 0)]);
    assert_eq!(order(&site(1, &local), &site(2, &local)), [(0, 0), (1, 1)]);
}

#[test]
fn own_locators_that_the_peer_does_not_know_are_in_no_pair() {
    let (ours, theirs) = sites([FINE; 2], [FINE; 2]);
    let first = Ends {
        ulids: LocatorPair::new(ours.locator(0), theirs.locator(0)),
        ours: &ours.identity,
        known: None,
        peer: &theirs.as_peer(),
        wished: None,
    };
    let pairs = exploration_order(&first, &mut rng());
    assert_eq!(pairs.len(), 2);
    assert!(pairs.iter().all(|pair| pair.local == ours.locator(0)));
}

#[test]
fn only_the_ulids_are_better_than_a_pair_that_nobody_prefers_less() {
    let (ours, theirs) = sites([FINE; 2], [FINE; 2]);
    for other in [(0, 1), (1, 0), (1, 1)] {
        assert!(is_better_by_index(&ours, &theirs, (0, 0), other));
        assert!(!is_better_by_index(&ours, &theirs, other, (0, 0)));
    }
    assert!(
        !is_better_by_index(&ours, &theirs, (1, 1), (0, 1)),
        "a guess is no reason"
    );
}

#[test]
fn wishes_of_both_ends_and_failures_they_know_of_make_a_pair_better() {
    let second = preference(NONE, 1, 0);
    let (ours, theirs) = sites([second, FINE], [second, FINE]);
    let best_first = [(1, 1), (1, 0), (0, 1), (0, 0)];
    for (place, &pair) in best_first.iter().enumerate() {
        for (other, &than) in best_first.iter().enumerate() {
            assert_eq!(is_better_by_index(&ours, &theirs, pair, than), place < other);
        }
    }
    let (ours, theirs) = sites([FINE; 2], [BROKEN, FINE]);
    assert!(is_better_by_index(&ours, &theirs, (1, 1), (0, 0)));
    assert!(!is_better_by_index(&ours, &theirs, (0, 0), (1, 1)));
}

#[test]
fn weight_decides_by_lot_how_often_a_locator_comes_first() {
    let weighted = [
        (address(1), preference(NONE, 0, 30)),
        (address(2), preference(NONE, 0, 10)),
    ];
    let mut rng = rng();
    let first = (0..4_000).filter(|_| by_weight(weighted.into_iter(), &mut rng)[0] == address(1));
    // Three quarters, and five standard deviations of 27.
    let count = first.count();
    assert!((2_863..=3_137).contains(&count), "{count}");
}

#[test]
fn without_weights_nothing_is_drawn_and_the_order_stays() {
    let (mut drawn, mut fresh) = (rng(), rng());
    let plain = [3, 1, 2].map(|number| (address(number), Preference::default()));
    assert_eq!(by_weight(plain.into_iter(), &mut drawn), [3, 1, 2].map(address));
    assert_eq!(drawn.next_u64(), fresh.next_u64());
}

/// Sites with locators of any kind and any preferences, without weights.
fn any_site(number: u64) -> impl Strategy<Value = Site> {
    let flags = prop_oneof![
        Just(NONE),
        Just(PreferenceFlags::BROKEN),
        Just(PreferenceFlags::TRANSIENT)
    ];
    let preference = (flags, 0_u8..3).prop_map(|(flags, priority)| preference(flags, priority, 0));
    let prefixes = prop::sample::subsequence(PREFIXES.to_vec(), SizeRange::from(1..=4)).prop_shuffle();
    (prefixes, prop::collection::vec(preference, 4))
        .prop_map(move |(prefixes, preferences)| Site::new(number, &prefixes, &preferences[..prefixes.len()]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// What is better comes earlier; and "better" is a strict order of ranks.
    #[test]
    fn better_pairs_come_before_worse_ones_and_each_pair_once(ours in any_site(1), theirs in any_site(2)) {
        with_ends(&ours, &theirs, |ends| {
            let pairs = exploration_order(ends, &mut rng());
            for (place, &pair) in pairs.iter().enumerate() {
                prop_assert!(!is_better(ends, pair, pair));
                for &later in &pairs[place + 1..] {
                    prop_assert_ne!(pair, later);
                    prop_assert!(!is_better(ends, later, pair), "{} before {}", pair, later);
                    let is_tie = !is_better(ends, pair, later);
                    for &third in &pairs {
                        // What is as good as another is better than the same ones.
                        prop_assert!(!is_tie || is_better(ends, pair, third) == is_better(ends, later, third));
                    }
                }
            }
            prop_assert!(pairs.contains(&ends.ulids));
            Ok(())
        })?;
    }

    /// Lists in another order: the places of pairs change only among those of one rank.
    #[test]
    fn order_of_the_lists_decides_only_between_equals(
        ours in any_site(1),
        theirs in any_site(2),
        turns in 0_usize..4,
    ) {
        let mut peer = theirs.as_peer();
        let turned = |len: usize| (0..len).map(move |index| (index + turns) % len);
        peer.locators = turned(peer.locators.len()).map(|index| theirs.locator(index)).collect();
        peer.preferences = turned(theirs.preferences.len()).map(|index| theirs.preferences[index]).collect();
        with_ends(&ours, &theirs, |ends| {
            let other = Ends { peer: &peer, ulids: ends.ulids, ours: ends.ours, known: ends.known, wished: None };
            let (pairs, others) = (exploration_order(ends, &mut rng()), exploration_order(&other, &mut rng()));
            prop_assert_eq!(pairs.len(), others.len());
            for (&pair, &other) in pairs.iter().zip(&others) {
                prop_assert_eq!((rank(ends, pair), distance(ends, pair)), (rank(ends, other), distance(ends, other)));
            }
            Ok(())
        })?;
    }

    /// Each end puts its own wishes first, and so does the other: the pair of what both want most is the first for both.
    #[test]
    fn ends_with_strict_wishes_agree_on_the_first_pair(
        ours in Just([0_u8, 1, 2, 3]).prop_shuffle(),
        theirs in Just([0_u8, 1, 2, 3]).prop_shuffle(),
    ) {
        let prefixes = ["2001:db8:1::", "2001:db8:2::", "2001:db8:3::", "2001:db8:4::"];
        let [a, b] = [(1, ours), (2, theirs)].map(|(number, wishes)| {
            Site::new(number, &prefixes, &wishes.map(|priority| preference(NONE, priority, 0)))
        });
        let best = |wishes: [u8; 4]| wishes.iter().position(|&priority| priority == 0).expect("one");
        let (first, seen_by_peer) = (order(&a, &b)[0], order(&b, &a)[0]);
        prop_assert_eq!(first, (best(ours), best(theirs)));
        prop_assert_eq!(seen_by_peer, (best(theirs), best(ours)));
    }
}

#[test]
fn nothing_but_the_ulids_is_left_of_hosts_with_nothing_else() {
    let site = |number| Site::new(number, &PREFIXES[..1], &[FINE]);
    assert_eq!(order(&site(1), &site(2)), vec![(0, 0)]);
}
