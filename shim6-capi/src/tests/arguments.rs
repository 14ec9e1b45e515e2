//! Arguments that are wrong.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char};
use std::ptr::{self, null, null_mut};

use super::call;
use super::network::{A, Host, Net, SECOND, datagram, default_config, identity, prefix};
use crate::handle::on_shim;
use crate::*;

const SEED: [u8; SHIM6_SEED_LEN] = [1; SHIM6_SEED_LEN];

/// Calls each function of a shim with one and the same handle, and all else in order.
fn call_all(shim: *mut Shim) -> Vec<Status> {
    let (mut buffer, mut offset, mut length) = ([0; 1400], 100, 0);
    let (pair, flow, address) = (Pair::default(), Flow::default(), Address::default());
    let (mut event, mut counters) = (Event::default(), Counters::default());
    let mut info = std::mem::MaybeUninit::<ContextInfo>::uninit();
    let mut path = std::mem::MaybeUninit::<PathInfo>::uninit();
    let (mut number, mut name) = (0, [0; 40]);
    let identity = identity(1);
    let (out, size) = (buffer.as_mut_ptr(), size_of::<ContextInfo>());
    let statuses = call!(vec![
        shim6_set_identity(shim, 0, identity),
        shim6_send(shim, 0, out, &raw mut offset, &raw mut length),
        shim6_receive(shim, 0, out, &raw mut offset, &raw mut length),
        shim6_handle_timeout(shim, 0),
        shim6_handle_locator(shim, 0, &raw const address, 0),
        shim6_poll_transmit(shim, out, 1400, &raw mut length),
        shim6_poll_deliver(shim, out, 1400, &raw mut length),
        shim6_poll_event(shim, &raw mut event, size_of::<Event>()),
        shim6_establish(shim, 0, &raw const pair, &raw mut number),
        shim6_close(shim, 0, 1),
        shim6_prefer(shim, 0, 1, &raw const pair),
        shim6_move_to(shim, 0, 1, &raw const pair, 0),
        shim6_release(shim, 0, 1),
        shim6_probe(shim, 0, 1, &raw const pair, 0),
        shim6_handle_hint(shim, 0, 1, 0),
        shim6_set_in_use(shim, 0, 1, 0),
        shim6_fork(shim, 0, &raw const flow, &raw mut number),
        shim6_join(shim, &raw const flow),
        shim6_set_protection(shim, 0, &raw const pair, 0),
        shim6_set_preferences(shim, 0, null(), 0),
        shim6_session(shim, &raw const flow, info.as_mut_ptr(), size),
        shim6_context(shim, 1, info.as_mut_ptr(), size),
        shim6_contexts(shim, null_mut(), 0, &raw mut length),
        shim6_path(shim, 1, 0, path.as_mut_ptr(), size_of::<PathInfo>()),
        shim6_get_counters(shim, &raw mut counters, size_of::<Counters>()),
        shim6_discard(shim, 0, name.as_mut_ptr(), 40, &raw mut number),
    ]);
    call!(shim6_identity_free(identity));
    statuses
}

#[test]
fn handles_that_are_null_or_misaligned_are_refused_by_each_function() {
    assert!(call_all(null_mut()).iter().all(|&status| status == Status::BadPointer));
    let misaligned = ptr::without_provenance_mut(0x1001);
    assert!(call_all(misaligned).iter().all(|&status| status == Status::BadPointer));
    assert_eq!(call!(shim6_poll_timeout(null())), SHIM6_NEVER);
    assert_eq!(call!(shim6_poll_timeout(misaligned)), SHIM6_NEVER);
    // Nothing is freed.
    call!(shim6_free(null_mut()));
    call!(shim6_free(misaligned));
    call!(shim6_identity_free(ptr::without_provenance_mut(0x1001)));
    let host = Host::new(1, &default_config());
    let statuses = call_all(host.shim);
    assert!(
        statuses.iter().all(|&status| status != Status::BadPointer),
        "{statuses:?}"
    );
}

#[test]
fn null_is_refused_wherever_it_is_not_allowed() {
    let net = Net::new(&default_config());
    let (shim, host) = (net.hosts[A].shim, identity(1));
    let (mut octets, mut offset, mut length, mut number) = ([0_u8; 1400], 8_usize, 0_usize, 0_u64);
    let (flow, prefixes) = (Flow::default(), [prefix(1, 1)]);
    let mut made: *mut Identity = null_mut();
    let mut another: *mut Shim = null_mut();
    let (out, config) = (octets.as_mut_ptr(), size_of::<Config>());
    let statuses = call!([
        shim6_config_init(null_mut(), config),
        shim6_config_init_small(null_mut(), config),
        shim6_identity_generate(null(), 1, 0, SEED.as_ptr(), &raw mut made),
        shim6_identity_generate(prefixes.as_ptr(), 1, 0, null(), &raw mut made),
        shim6_identity_generate(prefixes.as_ptr(), 1, 0, SEED.as_ptr(), null_mut()),
        shim6_identity_load(null(), 9, &raw mut made),
        shim6_identity_load(out, 9, null_mut()),
        shim6_identity_save(null(), out, 1400, &raw mut length),
        shim6_identity_save(host, null_mut(), 1400, &raw mut length),
        shim6_identity_save(host, out, 1400, null_mut()),
        shim6_identity_address(null(), 0, (&raw mut octets).cast()),
        shim6_identity_address(host, 0, null_mut()),
        shim6_identity_after_collision(null(), &raw mut made),
        shim6_identity_after_collision(host, null_mut()),
        shim6_new(null(), 0, null(), SEED.as_ptr(), &raw mut another),
        shim6_new(null(), 0, host, null(), &raw mut another),
        shim6_new(null(), 0, host, SEED.as_ptr(), null_mut()),
        shim6_set_identity(shim, 0, null()),
        shim6_send(shim, 0, null_mut(), &raw mut offset, &raw mut length),
        shim6_send(shim, 0, out, null_mut(), &raw mut length),
        shim6_send(shim, 0, out, &raw mut offset, null_mut()),
        shim6_receive(shim, 0, null_mut(), &raw mut offset, &raw mut length),
        shim6_receive(shim, 0, out, null_mut(), &raw mut length),
        shim6_receive(shim, 0, out, &raw mut offset, null_mut()),
        shim6_handle_locator(shim, 0, null(), 1),
        shim6_poll_transmit(shim, null_mut(), 1400, &raw mut length),
        shim6_poll_transmit(shim, out, 1400, null_mut()),
        shim6_poll_deliver(shim, null_mut(), 1400, &raw mut length),
        shim6_poll_deliver(shim, out, 1400, null_mut()),
        shim6_poll_event(shim, null_mut(), size_of::<Event>()),
        shim6_establish(shim, 0, null(), &raw mut number),
        shim6_fork(shim, 0, null(), &raw mut number),
        shim6_join(shim, null()),
        shim6_set_protection(shim, 0, null(), 0),
        shim6_set_preferences(shim, 0, null(), 1),
        shim6_session(shim, null(), (&raw mut octets).cast(), 1400),
        shim6_session(shim, &raw const flow, null_mut(), 1400),
        shim6_context(shim, 1, null_mut(), 1400),
        shim6_contexts(shim, null_mut(), 1, &raw mut length),
        shim6_contexts(shim, &raw mut number, 1, null_mut()),
        shim6_path(shim, 1, 0, null_mut(), 1400),
        shim6_get_counters(shim, null_mut(), 1400),
        shim6_discard(shim, 0, null_mut(), 40, &raw mut number),
        shim6_discard(shim, 0, out.cast(), 40, null_mut()),
        shim6_flow_of_sent(null(), 40, (&raw mut octets).cast()),
    ]);
    for (index, status) in statuses.into_iter().enumerate() {
        assert_eq!(status, Status::BadPointer, "{index}");
    }
    assert!(made.is_null() && another.is_null());
    call!(shim6_identity_free(host));
}

#[test]
fn pointers_to_pairs_are_checked_once_there_is_a_context() {
    let mut net = Net::new(&default_config());
    let flow = net.flow(A, 1000, 53);
    net.run(SECOND, &[flow]);
    let (shim, context) = (net.hosts[A].shim, net.hosts[A].session(&flow).expect("one").context);
    assert_eq!(
        call!(shim6_move_to(shim, net.now, context, null(), 0)),
        Status::BadPointer
    );
    assert_eq!(
        call!(shim6_probe(shim, net.now, context, null(), 0)),
        Status::BadPointer
    );
    assert_eq!(call!(shim6_prefer(shim, net.now, context, null())), Status::Ok);
    let packet = datagram(&flow);
    let into_nothing = call!(shim6_flow_of_sent(packet.as_ptr(), packet.len(), null_mut()));
    assert_eq!(into_nothing, Status::BadPointer);
}

#[test]
fn packets_without_room_or_beyond_all_memory_are_refused_and_stay_as_they_are() {
    let host = Host::new(1, &default_config());
    let mut buffer = [0x60; 100];
    let out = buffer.as_mut_ptr();
    let send = |mut offset, mut length| {
        let before = (offset, length);
        let status = call!(shim6_send(host.shim, 0, out, &raw mut offset, &raw mut length));
        assert_eq!((offset, length), before);
        status
    };
    assert_eq!(send(7, 60), Status::NoHeadroom);
    assert_eq!(send(8, usize::MAX), Status::BadArgument);
    assert_eq!(send(usize::MAX, 8), Status::BadArgument);
    assert_eq!(send(8, usize::MAX / 2), Status::BadArgument);
    assert_eq!(send(8, 0), Status::None);
    assert_eq!(send(8, 39), Status::None);
    let (mut offset, mut length) = (usize::MAX, 1);
    let status = call!(shim6_receive(host.shim, 0, out, &raw mut offset, &raw mut length));
    assert_eq!(status, Status::BadArgument);
    assert_eq!(host.counters().malformed_out, 2);
}

#[test]
fn structures_of_older_and_newer_versions_are_told_apart_by_their_size() {
    let host = identity(1);
    let size = size_of::<Config>();
    // A newer one, with a field that says nothing, and one that says something.
    let mut newer = vec![0_u64; size / 8 + 2];
    // SAFETY: there is room for it.
    unsafe { newer.as_mut_ptr().cast::<Config>().write(default_config()) };
    let new = |config: &[u64], size| {
        let mut shim = null_mut();
        let status = call!(shim6_new(
            config.as_ptr().cast(),
            size,
            host,
            SEED.as_ptr(),
            &raw mut shim
        ));
        assert_eq!(shim.is_null(), status != Status::Ok);
        call!(shim6_free(shim));
        status
    };
    assert_eq!(new(&newer, size), Status::Ok);
    assert_eq!(new(&newer, size + 16), Status::Ok);
    *newer.last_mut().expect("the last") = 1;
    assert_eq!(new(&newer, size + 16), Status::BadSize);
    assert_eq!(new(&newer, size - 1), Status::BadSize);
    assert_eq!(new(&newer, usize::MAX), Status::BadSize);
    newer.fill(u64::MAX);
    let written = call!(shim6_config_init(newer.as_mut_ptr().cast(), size + 16));
    assert_eq!((written, newer[size / 8..].to_vec()), (Status::Ok, vec![0, 0]));
    assert_eq!(
        call!(shim6_config_init(newer.as_mut_ptr().cast(), size - 1)),
        Status::BadSize
    );
    call!(shim6_identity_free(host));
    assert!(size == 144 && size_of::<Event>() == 128, "the first version has these");
    assert!(size_of::<ContextInfo>() == 240 && size_of::<PathInfo>() == 96 && size_of::<Counters>() == 136);
}

#[test]
fn structures_may_lie_anywhere_in_memory() {
    let net = Net::new(&default_config());
    let mut memory = [0_u8; 400];
    for shift in 0..8 {
        let out = memory.as_mut_ptr().wrapping_add(shift);
        let size = size_of::<Counters>();
        assert_eq!(
            call!(shim6_get_counters(net.hosts[A].shim, out.cast(), size)),
            Status::Ok
        );
        assert_eq!(call!(shim6_config_init(out.cast(), size_of::<Config>())), Status::Ok);
        let (host, mut shim) = (identity(1), null_mut());
        let made = call!(shim6_new(
            out.cast(),
            size_of::<Config>(),
            host,
            SEED.as_ptr(),
            &raw mut shim
        ));
        assert_eq!(made, Status::Ok);
        call!(shim6_free(shim));
        call!(shim6_identity_free(host));
    }
}

#[test]
fn numbers_out_of_their_range_are_refused() {
    let host = identity(1);
    let new = |config: Config| {
        let mut shim = null_mut();
        let status = call!(shim6_new(
            &raw const config,
            size_of::<Config>(),
            host,
            SEED.as_ptr(),
            &raw mut shim
        ));
        call!(shim6_free(shim));
        status
    };
    let good = default_config();
    assert_eq!(new(good), Status::Ok);
    let bad = [
        Config {
            send_timeout: 49_999,
            ..good
        },
        Config {
            send_timeout: u64::MAX,
            ..good
        },
        Config {
            initial_probe_timeout: 0,
            ..good
        },
        Config {
            max_probe_timeout: 10_000,
            ..good
        },
        Config { quiescence: 0, ..good },
        Config {
            failback_interval: 0,
            ..good
        },
        Config {
            failback_stable: u64::MAX,
            ..good
        },
        Config { profile: 2, ..good },
        Config { contexts: 0, ..good },
        Config {
            contexts_per_peer: 0,
            ..good
        },
        Config {
            contexts_per_prefix: 0,
            ..good
        },
        Config {
            peer_locators: 0,
            ..good
        },
        Config {
            peer_locators: 256,
            ..good
        },
        Config {
            transmit_queue: 0,
            ..good
        },
        Config {
            counted_prefixes: 0,
            ..good
        },
        Config {
            counted_prefixes: u32::MAX,
            ..good
        },
        Config { probes: 0, ..good },
        Config { failback: 2, ..good },
        Config {
            hold_datagrams: 2,
            ..good
        },
        Config {
            deliver_all_icmp: 2,
            ..good
        },
        Config {
            follow_forks: 2,
            ..good
        },
        Config { device: 2, ..good },
        Config { reserved: 1, ..good },
    ];
    for config in bad {
        assert_eq!(new(config), Status::BadArgument, "{config:?}");
        assert_eq!(field(&config), differing(&config, &good));
        let unnamed = call!(shim6_config_check(&raw const config, size_of::<Config>(), null_mut()));
        assert_eq!(unnamed, Status::BadArgument);
    }
    assert_eq!(call!(shim6_config_check(null(), 0, null_mut())), Status::BadPointer);
    call!(shim6_identity_free(host));
    let net = Net::new(&good);
    let (shim, ulids) = (net.hosts[A].shim, net.pair(A, 0, 0));
    assert_eq!(
        call!(shim6_set_protection(shim, 0, &raw const ulids, 2)),
        Status::BadArgument
    );
    let many = [Preference::default(); 257];
    assert_eq!(
        call!(shim6_set_preferences(shim, 0, many.as_ptr(), 257)),
        Status::BadArgument
    );
    let strange = net.pair(1, 0, 0);
    assert_eq!(
        call!(shim6_establish(shim, 0, &raw const strange, null_mut())),
        Status::NotOurs
    );
}

#[test]
fn a_fault_inside_kills_the_handle_and_not_the_program() {
    let host = Host::new(1, &default_config());
    assert_eq!(call!(on_shim(host.shim, |_| panic!("on purpose"))), Status::Internal);
    assert!(call_all(host.shim).iter().all(|&status| status == Status::Internal));
    assert_eq!(host.timeout(), SHIM6_NEVER);
}

#[test]
fn each_reason_for_a_discard_has_a_name_that_fits() {
    let host = Host::new(1, &default_config());
    let (mut name, mut count) = ([0; 40], 0);
    let names: BTreeSet<_> = (0..)
        .map_while(|index| {
            let out = name.as_mut_ptr();
            let status = call!(shim6_discard(host.shim, index, out, name.len(), &raw mut count));
            (status == Status::Ok).then(|| text(out))
        })
        .collect();
    assert!(names.len() > 20 && names.contains("bad_checksum"), "{names:?}");
    let short = call!(shim6_discard(host.shim, 0, name.as_mut_ptr(), 4, &raw mut count));
    assert_eq!(short, Status::BufferTooShort);
}

/// What the check calls the field that is out of its range.
fn field(config: &Config) -> String {
    let mut name = null();
    let status = call!(shim6_config_check(config, size_of::<Config>(), &raw mut name));
    assert_eq!((status, name.is_null()), (Status::BadArgument, false));
    text(name)
}

/// The name of the one field in which two configurations differ, by their texts.
fn differing(one: &Config, other: &Config) -> String {
    let (one, other) = (format!("{one:#?}"), format!("{other:#?}"));
    let line = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    let name = line.and_then(|(line, _)| line.trim().split(':').next());
    name.expect("a field").to_owned()
}

fn text(from: *const c_char) -> String {
    // SAFETY: a text of this library, which ends with a zero octet.
    unsafe { CStr::from_ptr(from) }.to_str().expect("ASCII").to_owned()
}

#[test]
fn every_number_has_a_text() {
    let texts = |of: &dyn Fn(i32) -> *const c_char| (-100..100).map(|n| text(of(n))).collect::<BTreeSet<_>>().len();
    assert_eq!(texts(&|n| shim6_strerror(n)), 24 + 1);
    assert_eq!(texts(&|n| shim6_event_name(n.cast_unsigned())), 12 + 1);
    // "unknown" is one of the names.
    assert_eq!(texts(&|n| shim6_cause_name(n.cast_unsigned())), 8);
    assert_eq!(text(shim6_version()), env!("CARGO_PKG_VERSION"));
}
