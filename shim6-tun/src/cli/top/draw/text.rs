//! Texts that fit.

/// Eighths of a cell, from nothing.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// As much of a text as fits into so many columns; what is left out is in the middle, as addresses differ at their ends.
pub(super) fn shortened(text: &str, columns: usize) -> String {
    let length = text.chars().count();
    if length <= columns {
        return text.to_owned();
    }
    let kept = columns.saturating_sub(1);
    let (front, back) = (kept.div_ceil(2), kept / 2);
    let start: String = text.chars().take(front).collect();
    let end: String = text.chars().skip(length - back).collect();
    let gap = if columns > 0 { "…" } else { "" };
    format!("{start}{gap}{end}")
}

/// A round-trip time with three digits: `0.85 ms`, `12.3 ms`, `1.20 s`; a dash for none.
pub(super) fn round_trip(us: Option<u64>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us @ ..10_000) => format!("{:.2} ms", us as f64 / 1e3),
        Some(us @ ..100_000) => format!("{:.1} ms", us as f64 / 1e3),
        Some(us @ ..1_000_000) => format!("{:.0} ms", us as f64 / 1e3),
        Some(us) => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// Values as bars side by side, from nothing to the largest; a blank where there is none.
pub(super) fn sparkline(values: impl Iterator<Item = Option<u64>> + Clone) -> String {
    let largest = values.clone().flatten().max().unwrap_or(0).max(1);
    let bar = |value: u64| BARS[usize::try_from(value.saturating_mul(7) / largest).unwrap_or(7).min(7)];
    values.map(|value| value.map_or(' ', bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(shortened("2001:db8::1", 11), "2001:db8::1");
        assert_eq!(shortened("2001:db8::1", 8), "2001…::1");
        assert_eq!(shortened("2001:db8::1", 1), "…");
        assert_eq!(shortened("2001:db8::1", 0), "");
        assert_eq!(shortened("äöüß", 3), "ä…ß");
    }

    #[test]
    fn round_trips_have_three_digits_at_least() {
        let texts = [None, Some(850), Some(12_345), Some(250_000), Some(1_200_000)].map(round_trip);
        assert_eq!(texts, ["-", "0.85 ms", "12.3 ms", "250 ms", "1.20 s"]);
    }

    #[test]
    fn sparkline_is_as_high_as_its_largest_value() {
        assert_eq!(sparkline([Some(7), None, Some(0), Some(14)].into_iter()), "▄ ▁█");
        assert_eq!(sparkline([Some(u64::MAX), Some(0)].into_iter()).chars().count(), 2);
        assert_eq!(sparkline([None, None].into_iter()), "  ");
        assert_eq!(sparkline([Some(0)].into_iter()), "▁");
    }
}
