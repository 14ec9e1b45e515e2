//! A freestanding library that uses the protocol crates: address sets, keys, contexts, REAP and packet rewriting, and a smoltcp stack
//! over them.
//!
//! Building it is the test. It has a panic handler and an allocator of its own, so it does not compile when `std` is
//! anywhere among what it links; that no symbol of an operating system is needed either, `.ci/run` reads from the result.
#![no_std]

extern crate alloc;

use alloc::vec;
use core::alloc::{GlobalAlloc, Layout};
use core::net::Ipv6Addr;
use core::panic::PanicInfo;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use shim6_cga::{HbaSet, Sec, SubnetPrefix};
#[cfg(feature = "rsa")]
use shim6_cga::{KeySizes, PrivateKey};
use shim6_core::wire::MAX_MESSAGE;
use shim6_core::{Dataplane, Endpoint, EndpointConfig, Identity, Shim, ShimConfig};
use shim6_reap::{Instant, LocatorPair};
use shim6_smoltcp::{Shim6Device, to_smoltcp};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Loopback, Medium};
use smoltcp::wire::{HardwareAddress, Ipv6Cidr};

/// Has no memory to give: nothing here is ever run.
struct NoMemory;

// SAFETY: a null pointer says that the allocation failed, and so nothing is ever given back.
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: NoMemory = NoMemory;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

fn prefix(number: u16) -> SubnetPrefix {
    SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 0))
}

/// A set under one prefix, and an address under another that is signed with its key.
#[cfg(feature = "rsa")]
fn identity(first_prefix: u16, rng: &mut ChaCha12Rng) -> Option<Identity> {
    let key = PrivateKey::generate(2048, KeySizes::default(), rng).ok()?;
    let spki = key.public_key().spki();
    let set = HbaSet::generate_with_public_key(&[prefix(first_prefix)], spki, Sec::ZERO, rng).ok()?;
    let later = prefix(first_prefix + 1).to_address(1);
    let identity = Identity::from_hba_set(&set, rng).with_signed_locators(&key, &[later], rng);
    identity.ok()
}

/// A set under two prefixes.
#[cfg(not(feature = "rsa"))]
fn identity(first_prefix: u16, rng: &mut ChaCha12Rng) -> Option<Identity> {
    let set = HbaSet::generate(&[prefix(first_prefix), prefix(first_prefix + 1)], Sec::ZERO, rng).ok()?;
    Some(Identity::from_hba_set(&set, rng))
}

fn endpoint(first_prefix: u16, seed: u8) -> Option<Endpoint> {
    let identity = identity(first_prefix, &mut ChaCha12Rng::from_seed([seed; 32]))?;
    Some(Endpoint::new(EndpointConfig::default(), identity, [seed; 32]))
}

/// A packet through the shim of a small device. Returns where it starts then, or 0.
#[unsafe(no_mangle)]
pub extern "C" fn shim6_no_std_send() -> usize {
    let Some(identity) = identity(21, &mut ChaCha12Rng::from_seed([3; 32])) else {
        return 0;
    };
    let mut shim = Shim::new(ShimConfig::small(), identity, [3; 32]);
    let mut packet = vec![0; 1280];
    let now = Instant::from_micros(0);
    let start = shim.send(now, &mut packet, 8).unwrap_or(0);
    let _ = (shim.receive(now, &mut packet, start), shim.poll_transmit(&mut packet));
    start
}

/// Two hosts set up a context with each other. Returns how many messages that took; 4 if this is run at all.
#[unsafe(no_mangle)]
pub extern "C" fn shim6_no_std_exchange() -> u32 {
    let (Some(a), Some(b)) = (endpoint(1, 1), endpoint(11, 2)) else {
        return 0;
    };
    let now = Instant::from_micros(0);
    let ulids = LocatorPair {
        local: a.identity().locators()[0],
        peer: b.identity().locators()[0],
    };
    let mut hosts = [a, b];
    let mut tables = [Dataplane::default(), Dataplane::default()];
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut packet = vec![0; 1280];
    let mut messages = 0;
    if hosts[0].establish(now, ulids).is_err() {
        return 0;
    }
    for turn in 0..8 {
        let [from, to] = [turn % 2, (turn + 1) % 2];
        while let Some(update) = hosts[from].poll_dataplane() {
            tables[from].apply(update);
        }
        while let Some(transmit) = hosts[from].poll_transmit(&mut buffer) {
            hosts[to].handle_message(now, transmit.source, transmit.destination, &buffer[..transmit.len]);
            messages += 1;
        }
        let _ = (
            tables[from].outbound(&mut packet, 8, now),
            hosts[from].poll_timeout(),
            hosts[from].poll_event(),
        );
    }
    messages
}

/// A smoltcp stack is polled over one uplink. Returns 1 if this is run at all.
#[unsafe(no_mangle)]
pub extern "C" fn shim6_no_std_stack() -> u32 {
    let prefix = Ipv6Cidr::new(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0), 64);
    let shim = Shim::new(ShimConfig::default(), Identity::none(), [1; 32]);
    let Ok(mut device) = Shim6Device::new(shim, [(Loopback::new(Medium::Ip), prefix)]) else {
        return 0;
    };
    let now = to_smoltcp(Instant::from_micros(0));
    let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, now);
    interface.poll(now, &mut device, &mut SocketSet::new(vec![]));
    u32::from(device.poll_at().is_none() && device.poll_event().is_none())
}
