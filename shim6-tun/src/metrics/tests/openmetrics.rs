//! A strict reader of the text format of OpenMetrics 1.0, as far as the exporter uses it.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a series, in order.
pub(super) type Labels = BTreeMap<String, String>;

/// A family of series.
#[derive(Debug, Default)]
pub(super) struct Family {
    pub(super) kind: String,
    pub(super) unit: Option<String>,
    pub(super) help: String,
    /// By the name of the sample and its labels.
    pub(super) samples: BTreeMap<(String, Labels), f64>,
}

impl Family {
    /// The only value that has these labels, whatever else it has.
    pub(super) fn value(&self, sample: &str, labels: &[(&str, &str)]) -> f64 {
        let is_meant = |(name, have): &(String, Labels)| {
            name == sample
                && labels
                    .iter()
                    .all(|(key, value)| have.get(*key).is_some_and(|have| have == value))
        };
        let found: Vec<_> = self.samples.iter().filter(|(key, _)| is_meant(key)).collect();
        assert_eq!(found.len(), 1, "{sample} {labels:?}: {found:?}");
        *found[0].1
    }
}

/// Reads a whole exposition; anything that is not as the standard says is an error.
pub(super) fn read(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF")?;
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in body.lines() {
        let wrong = |what: &str| format!("{what}: {line}");
        if let Some(metadata) = line.strip_prefix("# ") {
            let mut words = metadata.splitn(3, ' ');
            let (Some(keyword), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else {
                return Err(wrong("metadata has three parts"));
            };
            check_name(name).map_err(|what| wrong(&what))?;
            if current.as_deref() != Some(name) {
                if families.contains_key(name) {
                    return Err(wrong("a family is in one place"));
                }
                current = Some(name.to_owned());
            }
            let family = families.entry(name.to_owned()).or_default();
            if !family.samples.is_empty() {
                return Err(wrong("metadata comes first"));
            }
            match keyword {
                "HELP" if family.help.is_empty() => family.help = rest.to_owned(),
                "TYPE" if family.kind.is_empty() => family.kind = rest.to_owned(),
                "UNIT" if family.unit.is_none() && name.ends_with(&format!("_{rest}")) => {
                    family.unit = Some(rest.to_owned());
                }
                _ => return Err(wrong("no such metadata, or a second time")),
            }
            continue;
        }
        let (name, labels, value) = sample(line).map_err(|what| wrong(&what))?;
        let family = current.as_ref().and_then(|name| Some((name, families.get_mut(name)?)));
        let Some((family_name, family)) = family.filter(|(family, _)| name.starts_with(family.as_str())) else {
            return Err(wrong("a sample belongs to the family before it"));
        };
        let suffix = &name[family_name.len()..];
        let is_known = match family.kind.as_str() {
            "counter" => suffix == "_total" && value >= 0.0,
            "gauge" => suffix.is_empty(),
            "info" => suffix == "_info" && value == 1.0,
            "histogram" => matches!(suffix, "_bucket" | "_sum" | "_count"),
            _ => false,
        };
        if !is_known {
            return Err(wrong("the type has no such sample"));
        }
        if family.samples.insert((name, labels), value).is_some() {
            return Err(wrong("a series has one value"));
        }
    }
    for (name, family) in &families {
        if family.help.is_empty() || family.kind.is_empty() {
            return Err(format!("{name} has no help or no type"));
        }
        if family.kind == "histogram" {
            check_histogram(name, family)?;
        }
    }
    Ok(families)
}

/// Buckets grow, the last is that of infinity, and it is the count.
fn check_histogram(name: &str, family: &Family) -> Result<(), String> {
    let without_bound = |labels: &Labels| {
        let mut labels = labels.clone();
        labels.remove("le");
        labels
    };
    let groups: BTreeSet<Labels> = family.samples.keys().map(|(_, labels)| without_bound(labels)).collect();
    for group in groups {
        let mut buckets = Vec::new();
        for ((sample, labels), &value) in &family.samples {
            if *sample == format!("{name}_bucket") && without_bound(labels) == group {
                let bound = labels.get("le").ok_or("a bucket has a bound")?;
                let bound = if bound == "+Inf" {
                    f64::INFINITY
                } else {
                    bound.parse().map_err(|_| "a bound is a number")?
                };
                buckets.push((bound, value));
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let grows = buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1);
        let count = family.samples.get(&(format!("{name}_count"), group.clone()));
        if !grows || buckets.last().map(|last| (last.0, Some(&last.1))) != Some((f64::INFINITY, count)) {
            return Err(format!(
                "{name} {group:?} is no histogram: {buckets:?}, count {count:?}"
            ));
        }
    }
    Ok(())
}

fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    check_name(name)?;
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"").ok_or("a label has a value")?;
            check_name(key)?;
            let (value, after) = quoted(after)?;
            if labels.insert(key.to_owned(), value).is_some() {
                return Err(format!("{key} comes twice"));
            }
            rest = after.strip_prefix(',').unwrap_or(after);
            if !after.starts_with([',', '}']) || (after.starts_with(',') && rest.starts_with('}')) {
                return Err("labels are separated by one comma".to_owned());
            }
        }
        rest = &rest[1..];
    }
    if line.contains("{}") {
        return Err("no labels are no braces".to_owned());
    }
    let value = rest.strip_prefix(' ').ok_or("one blank before the value")?;
    let value: f64 = value.parse().map_err(|_| "the value is a number, and the last")?;
    Ok((name.to_owned(), labels, value))
}

/// What is before the closing quotation mark, and what is after it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, '\\')) => value.push('\\'),
                Some((_, '"')) => value.push('"'),
                Some((_, 'n')) => value.push('\n'),
                _ => return Err("no such escape".to_owned()),
            },
            _ => value.push(character),
        }
    }
    Err("the value does not end".to_owned())
}

fn check_name(name: &str) -> Result<(), String> {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_name = name.starts_with(is_first) && name.chars().all(|c| is_first(c) || c.is_ascii_digit());
    is_name.then_some(()).ok_or_else(|| format!("{name:?} is no name"))
}

#[test]
fn what_is_not_openmetrics_is_refused() {
    let good = "# HELP a Help.\n# TYPE a counter\na_total{x=\"1\",y=\"\\\"\"} 3\n# EOF\n";
    assert_eq!(read(good).unwrap()["a"].value("a_total", &[("y", "\"")]), 3.0);
    for bad in [
        "",
        "# HELP a Help.\n# TYPE a counter\na_total 3\n",
        "# HELP a Help.\n# TYPE a counter\na 3\n# EOF\n",
        "# HELP a Help.\n# TYPE a counter\na_total -3\n# EOF\n",
        "# HELP a Help.\n# TYPE a counter\na_total 3 \n# EOF\n",
        "# HELP a Help.\n# TYPE a counter\na_total 3\na_total 4\n# EOF\n",
        "# HELP a Help.\n# TYPE a counter\na_total{x=\"1\"y=\"2\"} 3\n# EOF\n",
        "# HELP a Help.\n# TYPE a counter\na_total{x=\"1\",} 3\n# EOF\n",
        "# HELP a Help.\n# TYPE a counter\na_total{x=\"1\\d\"} 3\n# EOF\n",
        "# HELP a Help.\n# TYPE a counter\na_total{x=\"1} 3\n# EOF\n",
        "# TYPE a counter\na_total 3\n# EOF\n",
        "# HELP a Help.\n# TYPE a counter\n# UNIT a seconds\na_total 3\n# EOF\n",
        "# HELP a H.\n# TYPE a gauge\n# HELP b H.\n# TYPE b gauge\nb 1\na 1\n# EOF\n",
        "# HELP a H.\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_count 1\na_sum 1\n# EOF\n",
        "# HELP a H.\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_count 1\na_sum 1\n# EOF\n",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}
