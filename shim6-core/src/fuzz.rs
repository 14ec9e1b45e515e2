//! What the fuzz targets under `shim6-core/fuzz` run. An ordinary test runs it over the corpus that is kept there.
//!
//! Each body takes any octets and panics when a promise of this crate does not hold.

mod endpoint;
mod packets;
#[cfg(test)]
mod tests;
mod wire;

pub use endpoint::endpoint;
pub use packets::dataplane;
pub use wire::{message, options, payload};

use alloc::vec::Vec;

use crate::wire::checksum;

/// Reads the input of a target piece by piece. At its end there are only zeros.
#[derive(Debug)]
struct Source<'a> {
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn octet(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((&octet, rest)) => {
                self.rest = rest;
                octet
            }
            None => 0,
        }
    }

    /// One of `items`, which are at most 256.
    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::from(self.octet()) % items.len()]
    }

    /// A number below `bound`, which is at most 256.
    fn index(&mut self, bound: usize) -> usize {
        usize::from(self.octet()) % bound
    }

    /// As many octets as the first one says.
    fn take(&mut self) -> &'a [u8] {
        let length = usize::from(self.octet());
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// The octets as a control message that gets past the checks of its header: cut to a multiple of 8 octets that Hdr Ext Len
/// can say, P and S clear, checksum right.
fn sealed(octets: &[u8]) -> Vec<u8> {
    let mut sealed = octets.to_vec();
    sealed.resize((octets.len() / 8 * 8).clamp(8, 2_048), 0);
    sealed[1] = u8::try_from(sealed.len() / 8 - 1).expect("at most 2,048 octets");
    sealed[2] &= 0x7f;
    sealed[3] &= 0xfe;
    sealed[4..6].fill(0);
    let sum = checksum(&sealed);
    sealed[4..6].copy_from_slice(&sum.to_be_bytes());
    sealed
}
