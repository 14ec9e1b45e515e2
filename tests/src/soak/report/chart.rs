//! Charts over time as inline SVG. Colours come from the page, so that it can be light or dark.

use std::fmt::Write as _;

use super::escape;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 26.0;
/// Points of a line at most: more than one for two pixels of most screens are not seen.
const MOST: usize = 480;

/// A line, or dots.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The class of the element, which gives its colour: `a`, `b`, `a soft`, …
    pub(super) class: &'static str,
    /// Its name in the legend.
    pub(super) name: &'static str,
    /// Seconds and values.
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug)]
pub(super) struct Chart<'a> {
    /// The heading inside.
    pub(super) title: &'a str,
    /// The unit of the values.
    pub(super) unit: &'a str,
    /// The width of the time axis, in seconds.
    pub(super) seconds: f64,
    /// The height of the whole, in pixels.
    pub(super) height: f64,
    /// The lines.
    pub(super) lines: Vec<Line>,
    /// Times that are shaded.
    pub(super) bands: &'a [(f64, f64)],
}

/// Maps seconds and values to places.
struct Scale {
    seconds: f64,
    most: f64,
    height: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (seconds / self.seconds).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        self.height - BOTTOM - (self.height - TOP - BOTTOM) * (value / self.most).clamp(0.0, 1.0)
    }
}

impl Chart<'_> {
    /// The picture.
    pub(super) fn svg(&self) -> String {
        let (mut out, scale) = self.begin();
        for line in &self.lines {
            let mut points = String::new();
            for (seconds, value) in thin(&line.points) {
                let _ = write!(points, "{:.0},{:.1} ", scale.x(seconds), scale.y(value));
            }
            let _ = writeln!(
                out,
                "<polyline class=\"line {}\" points=\"{}\"/>",
                line.class,
                points.trim_end()
            );
        }
        out.push_str("</svg>");
        out
    }

    /// The same with a dot on a stem for each point. `titles` say what the points of all lines are.
    pub(super) fn lollipops(&self, titles: &[String]) -> String {
        let (mut out, scale) = self.begin();
        let mut titles = titles.iter();
        for line in &self.lines {
            for &(seconds, value) in &line.points {
                let (x, y) = (scale.x(seconds), scale.y(value));
                let title = escape(titles.next().map_or("", String::as_str));
                let _ = writeln!(
                    out,
                    "<g class=\"{}\"><title>{title}</title><path class=\"stem\" d=\"M{x:.1} {:.1}V{y:.1}\"/>\
                     <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/></g>",
                    line.class,
                    scale.y(0.0)
                );
            }
        }
        out.push_str("</svg>");
        out
    }

    fn begin(&self) -> (String, Scale) {
        let values = self.lines.iter().flat_map(|line| &line.points).map(|point| point.1);
        let scale = Scale {
            seconds: self.seconds.max(1.0),
            most: ceiling(values.fold(0.0, f64::max)),
            height: self.height,
        };
        let label = escape(self.title);
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{label}\">\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"15\">{label}</text>\n",
            self.height
        );
        self.legend(&mut out);
        let (top, bottom) = (TOP, self.height - BOTTOM);
        for &(from, until) in self.bands {
            let (x, end) = (scale.x(from), scale.x(until));
            let _ = write!(
                out,
                "<path class=\"band\" d=\"M{x:.1} {top}H{:.1}V{bottom}H{x:.1}z\"/>",
                end.max(x + 1.0)
            );
        }
        self.axes(&mut out, &scale);
        (out, scale)
    }

    fn legend(&self, out: &mut String) {
        let mut x = WIDTH - RIGHT;
        for line in self.lines.iter().rev().filter(|line| !line.name.is_empty()) {
            let _ = writeln!(
                out,
                "<text x=\"{x:.0}\" y=\"15\" text-anchor=\"end\">{}</text>",
                escape(line.name)
            );
            x -= 7.2 * line.name.chars().count() as f64 + 8.0;
            let _ = writeln!(
                out,
                "<path class=\"line {}\" d=\"M{:.0} 11H{x:.0}\"/>",
                line.class,
                x - 22.0
            );
            x -= 38.0;
        }
    }

    fn axes(&self, out: &mut String, scale: &Scale) {
        for value in ticks(scale.most, 3.0) {
            let y = scale.y(value);
            let unit = if value > 0.0 { self.unit } else { "" };
            let _ = writeln!(
                out,
                "<path class=\"axis\" d=\"M{LEFT} {y:.1}H{}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{} {unit}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                short(value)
            );
        }
        let in_minutes = scale.seconds > 180.0;
        let (unit, seconds_each) = if in_minutes { ("min", 60.0) } else { ("s", 1.0) };
        for tick in ticks(scale.seconds / seconds_each, 12.0) {
            let x = scale.x(tick * seconds_each);
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} {unit}</text>",
                self.height - 8.0,
                short(tick)
            );
        }
    }
}

/// Bars with their numbers on top.
pub(super) fn bars(title: &str, bars: &[(String, usize)]) -> String {
    let height = 200.0;
    let most = bars.iter().map(|bar| bar.1).max().unwrap_or(0).max(1) as f64;
    let step = (WIDTH - LEFT - RIGHT) / bars.len().max(1) as f64;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\">\n<text class=\"title\" x=\"{LEFT}\" y=\"15\">{0}</text>\n",
        escape(title)
    );
    for (index, (name, count)) in bars.iter().enumerate() {
        let x = LEFT + step * index as f64;
        // The root, so that the few long ones are seen beside the many short ones.
        let tall = (height - TOP - BOTTOM - 18.0) * (*count as f64 / most).sqrt();
        let y = height - BOTTOM - tall;
        let middle = x + step / 2.0;
        let _ = writeln!(
            out,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" rx=\"2\"/>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{count}</text>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x + 4.0,
            step - 8.0,
            y - 6.0,
            height - 8.0,
            escape(name)
        );
    }
    out.push_str("</svg>");
    out
}

/// The means of neighbours, so that there are not more than [`MOST`].
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(MOST).max(1);
    let mean = |part: &[(f64, f64)]| {
        let count = part.len() as f64;
        let sum = part
            .iter()
            .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(size).map(mean).collect()
}

/// A round number that is not less.
fn ceiling(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0].map(|factor| factor * power);
    steps.into_iter().find(|step| *step >= value).unwrap_or(power * 10.0)
}

/// Round numbers from 0 to `most`, about `wanted` of them.
fn ticks(most: f64, wanted: f64) -> Vec<f64> {
    let rough = most / wanted;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = steps
        .into_iter()
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(power * 10.0);
    let count = (most / step + 1e-9).floor() as u32;
    (0..=count).map(|index| f64::from(index) * step).collect()
}

/// A number without needless decimals.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_thinned_to_their_means() {
        let points: Vec<_> = (0..4800).map(|x| (f64::from(x), f64::from(x % 10))).collect();
        let thinned = thin(&points);
        assert_eq!(thinned.len(), MOST);
        assert!(thinned.iter().all(|point| (point.1 - 4.5).abs() < 1e-9));
    }

    #[test]
    fn axes_end_with_round_numbers() {
        assert_eq!([0.0, 7.3, 12.0, 100.0, 1.01].map(ceiling), [1.0, 8.0, 15.0, 100.0, 1.5]);
        assert_eq!(ticks(30.0, 3.0), [0.0, 10.0, 20.0, 30.0]);
        assert_eq!([30.0, 0.5, 0.0].map(short), ["30", "0.5", "0"]);
    }

    #[test]
    fn everything_stays_inside() {
        let chart = Chart {
            title: "t",
            unit: "",
            seconds: 10.0,
            height: 100.0,
            lines: vec![Line {
                class: "a",
                name: "",
                points: vec![(0.0, 0.0), (20.0, 5.0)],
            }],
            bands: &[(9.0, 90.0)],
        };
        let svg = chart.svg();
        assert!(svg.contains("points=\"76,74.0 946,26.0\""), "{svg}");
        assert!(svg.contains("H946.0V74"), "{svg}");
    }
}
