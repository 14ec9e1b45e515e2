//! References to items and tests, and whether a source file has them.

/// A path, and the names in that file.
pub(super) type Reference<'a> = (&'a str, Vec<&'a str>);

/// What makes the word behind it the name of an item.
const KEYWORDS: [&str; 10] = [
    "fn",
    "struct",
    "enum",
    "trait",
    "const",
    "static",
    "type",
    "mod",
    "union",
    "macro_rules",
];

/// The references in a cell.
pub(super) fn references(cell: &str) -> Result<Vec<Reference<'_>>, String> {
    let mut references: Vec<Reference<'_>> = Vec::new();
    let mut parts = cell.split('`');
    parts.next();
    while let Some(span) = parts.next() {
        if parts.next().is_none() {
            return Err(format!("a backtick has no partner before {span:?}"));
        }
        if span.ends_with(".rs") {
            references.push((span, Vec::new()));
        } else if let Some((_, names)) = references.last_mut() {
            names.push(span);
        } else {
            return Err(format!("{span} comes before any path"));
        }
    }
    Ok(references)
}

/// The lines of a source file.
pub(super) struct Source {
    lines: Vec<String>,
}

impl Source {
    pub(super) fn new(text: String) -> Self {
        let lines = text.lines().map(str::to_owned).collect();
        Self { lines }
    }

    /// Whether an item has this name. `Owner::member` is a field, variant, constant or function of a type.
    pub(super) fn has_item(&self, name: &str) -> bool {
        match name.split_once("::") {
            None => self.code().any(|line| defines(line, name)),
            Some((owner, member)) => self.blocks(owner).any(|block| has_member(block, member)),
        }
    }

    /// Whether a test has this name, one that is run.
    pub(super) fn has_test(&self, name: &str) -> bool {
        let named = |line: &str| {
            words(line)
                .collect::<Vec<_>>()
                .windows(2)
                .any(|pair| pair == ["fn", name])
        };
        let lines = self.lines.iter().enumerate();
        let mut candidates = lines.filter(|(_, line)| line.contains(name) && !is_comment(line) && named(line));
        candidates.any(|(index, _)| {
            let before = self.lines[..index].iter().rev().map(|line| line.trim_start());
            let attributes = before.take_while(|line| line.starts_with("#[") || line.starts_with("///"));
            let attributes: Vec<_> = attributes.collect();
            let is = |start: &str| attributes.iter().any(|line| line.starts_with(start));
            (is("#[test]") || is("#[tokio::test")) && !is("#[ignore")
        })
    }

    fn code(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str).filter(|line| !is_comment(line))
    }

    /// The lines of each definition or implementation of a type that stands at the left margin, as rustfmt has them.
    fn blocks(&self, owner: &str) -> impl Iterator<Item = &[String]> {
        let starts = self.lines.iter().enumerate().filter(move |(_, line)| {
            let mut words = words(line).skip_while(|word| matches!(*word, "pub" | "crate" | "super"));
            let is_type = matches!(words.next(), Some("struct" | "enum" | "trait" | "impl"));
            is_type && !line.starts_with([' ', '/']) && words.any(|word| word == owner)
        });
        starts.map(|(index, _)| {
            let block = &self.lines[index + 1..];
            let end = block.iter().position(|line| line.starts_with('}'));
            &block[..end.unwrap_or(0)]
        })
    }
}

fn has_member(block: &[String], member: &str) -> bool {
    block.iter().filter(|line| !is_comment(line)).any(|line| {
        let mut words = words(line).skip_while(|word| matches!(*word, "pub" | "crate" | "super"));
        let is_field = line.starts_with("    ") && !line.starts_with("     ") && words.next() == Some(member);
        is_field || defines(line, member)
    })
}

fn defines(line: &str, name: &str) -> bool {
    if !line.contains(name) {
        return false;
    }
    let words: Vec<_> = words(line).collect();
    words
        .windows(2)
        .any(|pair| KEYWORDS.contains(&pair[0]) && pair[1] == name)
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}
