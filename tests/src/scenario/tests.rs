//! The registry, and the document about it.

use super::ground::USUAL;
use super::*;

/// The rows of the table in `docs/scenarios.md`.
fn table() -> String {
    let row = |scenario: &Scenario| {
        let Scenario {
            name,
            summary,
            must_hold,
            demanded_by,
            ..
        } = scenario;
        let said = |statement: &&str| {
            let usual = USUAL.iter().find(|(usual, _)| usual == statement);
            usual.map_or_else(|| (*statement).to_owned(), |(_, word)| format!("*{word}*"))
        };
        let must_hold: Vec<_> = must_hold.iter().map(said).collect();
        format!("| `{name}` | {summary} | {} | {demanded_by} |\n", must_hold.join("; "))
    };
    all().iter().map(row).collect()
}

fn settings() -> Settings {
    Settings {
        shim6: PathBuf::from("shim6"),
        seed: 7,
        length: Length::Short,
        fault: None,
    }
}

#[test]
fn document_has_the_table_of_all_scenarios() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scenarios.md");
    let text = std::fs::read_to_string(path).expect("docs/scenarios.md is there");
    let table = table();
    assert!(text.contains(&table), "docs/scenarios.md needs these rows:\n{table}");
    for (statement, word) in USUAL {
        let line = format!("- *{word}*: {statement}\n");
        assert!(text.contains(&line), "docs/scenarios.md needs this line:\n{line}");
    }
    let rows = text.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, all().len(), "docs/scenarios.md has other rows");
}

#[test]
fn names_are_found_and_used_once() {
    for scenario in all() {
        let found: Vec<_> = all().iter().filter(|other| other.name == scenario.name).collect();
        assert_eq!(found.len(), 1, "{}", scenario.name);
        assert_eq!(find(scenario.name).map(|found| found.summary), Some(scenario.summary));
        assert!(!scenario.must_hold.is_empty(), "{}", scenario.name);
    }
    assert!(find("no-such-scenario").is_none());
}

/// The rows of the second table: what each scenario was seen to fail with, of its own accord.
fn faults_table() -> String {
    let row = |fault: &Fault| {
        let usual = USUAL.iter().find(|(usual, _)| *usual == fault.breaks);
        let breaks = usual.map_or_else(|| fault.breaks.to_owned(), |(_, word)| format!("*{word}*"));
        format!("| {} | {} | {breaks} |\n", fault.scenario, fault.wrong)
    };
    faults().iter().map(row).collect()
}

#[test]
fn document_has_the_table_of_what_is_done_wrong() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scenarios.md");
    let text = std::fs::read_to_string(path).expect("docs/scenarios.md is there");
    let table = faults_table();
    assert!(text.contains(&table), "docs/scenarios.md needs these rows:\n{table}");
    let fails = all().iter().map(|scenario| format!("\n| {} | ", scenario.name));
    let missing: Vec<_> = fails.filter(|row| !text.contains(row)).collect();
    assert!(
        missing.is_empty(),
        "nothing is said of what these fail with: {missing:?}"
    );
}

#[test]
fn what_is_done_wrong_breaks_a_statement_of_its_scenario() {
    for fault in faults() {
        let scenario = find(fault.scenario).unwrap_or_else(|| panic!("there is no scenario {}", fault.scenario));
        assert!(scenario.must_hold.contains(&fault.breaks), "{fault:?}");
    }
}

#[test]
fn findings_hold_only_if_every_statement_was_looked_at_and_held() {
    const SCENARIO: Scenario = Scenario {
        name: "none",
        summary: "Nothing is done.",
        must_hold: &["one", "other"],
        demanded_by: "nobody",
        play: |_, _| Box::pin(async { Ok(()) }),
    };
    let mut findings = Findings::new(&SCENARIO, &settings());
    findings.check("one", true, String::new);
    assert!(!findings.held());
    assert!(findings.to_string().contains("other: never looked at"));
    findings.check("other", true, String::new);
    assert!(findings.held());
    // A statement that was broken once is not mended.
    findings.check("one", false, || "first".to_owned());
    findings.check("one", false, || "second".to_owned());
    findings.check("one", true, String::new);
    assert!(!findings.held());
    assert_eq!(findings.checks[0].verdict, Verdict::Broken("first".to_owned()));
    assert_eq!(findings.checks[0].times, 4);
    let text = findings.to_string();
    assert!(text.contains("BROKEN  one: first"), "{text}");
}

#[test]
fn figures_of_many_rounds_are_one_figure() {
    let mut findings = Findings::new(&all()[0], &settings());
    for time in [10, 30, 20] {
        findings.measure_time("stall", std::time::Duration::from_millis(time));
    }
    findings.measure("moves", 1.0, "");
    let text: Vec<_> = findings.figures.iter().map(Figure::to_string).collect();
    assert_eq!(text, ["stall: 20 (10 to 30) ms", "moves: 1"]);
}

#[test]
#[should_panic(expected = "is no statement of")]
fn statement_that_is_not_declared_is_a_fault_of_the_scenario() {
    Findings::new(&all()[0], &settings()).check("something else", true, String::new);
}
