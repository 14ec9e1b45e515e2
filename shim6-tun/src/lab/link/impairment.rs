//! What a link does to the packets of one direction, and how one writes that.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How long a packet may wait for its turn on a link of limited rate, unless something else is said.
pub const DEFAULT_QUEUE: Duration = Duration::from_millis(100);
/// The smallest MTU that carries IPv6, and the largest of these links.
const MTUS: (u32, u32) = (1280, 9000);
/// No line that is worth emulating is longer.
const MAX_TIME: Duration = Duration::from_secs(60);

/// A share of all packets, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

impl Share {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(1_000_000);

    /// So many of a million, at most all.
    #[must_use]
    pub fn per_million(packets: u32) -> Self {
        Self(packets.min(Self::ALL.0))
    }

    /// One of so many; of none, none.
    #[must_use]
    pub fn one_of(packets: u32) -> Self {
        Self(Self::ALL.0.checked_div(packets).unwrap_or_default())
    }

    /// So many of a hundred, at most all.
    #[must_use]
    pub fn percent(packets: u32) -> Self {
        Self::per_million(packets.saturating_mul(10_000))
    }

    /// In millionths.
    #[must_use]
    pub fn millionths(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

/// Octets in time: so many bits per second, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// So many bits per second, at least one.
    #[must_use]
    pub fn bits(per_second: u64) -> Self {
        Self(per_second.max(1))
    }

    /// So many millions of bits per second.
    #[must_use]
    pub fn mbit(per_second: u64) -> Self {
        Self::bits(per_second.saturating_mul(1_000_000))
    }

    /// In bits per second.
    #[must_use]
    pub fn bits_per_second(self) -> u64 {
        self.0
    }

    /// How long so many octets take.
    #[must_use]
    pub fn time_of(self, octets: usize) -> Duration {
        let nanos = octets as u128 * 8 * 1_000_000_000 / u128::from(self.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0 as f64;
        match self.0 {
            1_000_000_000.. => write!(f, "{}Gbit/s", bits / 1e9),
            1_000_000.. => write!(f, "{}Mbit/s", bits / 1e6),
            1_000.. => write!(f, "{}kbit/s", bits / 1e3),
            _ => write!(f, "{}bit/s", self.0),
        }
    }
}

/// What happens to the packets of one direction. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Impairment {
    /// How fast packets follow each other, link-layer header included. `None` for as fast as this machine is.
    pub rate: Option<Rate>,
    /// How long a packet may wait for its turn where there is a rate, before it is dropped. `None` for [`DEFAULT_QUEUE`].
    pub queue: Option<Duration>,
    /// How long each packet is held, after its turn.
    pub delay: Duration,
    /// By how much the delay varies, both ways, evenly. Packets keep their order.
    pub jitter: Duration,
    /// How many are lost, at random: by a lot for each packet, from the seed of the link.
    pub loss: Share,
    /// How many arrive twice, at random.
    pub duplicate: Share,
    /// How many are overtaken by those behind them, at random: they are held for a quarter of the delay longer, 2 ms at least.
    pub reorder: Share,
    /// Octets of the longest packet, from its IPv6 header on. Longer ones vanish.
    pub mtu: Option<u32>,
    /// Whether packets of transports that know ECN are marked as having met congestion (RFC 3168 section 5).
    pub congested: bool,
}

impl Impairment {
    /// Holds each packet for `delay`.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// Loses this share of the packets, at random.
    #[must_use]
    pub fn losing(self, loss: Share) -> Self {
        Self { loss, ..self }
    }

    /// Marks all packets of transports that know ECN.
    #[must_use]
    pub fn congested(self) -> Self {
        Self {
            congested: true,
            ..self
        }
    }

    /// The same with one thing changed.
    #[must_use]
    pub fn with(mut self, setting: Setting) -> Self {
        match setting {
            Setting::Rate(rate) => self.rate = rate,
            Setting::Queue(queue) => self.queue = Some(queue),
            Setting::Delay(delay) => self.delay = delay,
            Setting::Jitter(jitter) => self.jitter = jitter,
            Setting::Loss(loss) => self.loss = loss,
            Setting::Duplicate(duplicate) => self.duplicate = duplicate,
            Setting::Reorder(reorder) => self.reorder = reorder,
            Setting::Mtu(mtu) => self.mtu = Some(mtu),
        }
        self
    }
}

/// What differs from a link that does nothing, as one would write it: `rate=10Mbit/s delay=20ms`.
impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = Self::default();
        let time = |time: Duration| humantime::format_duration(time).to_string().replace(' ', "");
        let mut said = Vec::new();
        let mut say = |differs: bool, name: &str, value: String| {
            if differs {
                said.push(format!("{name}={value}"));
            }
        };
        say(
            self.rate.is_some(),
            "rate",
            self.rate.map_or_else(String::new, |rate| rate.to_string()),
        );
        say(self.queue.is_some(), "queue", time(self.queue.unwrap_or(DEFAULT_QUEUE)));
        say(self.delay != plain.delay, "delay", time(self.delay));
        say(self.jitter != plain.jitter, "jitter", time(self.jitter));
        say(self.loss != plain.loss, "loss", self.loss.to_string());
        say(
            self.duplicate != plain.duplicate,
            "duplicate",
            self.duplicate.to_string(),
        );
        say(self.reorder != plain.reorder, "reorder", self.reorder.to_string());
        say(self.mtu.is_some(), "mtu", self.mtu.unwrap_or_default().to_string());
        say(self.congested, "congested", "true".to_owned());
        f.write_str(&said.join(" "))
    }
}

/// One thing that can be set on a direction of a link. Written `delay=20ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `rate`: `10Mbit/s`, or `none`.
    Rate(Option<Rate>),
    /// `queue`: a duration.
    Queue(Duration),
    /// `delay`: a duration.
    Delay(Duration),
    /// `jitter`: a duration.
    Jitter(Duration),
    /// `loss`: a share.
    Loss(Share),
    /// `duplicate`: a share.
    Duplicate(Share),
    /// `reorder`: a share.
    Reorder(Share),
    /// `mtu`: octets.
    Mtu(u32),
}

impl Setting {
    /// The names of all of them.
    pub const NAMES: [&'static str; 8] = [
        "rate",
        "queue",
        "delay",
        "jitter",
        "loss",
        "duplicate",
        "reorder",
        "mtu",
    ];

    /// The setting called `name` with the value that is written `value`.
    ///
    /// # Errors
    /// What is wrong with the value. With a name that there is not, that.
    pub fn parse(name: &str, value: &str) -> Result<Self, String> {
        let value = value.trim();
        match name {
            "rate" if value == "none" => Ok(Self::Rate(None)),
            "rate" => rate(value).map(|rate| Self::Rate(Some(rate))),
            "queue" => time(value).map(Self::Queue),
            "delay" => time(value).map(Self::Delay),
            "jitter" => time(value).map(Self::Jitter),
            "loss" => share(value).map(Self::Loss),
            "duplicate" => share(value).map(Self::Duplicate),
            "reorder" => share(value).map(Self::Reorder),
            "mtu" => mtu(value).map(Self::Mtu),
            _ => Err(format!("there is no setting {name:?}")),
        }
    }

    /// What a value has to look like.
    #[must_use]
    pub fn expected(name: &str) -> &'static str {
        match name {
            "rate" => "expected a rate such as \"10Mbit/s\", \"1.5 Gbit/s\" or \"none\"",
            "loss" | "duplicate" | "reorder" => "expected a share of the packets such as \"1%\" or \"0.01%\"",
            "mtu" => "expected octets from 1280 to 9000",
            _ => "expected a duration up to a minute such as \"20ms\"",
        }
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::NAMES.join(", ");
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} sets nothing; expected NAME=VALUE, with a name of {names}"))?;
        if !Self::NAMES.contains(&name) {
            let instead = crate::config::read::instead(name, &Self::NAMES);
            return Err(format!("there is no setting {name:?}; {instead}"));
        }
        Self::parse(name, value).map_err(|wrong| format!("{name}: {wrong}; {}", Self::expected(name)))
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("{text:?} is no rate");
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = match unit.strip_suffix("bps") {
        Some(prefix) => format!("{prefix}bit"),
        None => unit.strip_suffix("/s").unwrap_or(&unit).to_owned(),
    };
    let factor = match unit.as_str() {
        "bit" => 1.0,
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        _ => return Err(wrong()),
    };
    let bits = number.parse::<f64>().map_err(|_| wrong())? * factor;
    if (1.0..=1e12).contains(&bits) {
        Ok(Rate::bits(bits.round() as u64))
    } else {
        Err(format!("{text:?} is out of range"))
    }
}

fn share(text: &str) -> Result<Share, String> {
    let wrong = || format!("{text:?} is no share");
    let percent = text.strip_suffix('%').ok_or_else(wrong)?;
    let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
    if (0.0..=100.0).contains(&percent) {
        Ok(Share::per_million((percent * 10_000.0).round() as u32))
    } else {
        Err(format!("{text:?} is out of range"))
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| format!("{text:?} is no duration: {error}"))?;
    if time <= MAX_TIME {
        Ok(time)
    } else {
        Err(format!("{text:?} is out of range"))
    }
}

fn mtu(text: &str) -> Result<u32, String> {
    let mtu = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (MTUS.0..=MTUS.1).contains(&mtu) {
        Ok(mtu)
    } else {
        Err(format!("{text:?} is out of range"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_people_write_them() {
        for (text, expected) in [
            ("rate=10Mbit/s", Setting::Rate(Some(Rate::mbit(10)))),
            ("rate=1.5 Gbit", Setting::Rate(Some(Rate::mbit(1500)))),
            ("rate=64kbps", Setting::Rate(Some(Rate::bits(64_000)))),
            ("rate=none", Setting::Rate(None)),
            ("delay=20ms", Setting::Delay(Duration::from_millis(20))),
            ("loss=0.01%", Setting::Loss(Share::per_million(100))),
            ("reorder=100%", Setting::Reorder(Share::ALL)),
            ("mtu=1280", Setting::Mtu(1280)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_set_is_refused_with_what_can() {
        for (text, says) in [
            ("delay", "NAME=VALUE"),
            ("dealy=20ms", "did you mean delay?"),
            ("delay=20", "such as \"20ms\""),
            ("delay=2h", "out of range"),
            ("loss=1", "such as \"1%\""),
            ("loss=101%", "out of range"),
            ("loss=-1%", "out of range"),
            ("loss=nan%", "out of range"),
            ("rate=10", "no rate"),
            ("rate=0Mbit", "out of range"),
            ("mtu=1279", "1280 to 9000"),
        ] {
            let error = text.parse::<Setting>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn an_impairment_says_what_would_make_it() {
        let words = "rate=10Mbit/s queue=50ms delay=20ms jitter=1ms500us loss=0.5% duplicate=1% reorder=2% mtu=1400";
        let made = words
            .split(' ')
            .fold(Impairment::default(), |made, word| made.with(word.parse().unwrap()));
        assert_eq!(made.to_string(), words);
        assert_eq!(Impairment::default().to_string(), "");
    }

    #[test]
    fn a_rate_gives_the_time_of_octets() {
        assert_eq!(Rate::mbit(8).time_of(1500), Duration::from_micros(1500));
        assert_eq!(Rate::bits(u64::MAX).time_of(1), Duration::ZERO);
        assert_eq!(Rate::bits(0).bits_per_second(), 1);
    }

    #[test]
    fn one_of_so_many_is_a_share() {
        let shares = [0, 1, 3, 200].map(|packets| Share::one_of(packets).millionths());
        assert_eq!(shares, [0, 1_000_000, 333_333, 5_000]);
    }
}
