//! Findings for people and for programs.

use std::fmt::Write as _;

use super::{Finding, Outcome};

/// A line for each finding, and a sum.
#[must_use]
pub fn table(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text += &line(finding);
    }
    let _ = writeln!(text, "{}", sum(findings));
    text
}

fn line(finding: &Finding) -> String {
    let outcome = match finding.outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "FAIL",
        Outcome::NotApplicable => "n/a ",
    };
    let mut line = format!(
        "{outcome}  {:<16} {:<6}  {}\n",
        finding.id,
        finding.level.as_str(),
        finding.title
    );
    if let Some(reason) = &finding.reason {
        let _ = writeln!(line, "{:<32}{reason}", "");
    }
    line
}

fn count(findings: &[Finding], outcome: Outcome) -> usize {
    findings.iter().filter(|finding| finding.outcome == outcome).count()
}

/// How many there are of each outcome.
#[must_use]
fn sum(findings: &[Finding]) -> String {
    format!(
        "{} checks: {} pass, {} fail, {} not applicable",
        findings.len(),
        count(findings, Outcome::Pass),
        count(findings, Outcome::Fail),
        count(findings, Outcome::NotApplicable)
    )
}

/// The findings as JUnit's XML, which build servers read. What is not applicable is skipped there.
#[must_use]
pub fn junit(target: &str, findings: &[Finding]) -> String {
    let seconds: f64 = findings.iter().map(|finding| finding.took.as_secs_f64()).sum();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        xml,
        "<testsuite name=\"shim6 conform {}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{seconds:.3}\">",
        escape(target),
        findings.len(),
        count(findings, Outcome::Fail),
        count(findings, Outcome::NotApplicable)
    );
    for finding in findings {
        let _ = write!(
            xml,
            "  <testcase classname=\"{}\" name=\"{} {}\" time=\"{:.3}\"",
            escape(&finding.place()),
            finding.id,
            escape(finding.title),
            finding.took.as_secs_f64()
        );
        let reason = escape(finding.reason.as_deref().unwrap_or_default());
        let _ = match finding.outcome {
            Outcome::Pass => writeln!(xml, "/>"),
            Outcome::Fail => writeln!(
                xml,
                ">\n    <failure type=\"{}\" message=\"{reason}\"/>\n  </testcase>",
                finding.level.as_str()
            ),
            Outcome::NotApplicable => writeln!(xml, ">\n    <skipped message=\"{reason}\"/>\n  </testcase>"),
        };
    }
    xml += "</testsuite>\n";
    xml
}

/// Text in an attribute. Control characters are not allowed there, however they are written.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The findings as tables of Markdown, one for each RFC.
#[must_use]
pub fn markdown(findings: &[Finding]) -> String {
    let mut text = format!("{}\n", sum(findings));
    let mut rfc = "";
    for finding in findings {
        let of = finding.id.split('-').next().unwrap_or_default();
        if of != rfc {
            rfc = of;
            let _ = write!(
                text,
                "\n## RFC {rfc}\n\n| check | level | what must hold | outcome |\n| --- | --- | --- | --- |\n"
            );
        }
        let outcome = match (&finding.reason, finding.outcome) {
            (_, Outcome::Pass) => "pass".to_owned(),
            (reason, outcome) => {
                let word = if outcome == Outcome::Fail {
                    "FAIL"
                } else {
                    "not applicable"
                };
                format!("{word}: {}", reason.as_deref().unwrap_or_default().replace('|', "/"))
            }
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {outcome} |",
            finding.id,
            finding.level.as_str(),
            finding.title
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conform::Level;
    use crate::conform::ms;

    fn finding(outcome: Outcome, reason: Option<&str>) -> Finding {
        Finding {
            id: "5533-7.9-02",
            level: Level::Must,
            title: "An I1 with Hdr Ext Len < 1 is \"dropped\".",
            outcome,
            reason: reason.map(str::to_owned),
            took: ms(1250),
            packets: Vec::new(),
        }
    }

    #[test]
    fn junit_says_what_failed_and_escapes_it() {
        let xml = junit(
            "2001:db8::1",
            &[
                finding(Outcome::Pass, None),
                finding(Outcome::Fail, Some("a & b\n<c>")),
                finding(Outcome::NotApplicable, Some("why")),
            ],
        );
        assert!(
            xml.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" time=\"3.750\""),
            "{xml}"
        );
        assert!(
            xml.contains(
                "classname=\"RFC 5533 7.9\" name=\"5533-7.9-02 An I1 with Hdr Ext Len &lt; 1 is &quot;dropped&quot;.\""
            ),
            "{xml}"
        );
        assert!(
            xml.contains("<failure type=\"MUST\" message=\"a &amp; b &lt;c&gt;\"/>"),
            "{xml}"
        );
        assert!(xml.contains("<skipped message=\"why\"/>"), "{xml}");
    }

    #[test]
    fn table_has_a_line_and_the_reason() {
        let text = table(&[finding(Outcome::Fail, Some("no R1"))]);
        assert!(text.starts_with("FAIL  5533-7.9-02      MUST    An I1"), "{text}");
        assert!(
            text.contains("no R1\n1 checks: 0 pass, 1 fail, 0 not applicable"),
            "{text}"
        );
    }

    #[test]
    fn markdown_has_a_part_for_each_rfc() {
        let text = markdown(&[finding(Outcome::NotApplicable, Some("a | b"))]);
        assert!(text.contains("## RFC 5533\n"), "{text}");
        assert!(text.contains("| not applicable: a / b |"), "{text}");
    }
}
