//! Flows of forked instances (RFC 5533 section 12.4).

use super::*;

const INSTANCE: u32 = 5;

fn fork() -> Flow {
    Flow {
        context: ContextId(3),
        forked_instance: INSTANCE,
        local_tag: tag(0x4444),
        peer_tag: tag(0x5555),
        locators: LocatorPair {
            local: locators().local,
            peer: ulids().peer,
        },
        activity: Arc::default(),
        ..sender_flow()
    }
}

#[test]
fn packets_go_on_the_instance_that_their_sender_names_and_else_on_instance_0() {
    let mut table = table(sender_flow());
    table.apply(DataplaneUpdate::Insert(Arc::new(fork())));
    let send = |instance| {
        let mut buffer = behind(8, &packet(ulids(), UDP, &[1, 2, 3]));
        match table.outbound_on(instance, &mut buffer, 8, NOW) {
            Outbound::Rewritten { start: 0, flow, .. } => Some((flow.context, buffer)),
            Outbound::NoContext => None,
            other => panic!("{other:?}"),
        }
    };
    let header = [UDP, 0, 0x80, 0, 0, 0, 0x55, 0x55, 1, 2, 3];
    assert_eq!(
        send(INSTANCE),
        Some((ContextId(3), packet(fork().locators, PROTOCOL, &header)))
    );
    assert_eq!(send(0).map(|(context, _)| context), Some(ContextId(1)));
    assert_eq!(send(INSTANCE + 1), None);
    let mut ordinary = behind(8, &packet(ulids(), UDP, &[1, 2, 3]));
    let Outbound::Rewritten { flow, .. } = table.outbound(&mut ordinary, 8, NOW) else {
        panic!("not rewritten")
    };
    assert_eq!((flow.context, flow.activity.sent().0), (ContextId(1), 2));
}

#[test]
fn packets_of_a_fork_bear_its_tag_on_its_ulids_as_well() {
    let table = table(Flow {
        locators: ulids(),
        ..fork()
    });
    let mut buffer = behind(8, &packet(ulids(), UDP, &[1, 2, 3]));
    let Outbound::Rewritten { start, flow, .. } = table.outbound_on(INSTANCE, &mut buffer, 8, NOW) else {
        panic!("not rewritten")
    };
    assert_eq!((start, flow.activity.sent().0), (0, 1));
    let (tag, next_header) = payload::parse(&buffer[IPV6_HEADER_LEN..]).expect("a payload header");
    assert_eq!((tag, next_header), (fork().peer_tag, UDP));
    assert_eq!(addresses(&buffer), Some((ulids().local, ulids().peer)));
}

#[test]
fn fork_never_takes_the_packets_between_its_ulids() {
    let table = table(fork());
    let LocatorPair { local, peer } = ulids();
    assert!(!fork().is_steered());
    assert!(table.flow(ulids()).is_none());
    assert_eq!(table.observe(local, peer, true, 1, NOW), Observed::NoContext(ulids()));
    let mut buffer = behind(8, &packet(ulids(), UDP, &[1, 2, 3]));
    assert!(matches!(table.outbound(&mut buffer, 8, NOW), Outbound::NoContext));
}

#[test]
fn packets_received_on_a_fork_are_restored() {
    let table = table(Flow {
        forked_instance: INSTANCE,
        ..receiver_flow()
    });
    let mut sent = rewritten(&packet(ulids(), UDP, &[1, 2, 3]));
    assert!(matches!(table.inbound(&mut sent, 0, NOW), Inbound::Restored { .. }));
    assert_eq!(table.len(), 1);
}

#[test]
fn removal_takes_only_its_own_instance() {
    let mut table = table(sender_flow());
    table.apply(DataplaneUpdate::Insert(Arc::new(fork())));
    assert_eq!(table.len(), 2);
    table.apply(DataplaneUpdate::Remove(Arc::new(fork())));
    assert_eq!(table.len(), 1);
    assert!(table.flow(ulids()).is_some());
    let mut buffer = behind(8, &packet(ulids(), UDP, &[1, 2, 3]));
    assert!(matches!(
        table.outbound_on(INSTANCE, &mut buffer, 8, NOW),
        Outbound::NoContext
    ));

    table.apply(DataplaneUpdate::Insert(Arc::new(fork())));
    table.apply(DataplaneUpdate::Remove(Arc::new(sender_flow())));
    assert_eq!(table.len(), 1);
    assert!(matches!(
        table.outbound_on(INSTANCE, &mut buffer, 8, NOW),
        Outbound::Rewritten { .. }
    ));
}
