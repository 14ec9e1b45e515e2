//! The configuration as text: the commented default file, what holds, and the tables of the documentation.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::keys::{self, Key, Literal, Reload, TABLES, Table};
use super::load::Loaded;

/// Columns of the commented file.
const WIDTH: usize = 100;

/// The default file: every key with its default, its unit or range, and what it means. Each is a comment, so that the file says
/// nothing.
#[must_use]
pub fn default_file() -> String {
    let mut text = String::new();
    let head = "The configuration of shim6. Every key is optional: those below are comments that show the defaults. What is \
                set in /etc/shim6/shim6.toml.d/*.toml, in the order of their names, counts more than what is set here. Check \
                it with: shim6 config check";
    comment(&mut text, head);
    for table in TABLES {
        text.push('\n');
        comment(&mut text, &plain(table.text));
        match (table.name, table.is_array) {
            ("", _) => {}
            (name, true) => text += &format!("#[[{name}]]\n"),
            (name, false) => text += &format!("[{name}]\n"),
        }
        for key in keys::of(table.name) {
            text.push('\n');
            comment(&mut text, &plain(&explain(key)));
            let (default, _) = key.defaults();
            let value = default.map_or_else(|| key.example.to_owned(), |default| default.to_string());
            text += &format!("#{} = {value}\n", key.name);
        }
    }
    text
}

/// What holds, as a file that says the same: what is set somewhere is followed by where.
#[must_use]
pub fn effective(loaded: &Loaded) -> String {
    let mut text = String::new();
    match &loaded.files[..] {
        [] => text += "# No file: the built-in defaults\n",
        files => files.iter().for_each(|file| text += &format!("# {}\n", file.display())),
    }
    for table in TABLES {
        let tables = of_table(table, loaded);
        for (number, values) in tables.iter().enumerate() {
            if number > 0 || !table.name.is_empty() {
                text.push('\n');
            }
            match (table.name, table.is_array) {
                ("", _) => {}
                (name, true) => text += &format!("[[{name}]]\n"),
                (name, false) => text += &format!("[{name}]\n"),
            }
            for (key, full, value) in values {
                let line = match value {
                    Some(value) => format!("{} = {value}", key.name),
                    None => format!("# {}: {}", key.name, plain(key.unset)),
                };
                match loaded.origin(full) {
                    Some(origin) => writeln!(text, "{line:<40} # {origin}"),
                    None => writeln!(text, "{line}"),
                }
                .unwrap_or_default();
            }
        }
    }
    text
}

/// The same as JSON: the files, and each key with its value, its origin if it is set, and whether it has its default value.
#[must_use]
pub fn effective_json(loaded: &Loaded) -> Json {
    let mut values = Map::new();
    for table in TABLES {
        for (_, full, value) in of_table(table, loaded).into_iter().flatten() {
            let origin = loaded.origin(&full);
            let described = json!({
                "value": value.as_ref().map(Literal::to_json),
                "file": origin.map(|origin| origin.file.display().to_string()),
                "line": origin.map(|origin| origin.line),
            });
            values.insert(full, described);
        }
    }
    let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    json!({ "files": files, "values": values })
}

/// The documentation of a table's keys, in Markdown.
#[cfg(test)]
pub(super) fn markdown(table: &Table) -> String {
    let mut text =
        String::from("| key | type and range | default | reload | meaning |\n| --- | --- | --- | --- | --- |\n");
    for key in keys::of(table.name) {
        let (range, reload, meaning) = (key.range(), key.reload.as_str(), key.text);
        text += &format!(
            "| `{}` | {range} | {} | {reload} | {meaning} |\n",
            key.name,
            default(key)
        );
    }
    text
}

/// The tables of a kind that there are: each key with its full name and its value.
fn of_table(table: &Table, loaded: &Loaded) -> Vec<Vec<(&'static Key, String, Option<Literal>)>> {
    let mut tables: Vec<Vec<_>> = Vec::new();
    for key in keys::of(table.name) {
        for (number, (full, value)) in key.values(&loaded.config).into_iter().enumerate() {
            if tables.len() <= number {
                tables.push(Vec::new());
            }
            tables[number].push((key, full, value));
        }
    }
    tables
}

/// A key's default in Markdown.
fn default(key: &Key) -> String {
    match key.defaults() {
        (Some(fast), Some(rfc)) => format!("`{fast}`; `{rfc}` with the profile `rfc`"),
        (Some(default), None) => format!("`{default}`"),
        (None, _) => key.unset.to_owned(),
    }
}

/// All about a key in a sentence or two, but for its name.
fn explain(key: &Key) -> String {
    let mut text = key.text.to_owned();
    text.push('.');
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let what = if key.unset == "required" { "Required" } else { "Default" };
    text += &format!(" Range: {}. {what}", key.range());
    if what == "Default" {
        text += &format!(": {}", default(key));
    }
    text.push('.');
    text += match key.reload {
        Reload::Now => "",
        Reload::NewContexts => " Changes hold for new contexts.",
        Reload::Restart => " Changes need a restart.",
    };
    text
}

/// Markdown without its marks: `a` for \`a\` and for \[a](b).
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let (outside, inside) = before.rsplit_once('[').unwrap_or(("", before));
        plain += outside;
        plain += inside;
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    plain += rest;
    plain.replace('`', "")
}

/// Adds lines of comment, none longer than it may be.
fn comment(text: &mut String, what: &str) {
    let mut line = String::from("#");
    for word in what.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            *text += &line;
            text.push('\n');
            line.truncate(1);
        }
        line.push(' ');
        line += word;
    }
    *text += &line;
    text.push('\n');
}
