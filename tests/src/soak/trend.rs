//! Whether a series grows, whatever it does now and then.

/// Places and values.
pub(super) type Series = Vec<(f64, f64)>;

/// The most points that are compared with each other.
const MOST: usize = 1500;

/// The median of the slopes between all pairs of points of the same group (Theil and Sen): up to three in ten of the points may be
/// anywhere without moving it much. Nothing if no two points have different places.
pub(super) fn slope(groups: &[Series]) -> Option<f64> {
    let points: usize = groups.iter().map(Vec::len).sum();
    let step = points.div_ceil(MOST).max(1);
    let mut slopes = Vec::new();
    for group in groups {
        let thinned: Vec<_> = group.iter().step_by(step).collect();
        for (index, (x, y)) in thinned.iter().enumerate() {
            let later = thinned[index + 1..].iter().filter(|(other, _)| other > x);
            slopes.extend(later.map(|(other, value)| (value - y) / (other - x)));
        }
    }
    median(&mut slopes)
}

/// The one in the middle.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    values.get(middle)?;
    let (_, median, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    Some(*median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slope_of_a_line_is_found_under_outliers() {
        let mut line: Series = (0..200).map(|x| (f64::from(x), 5.0 + 0.25 * f64::from(x))).collect();
        for point in line.iter_mut().step_by(5) {
            point.1 = 1e6;
        }
        let found = slope(&[line]).expect("points");
        assert!((found - 0.25).abs() < 0.01, "{found}");
    }

    #[test]
    fn groups_are_not_compared_with_each_other() {
        let flat = |from: u32, level: f64| (from..from + 50).map(|x| (f64::from(x), level)).collect::<Series>();
        assert_eq!(slope(&[flat(0, 1.0), flat(50, 9.0)]), Some(0.0));
        assert!(slope(&[[flat(0, 1.0), flat(50, 9.0)].concat()]) > Some(0.05));
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&[vec![(1.0, 1.0)], vec![(2.0, 1.0)]]), None);
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn long_series_are_thinned() {
        let long = (0..100_000).map(|x| (f64::from(x), 3.0 * f64::from(x))).collect();
        assert_eq!(slope(&[long]), Some(3.0));
    }
}
