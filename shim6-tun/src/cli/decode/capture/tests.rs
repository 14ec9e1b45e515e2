//! Captures of both formats, whole and not.

use proptest::prelude::*;

use super::*;

/// What [`for_each`] gives of a frame, to keep.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    number: u64,
    /// Nanoseconds since 1970.
    time: Option<u128>,
    link: u16,
    octets: Vec<u8>,
    is_cut: bool,
}

fn kept(number: u64, time: Option<u128>, link: u16, octets: &[u8], is_cut: bool) -> Kept {
    let octets = octets.to_vec();
    Kept {
        number,
        time,
        link,
        octets,
        is_cut,
    }
}

/// Gives as much as asked for, but never more than so many octets at once.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(self.1);
        self.0.read(&mut buffer[..most])
    }
}

fn read_slowly(octets: &[u8], at_once: usize) -> (Vec<Kept>, Result<(), String>) {
    let mut frames = Vec::new();
    let result = for_each(&mut Slow(octets, at_once), &mut |frame| {
        let since = frame.time.map(|time| time.duration_since(SystemTime::UNIX_EPOCH));
        frames.push(Kept {
            number: frame.number,
            time: since.map(|since| since.expect("after 1970").as_nanos()),
            link: frame.link,
            octets: frame.octets.to_vec(),
            is_cut: frame.is_cut,
        });
        Ok(())
    });
    (frames, result.map_err(|error| error.to_string()))
}

fn read(octets: &[u8]) -> (Vec<Kept>, Result<(), String>) {
    read_slowly(octets, usize::MAX)
}

/// Numbers in one of the two byte orders.
#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

impl Order {
    fn u16(self, number: u16) -> [u8; 2] {
        if self.big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    }

    fn u32(self, number: u32) -> [u8; 4] {
        if self.big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    }

    fn words(self, numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| self.u32(*number)).collect()
    }

    fn block(self, block_type: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = 12 + body.len() as u32;
        [self.words(&[block_type, length]), body, self.words(&[length])].concat()
    }

    fn section(self) -> Vec<u8> {
        let version = [self.u16(1), self.u16(0)].concat();
        let body = [self.words(&[0x1a2b_3c4d]), version, vec![0xff; 8]].concat();
        self.block(0x0a0d_0d0a, &body)
    }

    fn interface(self, link: u16, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = [self.u16(link), self.u16(0)].concat();
        body.extend(self.u32(0));
        for (code, value) in options {
            body.extend(self.u16(*code));
            body.extend(self.u16(value.len() as u16));
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        body.extend(self.u32(0));
        self.block(1, &body)
    }

    fn packet(self, interface: u32, ticks: u64, octets: &[u8], original: u32) -> Vec<u8> {
        let length = octets.len() as u32;
        let words = [interface, (ticks >> 32) as u32, ticks as u32, length, original];
        self.block(6, &[&self.words(&words), octets].concat())
    }
}

const LITTLE: Order = Order { big: false };
const BIG: Order = Order { big: true };

fn pcap(order: Order, magic: u32, link: u32) -> Vec<u8> {
    let version = [order.u16(2), order.u16(4)].concat();
    [order.words(&[magic]), version, order.words(&[0, 0, 65535, link])].concat()
}

#[test]
fn pcap_is_read_in_both_orders_and_resolutions() {
    for order in [LITTLE, BIG] {
        for (magic, nanos) in [(0xa1b2_c3d4, 7_000), (0xa1b2_3c4d, 7)] {
            // In the upper half of the link type: frames end with a check sequence of 4 octets.
            let mut file = pcap(order, magic, 0x4400_0001);
            file.extend([order.words(&[3, 7, 5, 5]), b"first".to_vec()].concat());
            file.extend([order.words(&[4, 0, 3, 100]), b"cut".to_vec()].concat());
            let (frames, result) = read(&file);
            assert_eq!(result, Ok(()));
            assert_eq!(
                frames,
                [
                    kept(1, Some(3_000_000_000 + nanos), 1, b"first", false),
                    kept(2, Some(4_000_000_000), 1, b"cut", true),
                ]
            );
        }
    }
}

#[test]
fn pcapng_is_read_with_sections_and_interfaces_of_their_own() {
    let mut file = Vec::new();
    for order in [LITTLE, BIG] {
        file.extend(order.section());
        file.extend(order.interface(1, &[(2, b"eth0")]));
        // 2^-10 s.
        file.extend(order.interface(229, &[(9, &[0x8a])]));
        file.extend(order.packet(1, 1024 + 512, b"later", 5));
        file.extend(order.packet(0, 5_000_000, b"short", 60));
        // A block of a type that nobody knows, and a simple packet: no time, the first interface.
        file.extend(order.block(0x7777, &[1, 2, 3, 4]));
        file.extend(order.block(3, &[&order.words(&[3])[..], b"abc"].concat()));
    }
    let (frames, result) = read(&file);
    assert_eq!(result, Ok(()));
    let section = |first: u64| {
        [
            kept(first, Some(1_500_000_000), 229, b"later", false),
            kept(first + 1, Some(5_000_000_000), 1, b"short", true),
            kept(first + 2, None, 1, b"abc", false),
        ]
    };
    let expected: Vec<_> = [section(1), section(4)].into_iter().flatten().collect();
    assert_eq!(frames, expected);
}

#[test]
fn packet_of_an_undescribed_interface_is_counted_and_passed_over() {
    let file = [LITTLE.section(), LITTLE.packet(0, 1, b"none", 4)].concat();
    assert_eq!(read(&file), (vec![], Ok(())));
    let file = [
        LITTLE.section(),
        LITTLE.interface(229, &[]),
        LITTLE.packet(1, 1, b"none", 4),
        LITTLE.packet(0, 1, b"one", 3),
    ];
    assert_eq!(
        read(&file.concat()),
        (vec![kept(2, Some(1000), 229, b"one", false)], Ok(()))
    );
}

#[test]
fn resolutions_that_no_clock_has_give_no_time() {
    let interface = |resolution, offset| Interface {
        link: 1,
        resolution,
        offset,
    };
    assert_eq!(pcapng_time(1, interface(0x7f, 0)), None);
    assert_eq!(pcapng_time(0, interface(6, -1)), None);
    let second = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    assert_eq!(pcapng_time(0, interface(6, 1)), second);
    assert_eq!(pcapng_time(2, interface(0, -1)), second);
}

#[test]
fn capture_that_ends_too_early_gives_what_it_has_and_says_so() {
    let whole = [
        LITTLE.section(),
        LITTLE.interface(229, &[]),
        LITTLE.packet(0, 1, b"one", 3),
        LITTLE.packet(0, 2, b"two", 3),
    ]
    .concat();
    let (frames, result) = read(&whole);
    assert_eq!((frames.len(), result), (2, Ok(())));
    for length in 0..whole.len() {
        let (frames, result) = read(&whole[..length]);
        let ends_between = [28, 52, 88].contains(&length);
        assert_eq!(result.is_ok(), ends_between, "{length} octets: {result:?}");
        assert!(frames.len() <= 1);
        if length > 88 {
            assert_eq!(frames.len(), 1);
            let said = result.expect_err("it ends within a block");
            assert!(
                said.starts_with("the capture ends within the block behind packet 1;"),
                "{said}"
            );
        }
    }
}

#[test]
fn damage_is_told_with_its_place() {
    let good = [
        LITTLE.section(),
        LITTLE.interface(229, &[]),
        LITTLE.packet(0, 1, b"one", 3),
    ]
    .concat();
    // The two lengths of a block differ.
    let mut block = LITTLE.packet(0, 1, b"two", 3);
    let last = block.len() - 4;
    block[last] ^= 4;
    let (frames, result) = read(&[&good[..], &block].concat());
    assert_eq!(frames.len(), 1);
    let said = result.expect_err("it is damaged");
    assert!(
        said.starts_with(&format!(
            "the capture is damaged at octet {}, behind packet 1;",
            good.len()
        )),
        "{said}"
    );
}

#[test]
fn packet_that_is_larger_than_any_is_damage() {
    let mut file = pcap(LITTLE, 0xa1b2_c3d4, 1);
    file.extend(LITTLE.words(&[0, 0, u32::MAX, u32::MAX]));
    let endless = std::io::repeat(0);
    let result = for_each(&mut file.chain(endless), &mut |_| Ok(()));
    let said = result.expect_err("it is damaged").to_string();
    assert!(
        said.starts_with("the capture is damaged behind packet 0: no packet has "),
        "{said}"
    );
}

#[test]
fn frames_are_given_as_soon_as_they_are_there() {
    let start = [
        LITTLE.section(),
        LITTLE.interface(229, &[]),
        LITTLE.packet(0, 1, b"one", 3),
    ]
    .concat();
    /// Fails when it is asked for more than there is.
    struct Live<'a>(&'a [u8]);
    impl Read for Live<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0 {
                [] => Err(std::io::Error::other("nothing more yet")),
                _ => self.0.read(buffer),
            }
        }
    }
    let mut frames = 0;
    let result = for_each(&mut Live(&start), &mut |_| {
        frames += 1;
        Ok(())
    });
    assert!(result.is_err());
    assert_eq!(frames, 1);
}

#[test]
fn what_starts_no_capture_is_told() {
    assert!(is_capture(&LITTLE.section()) && is_capture(&BIG.section()));
    for magic in PCAP {
        assert!(is_capture(&magic.to_be_bytes()) && is_capture(&magic.to_le_bytes()));
    }
    assert!(!is_capture(b"3b01") && !is_capture(b"") && !is_capture(&[0x0a, 0x0d, 0x0d]));
}

proptest! {
    #[test]
    fn size_of_the_pieces_makes_no_difference(at_once in 1..70_usize, sizes in proptest::collection::vec(0..300_usize, 0..8)) {
        let mut file = [BIG.section(), BIG.interface(101, &[])].concat();
        for size in &sizes {
            file.extend(BIG.packet(0, 9, &vec![7; *size], *size as u32));
        }
        let slow = read_slowly(&file, at_once);
        prop_assert_eq!(slow.0.len(), sizes.len());
        prop_assert_eq!(slow, read(&file));
    }

    #[test]
    fn any_octets_behind_a_magic_number_are_read_without_panic(
        magic in 0..5_usize,
        octets in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let magic = match magic {
            0 => BIG.section(),
            1 => [LITTLE.section(), LITTLE.interface(1, &[])].concat(),
            2 => pcap(LITTLE, PCAP[0], 1),
            3 => pcap(BIG, PCAP[1], 1),
            _ => pcap(LITTLE, PCAP[2], 1),
        };
        let _ = read(&[magic, octets].concat());
    }

    #[test]
    fn damaged_captures_are_read_without_panic(
        damage in proptest::collection::vec(any::<(proptest::sample::Index, u8)>(), 1..6),
    ) {
        let mut file = [
            LITTLE.section(),
            LITTLE.interface(229, &[(9, &[6]), (14, &[0; 8])]),
            LITTLE.packet(0, u64::MAX, &[0x60; 60], 60),
            LITTLE.block(3, &[0; 40]),
        ]
        .concat();
        for (position, value) in damage {
            let at = position.index(file.len());
            file[at] = value;
        }
        let _ = read(&file);
    }
}
