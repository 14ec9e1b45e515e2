//! Comparing measurements that are taken in turns.

use serde::Serialize;

/// Measurements of one thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a measurement.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// All measurements, in the order they were taken.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// The median; nothing without measurements.
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(sorted[middle]),
            _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        }
    }

    /// The smallest and the largest measurement.
    pub fn range(&self) -> Option<(f64, f64)> {
        let smallest = self.0.iter().copied().reduce(f64::min)?;
        let largest = self.0.iter().copied().reduce(f64::max)?;
        Some((smallest, largest))
    }

    /// Each measurement as a part of the one of `base` that was taken in the same turn, where there is one.
    pub fn ratios_to(&self, base: &Self) -> Self {
        let turns = self.0.iter().zip(&base.0).filter(|&(_, &base)| base > 0.0);
        turns.map(|(own, base)| own / base).collect()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Samples {
        values.iter().copied().collect()
    }

    #[test]
    fn median_is_in_the_middle() {
        assert_eq!(of(&[]).median(), None);
        assert_eq!(of(&[3.0, 1.0, 9.0]).median(), Some(3.0));
        assert_eq!(of(&[4.0, 1.0, 9.0, 2.0]).median(), Some(3.0));
        assert_eq!(of(&[4.0, 1.0, 9.0]).range(), Some((1.0, 9.0)));
    }

    #[test]
    fn ratios_compare_what_was_measured_in_the_same_turn() {
        let slower_and_slower = of(&[8.0, 4.0, 2.0]);
        assert_eq!(
            of(&[4.0, 2.0, 1.5]).ratios_to(&slower_and_slower),
            of(&[0.5, 0.5, 0.75])
        );
        assert_eq!(of(&[1.0, 2.0]).ratios_to(&of(&[2.0])), of(&[0.5]));
        assert_eq!(of(&[1.0, 2.0]).ratios_to(&of(&[0.0, 2.0])), of(&[1.0]));
        assert_eq!(of(&[1.0]).ratios_to(&of(&[])).median(), None);
    }
}
