//! The guide for embedders.

use std::fs;
use std::path::Path;

/// What it has its readers write is the example, which is built and linted with the rest.
#[test]
fn the_pieces_of_the_guide_are_the_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path| fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (guide, example) = (read("docs/embedding.md"), read("shim6-core/examples/embedding.rs"));
    let blocks = guide.split("\n```rust\n").skip(1);
    let pieces = blocks.map(|block| block.split("\n```").next().unwrap_or_default());
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    };
    let pieces: Vec<_> = pieces.flat_map(lines).collect();
    assert_eq!(pieces, lines(&example));
}
