//! What came of a run: some lines for a terminal, and a page that needs nothing else.

mod chart;
mod figures;

use std::fmt::Write as _;

use self::chart::{Chart, Line, bars};
use self::figures::{by_class, by_kind, histogram, longest};
use super::judge::{Finding, Verdict};
use super::run::Outcome;
use super::sample::{HostSample, Sample};
use super::session::Class;

const STYLE: &str = include_str!("style.css");

/// Marks of findings.
fn mark(finding: Finding) -> &'static str {
    match finding {
        Finding::Passed => "passed",
        Finding::Failed => "FAILED",
        Finding::NotJudged => "not judged",
    }
}

/// The lines for a terminal.
#[must_use]
pub fn table(outcome: &Outcome) -> String {
    let mut text = String::from("class      sessions  lost       octets  delivered  stalls  longest  available\n");
    for class in by_class(outcome) {
        let _ = writeln!(
            text,
            "{:<10} {:>8} {:>5} {:>9.1} MB {:>8.2} % {:>7} {:>6.1} s {:>8.3} %",
            class.class.as_str(),
            class.sessions,
            class.lost,
            class.octets as f64 / 1e6,
            class.delivered * 100.0,
            class.stalls,
            class.longest,
            class.available * 100.0
        );
    }
    text.push_str("\nfault               times  median stall  longest\n");
    for kind in by_kind(outcome) {
        let _ = writeln!(
            text,
            "{:<18} {:>6} {:>11.1} s {:>6.1} s",
            kind.kind, kind.times, kind.median, kind.longest
        );
    }
    text.push('\n');
    for Verdict {
        what,
        finding,
        found,
        bound,
    } in &outcome.verdicts
    {
        let _ = writeln!(text, "{:<10}  {what}: {found} (demanded: {bound})", mark(*finding));
    }
    for (name, why) in outcome.lost() {
        let _ = writeln!(text, "lost: {name}: {why}");
    }
    text.push_str(match outcome.is_passed() {
        true => "passed\n",
        false => "FAILED\n",
    });
    text
}

/// The page.
#[must_use]
pub fn html(outcome: &Outcome) -> String {
    let (class, word) = match outcome.is_passed() {
        true => ("passed", "passed"),
        false => ("failed", "failed"),
    };
    let minutes = outcome.seconds / 60.0;
    let title = format!("Soak of {minutes:.0} minutes: {word}");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1><span class=\"badge {class}\">{word}</span> Shim6 soak of {minutes:.1} minutes</h1>\n\
         <p class=\"lead\">Two hosts with two uplinks each, the daemon on both, {count} sessions between all their addresses, and \
         one random failure after another. At least one pair of addresses worked at any time, so a session that is lost is the \
         daemons' fault.</p>\n{tiles}\n\
         <h2>Verdicts</h2>\n{verdicts}\n{lost}\
         <h2>Sessions</h2>\n{sessions}\n\
         <p class=\"note\">Octets that arrive, by class. A failure is in force where it is shaded.</p>\n{throughput}\n\
         <h2>Stalls</h2>\n<p class=\"note\">A stall is a time of {stall} ms or more in which nothing arrives at a session; its sender tries \
         all the time. Each dot is a failure and the longest stall of all sessions until the next one.</p>\n{stalls}\n\
         <h2>What the daemons and hosts held</h2>\n{resources}\n\
         <h2>Failures</h2>\n{kinds}\n{faults}\n\
         <h2>The run</h2>\n{facts}\n</body>\n</html>\n",
        count = outcome.sessions.len(),
        tiles = tiles(outcome),
        verdicts = verdicts(&outcome.verdicts),
        lost = lost(outcome),
        sessions = sessions(outcome),
        throughput = throughput(outcome),
        stall = super::session::STALL.as_millis(),
        stalls = stalls(outcome),
        resources = resources(outcome),
        kinds = kinds(outcome),
        faults = faults(outcome),
        facts = facts(outcome),
    )
}

fn tiles(outcome: &Outcome) -> String {
    let lost = outcome.lost().count();
    let left = outcome.remains.leftovers.len();
    let octets: u64 = outcome.sessions.iter().map(|session| session.octets).sum();
    let failovers = outcome.faults.iter().filter(|fault| fault.stalled > 0).count();
    let tile = |bad: bool, number: String, text: &str| {
        let class = if bad { "tile bad" } else { "tile" };
        format!(
            "<div class=\"{class}\"><b>{}</b>{}</div>",
            escape(&number),
            escape(text)
        )
    };
    let tiles = [
        tile(
            lost > 0,
            format!("{lost} of {}", outcome.sessions.len()),
            "sessions lost",
        ),
        tile(left > 0, left.to_string(), "things left behind"),
        tile(false, outcome.faults.len().to_string(), "failures inflicted"),
        tile(false, failovers.to_string(), "of them felt by a session"),
        tile(false, format!("{:.1} s", longest(outcome)), "longest stall"),
        tile(
            false,
            match octets >= 1_000_000_000 {
                true => format!("{:.2} GB", octets as f64 / 1e9),
                false => format!("{:.0} MB", octets as f64 / 1e6),
            },
            "arrived and were right",
        ),
    ];
    format!("<div class=\"tiles\">{}</div>", tiles.concat())
}

fn verdicts(verdicts: &[Verdict]) -> String {
    let row = |verdict: &Verdict| {
        let (class, sign) = match verdict.finding {
            Finding::Passed => ("ok", "✓"),
            Finding::Failed => ("bad", "✗"),
            Finding::NotJudged => ("soft", "–"),
        };
        [
            format!(
                "<span class=\"{class}\" title=\"{}\">{sign}</span> {}",
                mark(verdict.finding),
                escape(&verdict.what)
            ),
            escape(&verdict.found),
            format!("<span class=\"soft\">{}</span>", escape(&verdict.bound)),
        ]
    };
    grid(["", "found", "demanded"], verdicts.iter().map(row))
}

fn lost(outcome: &Outcome) -> String {
    let rows: Vec<_> = outcome.lost().map(|(name, why)| [escape(name), escape(why)]).collect();
    match rows.is_empty() {
        true => String::new(),
        false => format!(
            "<h2>Lost sessions</h2>\n{}\n",
            grid(["session", "why"], rows.into_iter())
        ),
    }
}

fn sessions(outcome: &Outcome) -> String {
    let classes = by_class(outcome);
    let rows = classes.iter().map(|class| {
        [
            format!(
                "<b>{}</b> <span class=\"soft\">{}</span>",
                class.class.as_str(),
                class.class.explained()
            ),
            class.sessions.to_string(),
            class.lost.to_string(),
            format!("{:.0} MB", class.octets as f64 / 1e6),
            format!("{:.2} %", class.delivered * 100.0),
            class.stalls.to_string(),
            format!("{:.1} s", class.longest),
            format!("{:.3} %", class.available * 100.0),
        ]
    });
    let head = [
        "class",
        "sessions",
        "lost",
        "arrived",
        "delivered",
        "stalls",
        "longest",
        "time without stall",
    ];
    grid(head, rows)
}

/// Each second with the one before.
fn rates(samples: &[Sample], value: impl Fn(&Sample) -> Option<f64>) -> Vec<(f64, f64)> {
    let pair = |pair: &[Sample]| {
        let [before, after] = pair else { return None };
        let time = after.at_s - before.at_s;
        let more = value(after)? - value(before)?;
        // A daemon that was started again counts from 0. After a late look the next one may be soon.
        (time > 0.5 && more >= 0.0).then(|| (after.at_s, more / time))
    };
    samples.windows(2).filter_map(pair).collect()
}

fn values(samples: &[Sample], value: impl Fn(&Sample) -> Option<f64>) -> Vec<(f64, f64)> {
    samples
        .iter()
        .filter_map(|sample| Some((sample.at_s, value(sample)?)))
        .collect()
}

fn throughput(outcome: &Outcome) -> String {
    let bands: Vec<_> = outcome
        .faults
        .iter()
        .map(|fault| (fault.from_s, fault.until_s))
        .collect();
    let charts = Class::ALL.iter().zip(["c0", "c1", "c2", "c3"]).map(|(class, colour)| {
        let line = Line {
            class: colour,
            name: "",
            points: rates(&outcome.samples, |sample| {
                Some(sample.octets[class.index()] as f64 / 1e3)
            }),
        };
        Chart {
            title: class.as_str(),
            unit: "kB/s",
            seconds: outcome.seconds,
            height: 130.0,
            lines: vec![line],
            bands: &bands,
        }
        .svg()
    });
    charts.collect::<Vec<_>>().join("\n")
}

fn stalls(outcome: &Outcome) -> String {
    let points = outcome.faults.iter().map(|fault| (fault.from_s, fault.longest_stall_s));
    let titles: Vec<_> = outcome
        .faults
        .iter()
        .map(|fault| format!("{} ({}): {:.1} s", fault.kind, fault.what, fault.longest_stall_s))
        .collect();
    let chart = Chart {
        title: "longest stall after each failure",
        unit: "s",
        seconds: outcome.seconds,
        height: 220.0,
        lines: vec![Line {
            class: "dot",
            name: "",
            points: points.collect(),
        }],
        bands: &[],
    };
    let counts = bars(
        "how many stalls had which length (heights are roots)",
        &histogram(outcome),
    );
    format!("{}\n{counts}", chart.lollipops(&titles))
}

fn resources(outcome: &Outcome) -> String {
    let samples = &outcome.samples;
    let both = |names: [&'static str; 2], classes: [&'static str; 2], value: fn(&HostSample) -> Option<f64>| {
        [0, 1].map(|side| Line {
            class: classes[side],
            name: names[side],
            points: values(samples, |sample| value(&sample.hosts[side])),
        })
    };
    let strong = ["a", "b"];
    let soft = ["a soft", "b soft"];
    let none = ["", ""];
    let memory = [
        both(["a resident", "b resident"], soft, |host| {
            Some(host.process?.resident_kb as f64 / 1024.0)
        }),
        both(["a anonymous", "b anonymous"], strong, |host| {
            Some(host.process?.anonymous_kb as f64 / 1024.0)
        }),
    ];
    let descriptors = [
        both(["a threads", "b threads"], soft, |host| {
            Some(host.process?.threads as f64)
        }),
        both(["a descriptors", "b descriptors"], strong, |host| {
            Some(host.process?.descriptors as f64)
        }),
    ];
    let kernel = [
        both(["a steering", "b steering"], soft, |host| {
            Some(host.kernel?.steering_routes as f64)
        }),
        both(["a all", "b all"], strong, |host| {
            let kernel = host.kernel?;
            Some((kernel.routes + kernel.steering_routes + kernel.rules + kernel.addresses) as f64)
        }),
    ];
    let contexts = [
        both(["a moved", "b moved"], soft, |host| Some(host.status?.steered as f64)),
        both(["a contexts", "b contexts"], strong, |host| {
            Some(host.status?.contexts as f64)
        }),
    ];
    let cpu = [0, 1].map(|side| Line {
        class: strong[side],
        name: ["a", "b"][side],
        points: rates(samples, |sample| Some(sample.hosts[side].process?.cpu_s * 100.0)),
    });
    let load = Line {
        class: "c2",
        name: none[0],
        points: values(samples, |sample| Some(sample.load)),
    };
    let chart = |title, unit, lines: Vec<Line>| {
        Chart {
            title,
            unit,
            seconds: outcome.seconds,
            height: 170.0,
            lines,
            bands: &[],
        }
        .svg()
    };
    [
        chart("memory of the daemons", "MB", memory.concat()),
        chart("file descriptors and threads", "", descriptors.concat()),
        chart("routes, rules and addresses", "", kernel.concat()),
        chart("contexts, and those on another path", "", contexts.concat()),
        chart("processor time of the daemons", "%", cpu.to_vec()),
        chart("load average of the whole machine", "", vec![load]),
    ]
    .join("\n")
}

fn kinds(outcome: &Outcome) -> String {
    let kinds = by_kind(outcome);
    let rows = kinds.iter().map(|figures| {
        [
            format!(
                "<b>{}</b> <span class=\"soft\">{}</span>",
                figures.kind,
                escape(figures.kind.explained())
            ),
            figures.times.to_string(),
            format!("{:.1} s", figures.median),
            format!("{:.1} s", figures.longest),
        ]
    });
    grid(["kind", "times", "median of the longest stalls", "longest"], rows)
}

fn faults(outcome: &Outcome) -> String {
    let rows = outcome.faults.iter().map(|fault| {
        [
            format!("{:.1}", fault.from_s),
            format!("{:.1}", fault.until_s - fault.from_s),
            fault.kind.to_string(),
            escape(&fault.what),
            format!("{:.1}", fault.longest_stall_s),
            fault.stalled.to_string(),
        ]
    });
    let head = [
        "at, s",
        "for, s",
        "kind",
        "where",
        "longest stall, s",
        "sessions stalled",
    ];
    format!(
        "<details><summary>All {} failures</summary>\n{}\n</details>",
        outcome.faults.len(),
        grid(head, rows)
    )
}

fn facts(outcome: &Outcome) -> String {
    let rows = [
        [
            "command".to_owned(),
            format!("<code>{}</code>", escape(&outcome.command)),
        ],
        ["seed".to_owned(), outcome.seed.to_string()],
        ["shim6".to_owned(), escape(&outcome.version)],
        ["packets watched by".to_owned(), escape(&outcome.observation)],
        ["kernel".to_owned(), escape(&outcome.kernel)],
        ["processors".to_owned(), outcome.cores.to_string()],
        [
            "round-trip time when nothing is wrong".to_owned(),
            format!("{} ms, emulated", 4 * super::inflict::DELAY.as_millis()),
        ],
    ];
    grid(["", ""], rows.into_iter())
}

fn grid<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut text = String::from("<table>\n<tr>");
    head.iter().for_each(|cell| text.extend(["<th>", cell, "</th>"]));
    text.push_str("</tr>\n");
    for row in rows {
        text.push_str("<tr>");
        row.iter().for_each(|cell| text.extend(["<td>", cell, "</td>"]));
        text.push_str("</tr>\n");
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
    use crate::soak::judge::tests::made_up;

    #[test]
    fn page_needs_nothing_from_elsewhere_and_says_what_is_to_be_said() {
        let page = html(&made_up());
        for forbidden in [
            "http:", "https:", "src=", "href=", "@import", "url(", "NaN", ">inf", ",inf",
        ] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        for wanted in [
            "<!doctype html>",
            "class=\"badge passed\"",
            "<code>netbench soak --minutes 10 &lt;&amp;&gt;</code>",
            "prefers-color-scheme: dark",
            "memory of the daemons",
            "<b>blackhole</b>",
            "class=\"band\"",
        ] {
            assert!(page.contains(wanted), "{wanted}");
        }
        assert_eq!(page.matches("<svg ").count(), page.matches("</svg>").count());
    }

    #[test]
    fn page_and_table_of_a_run_that_failed_say_so_at_the_top() {
        let mut outcome = made_up();
        outcome.sessions[0].lost = Some("wrong octets".to_owned());
        outcome.verdicts = super::super::judge::judge(&outcome);
        let page = html(&outcome);
        assert!(page.contains("class=\"badge failed\"") && page.contains("<h2>Lost sessions</h2>"));
        let table = table(&outcome);
        assert!(
            table.contains("lost: bulk 0: a0 -> b0: wrong octets") && table.ends_with("FAILED\n"),
            "{table}"
        );
    }

    #[test]
    fn page_of_hours_stays_small() {
        let mut outcome = made_up();
        let fault = outcome.faults[0].clone();
        outcome.faults = vec![fault; 300];
        outcome.samples = outcome.samples.iter().cycle().take(3600).cloned().collect();
        let length = html(&outcome).len();
        assert!(length < 400_000, "{length}");
    }
}
