//! Throughput over time as inline SVG.

use std::fmt::Write as _;
use std::time::Duration;

use super::escape;
use crate::demo::summary::Outcome;
use crate::demo::traffic::Series;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 44.0;
/// Width of the bins that the curves are made of.
const BIN: Duration = Duration::from_millis(100);

/// Maps seconds and octets per second to places in the picture.
struct Scale {
    seconds: f64,
    peak: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.seconds
    }

    fn y(&self, rate: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (rate / self.peak).min(1.0)
    }
}

/// The picture; `title` is its text alternative.
pub(super) fn svg(outcome: &Outcome, title: &str) -> String {
    // Half as much again as the pace leaves room for a burst, higher ones are cut off at the top.
    let scale = Scale {
        seconds: outcome.ended.as_secs_f64().max(1.0),
        peak: (outcome.rate as f64 * 1.5).max(1.0),
    };
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\"><title>{0}</title>\n",
        escape(title)
    );
    axes(&mut out, &scale);
    curve(&mut out, &scale, "without", &outcome.without.series, outcome.ended);
    let end = outcome.with.series.ended().unwrap_or(outcome.ended);
    curve(&mut out, &scale, "with", &outcome.with.series, end);
    markers(&mut out, &scale, outcome);
    legend(&mut out);
    out.push_str("</svg>");
    out
}

fn axes(out: &mut String, scale: &Scale) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for rate in ticks(scale.peak, 5.0) {
        let y = scale.y(rate);
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            short(rate / 1e6)
        );
    }
    for seconds in ticks(scale.seconds, 10.0) {
        let x = scale.x(seconds);
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 5.0,
            bottom + 20.0,
            short(seconds)
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{:.1}\">MB/s</text>\
         <text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">seconds</text>",
        TOP - 10.0,
        HEIGHT - 6.0
    );
}

fn curve(out: &mut String, scale: &Scale, class: &str, series: &Series, until: Duration) {
    let width = BIN.as_secs_f64();
    let mut points = String::new();
    for (index, rate) in series.throughput(BIN, until).into_iter().enumerate() {
        let middle = ((index as f64 + 0.5) * width).min(scale.seconds);
        let _ = write!(points, "{:.1},{:.1} ", scale.x(middle), scale.y(rate));
    }
    let _ = writeln!(out, "<polyline class=\"{class}\" points=\"{}\"/>", points.trim_end());
}

fn markers(out: &mut String, scale: &Scale, outcome: &Outcome) {
    let bottom = HEIGHT - BOTTOM;
    for note in outcome.notes.iter().filter(|note| note.host.is_some()) {
        let x = scale.x(note.at.as_secs_f64().min(scale.seconds));
        let _ = writeln!(
            out,
            "<line class=\"event\" x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{bottom}\">\
             <title>{}</title></line>",
            bottom - 9.0,
            escape(&note.text)
        );
    }
    let seconds = outcome.cut.as_secs_f64();
    let x = scale.x(seconds.min(scale.seconds));
    let _ = writeln!(
        out,
        "<line class=\"cut\" x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
         <text class=\"cut-label\" x=\"{:.1}\" y=\"{:.1}\">{} at {seconds:.1} s</text>",
        TOP - 14.0,
        x + 6.0,
        TOP - 6.0,
        outcome.failure
    );
}

fn legend(out: &mut String) {
    for (class, x, text) in [("with", 130.0, "with Shim6"), ("without", 290.0, "without Shim6")] {
        let _ = writeln!(
            out,
            "<line class=\"{class}\" x1=\"{x}\" y1=\"20\" x2=\"{}\" y2=\"20\"/>\
             <text class=\"{class}-label\" x=\"{}\" y=\"24\">{text}</text>",
            x + 34.0,
            x + 42.0
        );
    }
    let _ = writeln!(
        out,
        "<line class=\"event\" x1=\"465\" y1=\"15\" x2=\"465\" y2=\"24\"/>\
         <text x=\"473\" y=\"24\">daemon event</text>"
    );
}

/// Round numbers from 0 to `most`, about `wanted` of them.
fn ticks(most: f64, wanted: f64) -> Vec<f64> {
    let rough = most / wanted;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(power * 10.0);
    let count = (most / step + 1e-9).floor() as u32;
    (0..=count).map(|index| f64::from(index) * step).collect()
}

/// A number without needless decimals.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_end() {
        assert_eq!(ticks(10.0, 5.0), [0., 2., 4., 6., 8., 10.]);
        assert_eq!(ticks(45e6, 5.0), [0., 10e6, 20e6, 30e6, 40e6]);
        assert_eq!(ticks(1.0, 10.0).len(), 11);
        assert!(ticks(12.7, 10.0).len() <= 12);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(short(30.0), "30");
        assert_eq!(short(0.5), "0.5");
        assert_eq!(short(0.0), "0");
    }
}
