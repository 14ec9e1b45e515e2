use super::*;

const DOCUMENT: &str = "docs/conformance.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace")
}

fn document() -> String {
    std::fs::read_to_string(root().join(DOCUMENT)).expect("the table is there")
}

#[test]
fn everything_that_the_table_names_is_there_and_no_section_is_left_out() {
    let problems = problems(&document(), &mut Sources::of(root()));
    assert!(problems.is_empty(), "{DOCUMENT}:\n{}", problems.join("\n"));
}

/// Whatever is lost of a row, it is noticed.
#[test]
fn no_row_can_lose_a_cell_or_name_something_else() {
    let (text, mut sources) = (document(), Sources::of(root()));
    for (part, least) in parts(&text).iter().zip([300, 50]) {
        let rows = part
            .lines
            .iter()
            .filter(|line| line.starts_with("| ") && !is_frame(line));
        let rows: Vec<_> = rows.copied().collect();
        assert!(rows.len() > least, "{} rows about RFC {}", rows.len(), part.rfc.number);
        rows_are_checked(part.rfc, &rows, &mut sources);
    }
}

fn rows_are_checked(rfc: &Rfc, rows: &[&str], sources: &mut Sources<'_>) {
    for row in rows {
        for index in 0..CELLS.len() {
            let mut cells = cells(row);
            cells[index] = "";
            let broken = format!("| {} |", cells.join(" | "));
            let expected = format!("{}: the cell is empty", CELLS[index]);
            assert_eq!(row_problems(rfc, &broken, sources), [expected], "{broken}");
        }
        for cell in cells(row).into_iter().filter(|cell| cell.contains('`')) {
            let spans = cell.split('`').skip(1).step_by(2);
            for span in spans {
                let broken = row.replacen(&format!("`{span}`"), &format!("`x{span}`"), 1);
                assert!(!row_problems(rfc, &broken, sources).is_empty(), "{broken}");
            }
        }
    }
}

fn is_frame(line: &str) -> bool {
    line == HEAD || line == RULE
}

const SOURCE: &str = "\
/// fn in_a_comment() is none.
pub(crate) struct Thing {
    /// What: it has.
    pub(crate) part: u8,
}

enum Choice {
    First,
    Second(u8),
}

impl Thing {
    const LIMIT: u8 = 3;

    pub const fn act(&self) {
        let local = 1;
    }
}

macro_rules! makes { () => {} }

#[test]
fn it_works() {}

#[tokio::test(start_paused = true)]
async fn it_waits() {}

#[test]
#[ignore = \"too slow\"]
fn it_sleeps() {}

fn it_helps() {}
";

fn sources() -> Sources<'static> {
    Sources::new(|path| {
        ["a/b.rs", "shim6-core/src/c.rs"]
            .contains(&path)
            .then(|| SOURCE.to_owned())
    })
}

fn row(where_: &str, test: &str) -> String {
    format!("| 5.1 | Something is done. | MUST | {where_} | {test} |")
}

#[test]
fn items_and_tests_are_found_by_their_kind() {
    let items = [
        "Thing",
        "Choice",
        "act",
        "makes",
        "it_helps",
        "Thing::part",
        "Thing::LIMIT",
        "Thing::act",
    ];
    for item in items.into_iter().chain(["Choice::First", "Choice::Second"]) {
        let row = row(
            &format!("`c.rs`: `{item}`"),
            "`a/b.rs`: `it_works`, `it_waits`; and more",
        );
        assert_eq!(row_problems(&RFCS[0], &row, &mut sources()), [""; 0], "{item}");
    }
    for item in [
        "in_a_comment",
        "part",
        "First",
        "local",
        "Thing::local",
        "Choice::part",
        "Thin",
        "is",
    ] {
        let row = row(&format!("`c.rs`: `{item}`"), "`a/b.rs`: `it_works`");
        let expected = format!("where: there is no item {item} in c.rs");
        assert_eq!(row_problems(&RFCS[0], &row, &mut sources()), [expected]);
    }
    for test in ["it_sleeps", "it_helps", "act", "it_work"] {
        let row = row("`c.rs`: `act`", &format!("`c.rs`: `it_works`, `{test}`"));
        let expected = format!("test: there is no test {test} in c.rs");
        assert_eq!(row_problems(&RFCS[0], &row, &mut sources()), [expected]);
    }
}

#[test]
fn what_is_wrong_with_a_row_is_told() {
    let fine = row("none: it is for routers", "none: nothing to be shown");
    assert_eq!(row_problems(&RFCS[0], &fine, &mut sources()), [""; 0]);
    let (item, test) = ("`c.rs`: `act`", "`a/b.rs`: `it_works`");
    for (row, expected) in [
        (row("", test), "where: the cell is empty"),
        (row(item, " "), "test: the cell is empty"),
        (
            row("`d.rs`: `act`", test),
            "where: there is no file d.rs, nor shim6-core/src/d.rs",
        ),
        (row("`c.rs`", test), "where: nothing is named in c.rs"),
        (row("`act`", test), "where: act comes before any path"),
        (
            row("`c.rs`: `act", test),
            "where: a backtick has no partner before \"act\"",
        ),
        (
            row("somewhere", test),
            "where: it names nothing, and does not start with \"none: \" and a reason",
        ),
        (
            row(item, "none:"),
            "test: it names nothing, and does not start with \"none: \" and a reason",
        ),
        (row(item, "x | y"), "6 cells instead of 5"),
        (row(item, test).replace("MUST", "HAS"), "level: HAS is none of"),
        (
            row(item, test).replace("5.1", "5.99"),
            "section: RFC 5533 has no section 5.99",
        ),
    ] {
        let problems = row_problems(&RFCS[0], &row, &mut sources());
        assert!(
            problems.len() == 1 && problems[0].starts_with(expected),
            "{row}: {problems:?}"
        );
    }
}

/// The problems of a document with these lines behind the head of its table, but for sections that are left out.
fn document_problems(heading: &str, rows: &[&str]) -> Vec<String> {
    let text = [&["# Conformance to RFC 5533", "", heading, "", HEAD, RULE], rows]
        .concat()
        .join("\n");
    let mut problems = problems(&text, &mut sources());
    problems.retain(|problem| problem.starts_with("line "));
    problems
}

#[test]
fn rows_stand_in_the_order_of_the_rfc_under_their_headings() {
    let (first, second) = (
        row("none: a", "none: b"),
        row("none: a", "none: b").replace("5.1", "5.15.2"),
    );
    let heading = "## 5. Formats";
    assert_eq!(document_problems(heading, &[&first, &second]), [""; 0]);
    assert_eq!(
        document_problems(heading, &[&second, &first]),
        ["line 8: section 5.1 comes behind section 5.15.2"]
    );
    assert_eq!(
        document_problems(heading, &[&first, &first]),
        ["line 8: requirement: there is this one already: Something is done."]
    );
    assert_eq!(
        document_problems("## 6. States", &[&first]),
        ["line 7: section 5.1 stands under the heading 6"]
    );
    let empty = first.replace("Something is done.", "");
    assert_eq!(
        document_problems(heading, &[&empty]),
        ["line 7: requirement: the cell is empty"]
    );
}

#[test]
fn differences_are_listed_and_what_is_listed_differs() {
    let row = row("none: a", "none: Differs, as it must");
    let document = |list: &str| {
        let list = format!("## Where we differ, and why\n\n- {list}\n");
        format!("# Conformance to RFC 5534\n\n{list}\n## 5. Formats\n\n{HEAD}\n{RULE}\n{row}\n")
    };
    let difference_problems = |text: &str| difference_problems(&parts(text)[0]);
    assert_eq!(difference_problems(&document("**This** (5.1): so (as said).")), [""; 0]);
    assert_eq!(
        difference_problems(&document("**That** (5.2, 6.9): so.")),
        [
            "RFC 5534: a row of section 5.1 differs, and the list of differences lacks it",
            "RFC 5534: the list of differences has section 5.2, and no row of it differs",
            "RFC 5534: the list of differences has section 6.9, and no row of it differs",
        ]
    );
}

#[test]
fn section_without_a_row_and_rfc_without_a_part_are_told() {
    let text = document();
    for (title, sections) in [
        ("5533", ["5.2", "7.10.1", "12.4", "14"]),
        ("5534", ["3.2", "5.2", "6.9", "8"]),
    ] {
        for section in sections {
            let start = format!("| {section} |");
            let (mut rest, mut is_its_part) = (Vec::new(), false);
            for line in text.lines() {
                is_its_part = line.strip_prefix(TITLE).map_or(is_its_part, |number| number == title);
                if !(is_its_part && line.starts_with(&start)) {
                    rest.push(line);
                }
            }
            let expected = format!("section {section} of RFC {title} asks something of a host, and has no row");
            let problems = problems(&rest.join("\n"), &mut Sources::of(root()));
            assert!(problems.contains(&expected), "{problems:?}");
        }
    }
    let (first, _) = text.split_once("\n# Conformance to RFC 5534").expect("two parts");
    let problems = problems(first, &mut Sources::of(root()));
    assert_eq!(problems, ["there is no part for RFC 5534"]);
}

#[test]
fn sections_are_sorted_and_those_that_bind_are_among_them() {
    let key = |section: &&str| {
        section
            .split('.')
            .map(|part| part.parse::<u32>().expect("a number"))
            .collect::<Vec<_>>()
    };
    for rfc in &RFCS {
        assert!(rfc.sections.is_sorted_by_key(key));
        assert!(rfc.binding.iter().all(|section| rfc.sections.contains(section)));
    }
}
