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

    /// The median as a part of the median of `base`.
    pub fn ratio_to(&self, base: &Self) -> Option<f64> {
        match (self.median(), base.median()) {
            (Some(own), Some(base)) if base > 0.0 => Some(own / base),
            _ => None,
        }
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
    fn ratio_compares_medians() {
        assert_eq!(of(&[1.0, 2.0, 30.0]).ratio_to(&of(&[4.0])), Some(0.5));
        assert_eq!(of(&[1.0]).ratio_to(&of(&[])), None);
        assert_eq!(of(&[1.0]).ratio_to(&of(&[0.0])), None);
    }
}
