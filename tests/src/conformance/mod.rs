//! Holds `docs/conformance.md` against the sources: what its tables name is there, and no section of the RFCs that asks
//! something of a host is left out.
//!
//! The document has a part for each RFC, under a title of its own. A row of a part has five cells: section, requirement, level, where it is implemented, which test shows it. In the last two, what
//! stands between backticks is a reference: a path, and behind it the names of items, or tests, in that file. Such a cell
//! without references starts with `none: ` and a reason.

mod reference;
mod sections;
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use reference::{Source, references};
use sections::{RFCS, Rfc};

/// The title of a part, up to the number of its RFC.
const TITLE: &str = "# Conformance to RFC ";
/// The head of each table in the document.
const HEAD: &str = "| § | requirement | level | where | test |";
const RULE: &str = "| --- | --- | --- | --- | --- |";
const CELLS: [&str; 5] = ["section", "requirement", "level", "where", "test"];
/// The key words of RFC 2119, in large letters or small, and `does` for what the text has a host do without one.
const LEVELS: [&str; 8] = [
    "MUST",
    "MUST NOT",
    "SHOULD",
    "SHOULD NOT",
    "RECOMMENDED",
    "OPTIONAL",
    "MAY",
    "does",
];
/// How a cell starts that has no reference, and what is to be its reason.
const NONE: &str = "none: ";
/// What a row says that is not as the RFC has it, and the heading under which all of them are listed.
const DIFFERS: &str = "Differs";
const DIFFERENCES: &str = "Where we differ";
/// Where a path starts that does not start at the root.
const CORE: &str = "shim6-core/src/";

/// Gives the text of a file.
type Read<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The files that the table names, each read once.
struct Sources<'a> {
    read: Box<Read<'a>>,
    known: HashMap<String, Option<Source>>,
}

impl<'a> Sources<'a> {
    fn new(read: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self {
            read: Box::new(read),
            known: HashMap::new(),
        }
    }

    /// Those of this workspace.
    fn of(root: &'a Path) -> Self {
        Self::new(move |path| std::fs::read_to_string(root.join(path)).ok())
    }

    fn get(&mut self, path: &str) -> Option<&Source> {
        if !self.known.contains_key(path) {
            let text = (self.read)(path).or_else(|| (self.read)(&format!("{CORE}{path}")));
            self.known.insert(path.to_owned(), text.map(Source::new));
        }
        self.known.get(path)?.as_ref()
    }
}

/// Everything that is wrong with the tables in this text, each with its line.
fn problems(text: &str, sources: &mut Sources<'_>) -> Vec<String> {
    let parts = parts(text);
    let mut problems = Vec::new();
    for rfc in &RFCS {
        match parts.iter().find(|part| part.rfc.number == rfc.number) {
            Some(part) => problems.extend(part_problems(part, sources)),
            None => problems.push(format!("there is no part for RFC {}", rfc.number)),
        }
    }
    problems
}

/// What is said about one RFC.
struct Part<'a> {
    rfc: &'static Rfc,
    /// The number of its first line.
    first: usize,
    lines: Vec<&'a str>,
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    for (line, first) in text.lines().zip(1..) {
        let number = line.strip_prefix(TITLE);
        if let Some(rfc) = RFCS.iter().find(|rfc| number == Some(rfc.number)) {
            let lines = Vec::new();
            parts.push(Part { rfc, first, lines });
        }
        if let Some(part) = parts.last_mut() {
            part.lines.push(line);
        }
    }
    parts
}

fn part_problems(part: &Part<'_>, sources: &mut Sources<'_>) -> Vec<String> {
    let rfc = part.rfc;
    let mut problems = Vec::new();
    let mut covered = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let (mut group, mut last, mut rule_is_next) = (None, 0, false);
    for (&line, number) in part.lines.iter().zip(part.first..) {
        let mut complain = |problem: String| problems.push(format!("line {number}: {problem}"));
        if std::mem::take(&mut rule_is_next) {
            if line != RULE {
                complain(format!("{RULE} has to follow the head of a table"));
            }
        } else if let Some(title) = line.strip_prefix("## ") {
            group = title.split_once(". ").map(|(number, _)| number);
        } else if line == HEAD {
            rule_is_next = true;
        } else if line.starts_with('|') {
            let found = row_problems(rfc, line, sources);
            found.into_iter().for_each(&mut complain);
            let cells = cells(line);
            let (Some(section), Some(requirement)) = (cells.first(), cells.get(1)) else {
                continue;
            };
            if let Some(place) = rfc.sections.iter().position(|known| known == section) {
                if place < last {
                    complain(format!("section {section} comes behind section {}", rfc.sections[last]));
                }
                last = last.max(place);
            }
            if group != section.split('.').next() {
                complain(format!(
                    "section {section} stands under the heading {}",
                    group.unwrap_or("of none")
                ));
            }
            if !seen.insert((*section, *requirement)) {
                complain(format!("requirement: there is this one already: {requirement}"));
            }
            covered.insert(*section);
        }
    }
    problems.extend(difference_problems(part));
    for section in rfc.binding.iter().filter(|section| !covered.contains(*section)) {
        problems.push(format!(
            "section {section} of RFC {} asks something of a host, and has no row",
            rfc.number
        ));
    }
    problems
}

/// Rows that differ from the RFC and are not in the list of differences, and the other way round.
fn difference_problems(part: &Part<'_>) -> Vec<String> {
    let heading = format!("## {DIFFERENCES}");
    let list = part.lines.iter().skip_while(|line| !line.starts_with(&heading)).skip(1);
    let list: Vec<_> = list.take_while(|line| !line.starts_with("## ")).copied().collect();
    let list = list.join("\n");
    let named = list.split('(').skip(1).filter_map(|rest| rest.split_once(')'));
    let named = named.flat_map(|(inner, _)| inner.split(',').map(str::trim));
    let listed: BTreeSet<_> = named.filter(|name| part.rfc.sections.contains(name)).collect();
    let rows = part.lines.iter();
    let rows = rows.filter(|line| line.starts_with("| ") && line.contains(DIFFERS));
    let differing: BTreeSet<_> = rows.filter_map(|row| cells(row).first().copied()).collect();
    let missing = differing.difference(&listed);
    let missing =
        missing.map(|section| format!("a row of section {section} differs, and the list of differences lacks it"));
    let idle = listed.difference(&differing);
    let idle = idle.map(|section| format!("the list of differences has section {section}, and no row of it differs"));
    let problems = missing.chain(idle);
    problems
        .map(|problem| format!("RFC {}: {problem}", part.rfc.number))
        .collect()
}

/// What is wrong with one row, by itself.
fn row_problems(rfc: &Rfc, line: &str, sources: &mut Sources<'_>) -> Vec<String> {
    let cells = cells(line);
    if cells.len() != CELLS.len() {
        return vec![format!("{} cells instead of {}", cells.len(), CELLS.len())];
    }
    let mut problems = Vec::new();
    for (_, name) in cells.iter().zip(CELLS).filter(|(cell, _)| cell.is_empty()) {
        problems.push(format!("{name}: the cell is empty"));
    }
    let [section, _, level, items, tests] = cells[..] else {
        return problems;
    };
    if !section.is_empty() && !rfc.sections.contains(&section) {
        let number = rfc.number;
        problems.push(format!(
            "section: RFC {number} has no section {section} that binds a host"
        ));
    }
    if !level.is_empty() && !LEVELS.contains(&level) {
        problems.push(format!("level: {level} is none of {LEVELS:?}"));
    }
    for (cell, name, is_test) in [(items, "where", false), (tests, "test", true)] {
        if !cell.is_empty() {
            let found = reference_problems(cell, is_test, sources).into_iter();
            problems.extend(found.map(|problem| format!("{name}: {problem}")));
        }
    }
    problems
}

fn reference_problems(cell: &str, is_test: bool, sources: &mut Sources<'_>) -> Vec<String> {
    let references = match references(cell) {
        Ok(references) => references,
        Err(problem) => return vec![problem],
    };
    if references.is_empty() {
        let reason = cell.strip_prefix(NONE).unwrap_or_default();
        return match reason.trim().is_empty() {
            true => vec![format!(
                "it names nothing, and does not start with {NONE:?} and a reason"
            )],
            false => Vec::new(),
        };
    }
    let mut problems = Vec::new();
    for (path, names) in references {
        let Some(source) = sources.get(path) else {
            problems.push(format!("there is no file {path}, nor {CORE}{path}"));
            continue;
        };
        if names.is_empty() {
            problems.push(format!("nothing is named in {path}"));
        }
        for name in names {
            let (is_there, what) = match is_test {
                true => (source.has_test(name), "test"),
                false => (source.has_item(name), "item"),
            };
            if !is_there {
                problems.push(format!("there is no {what} {name} in {path}"));
            }
        }
    }
    problems
}

fn cells(line: &str) -> Vec<&str> {
    let inner = line.trim().strip_prefix('|').unwrap_or_default();
    let inner = inner.strip_suffix('|').unwrap_or(inner);
    inner.split('|').map(str::trim).collect()
}
