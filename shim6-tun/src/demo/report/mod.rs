//! The run as one self-contained HTML page.

mod plot;

use std::fmt::Write as _;

use super::live::Note;
use super::stage::Locators;
use super::summary::{Outcome, failure_in_words};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2230; --soft: #5b6475; --line: #d9dee7; --page: #fff;
  --with: #1f6feb; --without: #c2560c; --cut: #c4232b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #9aa4b5; --line: #343b48;
  --page: #14171d; --with: #6ea8ff; --without: #ff9a4d; --cut: #ff6b70; } }
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin-bottom: .25rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.verdict { font-weight: 600; } p.meaning { white-space: pre-line; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font: 13px system-ui, sans-serif; }
.axis { stroke: var(--line); } .cut { stroke: var(--cut); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg text.cut-label { fill: var(--cut); } .event { stroke: var(--ink); stroke-width: 1.5; }
.with, .without { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
.with { stroke: var(--with); } .without { stroke: var(--without); stroke-dasharray: 7 3; }
svg text.with-label { fill: var(--with); } svg text.without-label { fill: var(--without); }
table { border-collapse: collapse; width: 100%; } th { text-align: left; color: var(--soft);
  font-weight: 600; } td, th { border-bottom: 1px solid var(--line); padding: .35rem .75rem .35rem 0;
  vertical-align: top; } td.time, td.who { white-space: nowrap; font-variant-numeric: tabular-nums; }
code { font: 14px ui-monospace, monospace; }
";

/// The page.
pub fn html(outcome: &Outcome) -> String {
    let verdict = match (outcome.is_success(), outcome.without.download.completed) {
        (true, false) => "The download with Shim6 completed, the one without did not.",
        (true, true) => "Both downloads completed.",
        (false, _) => "The download with Shim6 did not complete.",
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Shim6 demo: {failure}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Shim6 demo: {failure}</h1>\n<p class=\"verdict\">{verdict}</p>\n\
         <p class=\"meaning\">{meaning}</p>\n\
         <h2>Throughput at the receiver</h2>\n{plot}\n\
         <h2>Summary</h2>\n{table}\n\
         <h2>Addresses in the packets of the download with Shim6</h2>\n{locators}\n\
         <h2>What happened</h2>\n{events}\n</body>\n</html>\n",
        failure = outcome.failure,
        meaning = escape(&outcome.meaning()),
        plot = plot::svg(
            outcome,
            &format!(
                "Throughput over time of both downloads; at {:.1} s {}.",
                outcome.cut.as_secs_f64(),
                failure_in_words(outcome.failure)
            )
        ),
        table = table(outcome),
        locators = locators(outcome),
        events = events(&outcome.notes),
    )
}

fn table(outcome: &Outcome) -> String {
    let mut text = String::from("<table>\n<tr><th></th><th>with Shim6</th><th>without Shim6</th></tr>\n");
    for [name, with, without] in outcome.rows() {
        let _ = writeln!(
            text,
            "<tr><th>{}</th><td>{}</td><td>{}</td></tr>",
            escape(&name),
            escape(&with),
            escape(&without)
        );
    }
    text.push_str("</table>");
    text
}

fn locators(outcome: &Outcome) -> String {
    let row = |when: &str, [a, b]: Locators| {
        format!("<tr><th>{when}</th><td><code>{a}</code></td><td><code>{b}</code></td></tr>\n")
    };
    format!(
        "<table>\n<tr><th></th><th>host a</th><th>host b</th></tr>\n{}{}</table>",
        row("before the cut", outcome.locators_before),
        row("at the end", outcome.locators_after)
    )
}

fn events(notes: &[Note]) -> String {
    let mut text = String::from("<table>\n<tr><th>time</th><th>who</th><th>what</th></tr>\n");
    for note in notes {
        let who = match &note.host {
            Some(host) => format!("host {}", escape(host)),
            None => "demo".to_owned(),
        };
        let _ = writeln!(
            text,
            "<tr><td class=\"time\">{:.3} s</td><td class=\"who\">{who}</td><td>{}</td></tr>",
            note.at.as_secs_f64(),
            escape(&note.text)
        );
    }
    text.push_str("</table>");
    text
}

/// Text as HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::summary::tests::made_up;

    #[test]
    fn page_needs_nothing_from_elsewhere() {
        let page = html(&made_up());
        for forbidden in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.starts_with("<!doctype html>"));
    }

    #[test]
    fn page_shows_the_plot_the_numbers_and_the_events() {
        let page = html(&made_up());
        for wanted in [
            "<svg ",
            "class=\"with\"",
            "class=\"without\"",
            "class=\"cut\"",
            "<td>0.41 s</td>",
            "<td class=\"time\">1.880 s</td><td class=\"who\">host b</td>",
            "2001:db8:a2::a",
            "&lt;blackhole&gt; &amp; &quot;co&quot;",
        ] {
            assert!(page.contains(wanted), "{wanted}");
        }
    }
}
