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
use shim6_cga::{HbaSet, KeySizes, PrivateKey, Sec, SubnetPrefix};
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

fn endpoint(first_prefix: u16, seed: u8) -> Option<Endpoint> {
    let mut rng = ChaCha12Rng::from_seed([seed; 32]);
    let prefix = |n| SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 0));
    let key = PrivateKey::generate(2048, KeySizes::default(), &mut rng).ok()?;
    let spki = key.public_key().spki();
    let set = HbaSet::generate_with_public_key(&[prefix(first_prefix)], spki, Sec::ZERO, &mut rng).ok()?;
    let later = prefix(first_prefix + 1).to_address(1);
    let identity = Identity::from_hba_set(&set, &mut rng).with_signed_locators(&key, &[later], &mut rng);
    Some(Endpoint::new(EndpointConfig::default(), identity.ok()?, [seed; 32]))
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
