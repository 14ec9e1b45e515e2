//! What there is to decode: a message in hexadecimal digits, or a capture.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::super::UsageError;
use super::capture;
use crate::identity::hex;

/// Most octets of a file with a message in hexadecimal digits: the longest message fits many times.
const MAX_TEXT: u64 = 1 << 20;
/// The first octets of a file that gzip has compressed.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What to decode.
pub(super) enum Input {
    /// The octets of one message.
    Message(Vec<u8>),
    Capture {
        /// For messages about it.
        name: String,
        source: Box<dyn Read>,
    },
}

/// Finds out what the words of the command line are, all of them together.
///
/// # Errors
///
/// When they are neither digits nor a file, or when it cannot be read.
pub(super) fn from_words(words: &[OsString]) -> anyhow::Result<Input> {
    if let [word] = words
        && word == "-"
    {
        return from_reader("standard input".to_owned(), Box::new(io::stdin()));
    }
    let text: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let text = text.join(" ");
    match digits(&text) {
        Ok(octets) => Ok(Input::Message(octets)),
        Err(reason) => match words {
            [file] if Path::new(file).exists() => from_file(Path::new(file)),
            _ => Err(UsageError(format!(
                "neither a message in hexadecimal digits ({reason}) nor a file; give the octets of one message from its \
                 Next Header octet on, as in 3b01010022f8123456789abcdeadbeef, the name of a capture, or - for standard \
                 input"
            ))
            .into()),
        },
    }
}

/// Opens a file.
///
/// # Errors
///
/// When it cannot be read, or has nothing to decode.
pub(super) fn from_file(path: &Path) -> anyhow::Result<Input> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| format!("cannot open {name}; check its name and its permissions"))?;
    from_reader(name, Box::new(file))
}

/// Decides by the first octets.
fn from_reader(name: String, mut source: Box<dyn Read>) -> anyhow::Result<Input> {
    let cannot_read = || format!("cannot read {name}; check that it is a file and its permissions");
    let mut start = Vec::new();
    let mut first = source.as_mut().take(capture::MAGIC as u64);
    first.read_to_end(&mut start).with_context(cannot_read)?;
    if capture::is_capture(&start) {
        let source = Box::new(Cursor::new(start).chain(source));
        return Ok(Input::Capture { name, source });
    }
    if start.starts_with(&GZIP) {
        anyhow::bail!("{name} is compressed; decode it with: gzip -dc FILE | shim6 decode -");
    }
    let mut rest = source.as_mut().take(MAX_TEXT);
    rest.read_to_end(&mut start).with_context(cannot_read)?;
    let reason = match std::str::from_utf8(&start).map(digits) {
        Ok(Ok(octets)) => return Ok(Input::Message(octets)),
        Ok(Err(reason)) => reason,
        Err(_) => "it is no text".to_owned(),
    };
    anyhow::bail!(
        "{name} is neither a capture (pcap, pcapng) nor one message in hexadecimal digits ({reason}); capture with: \
         tcpdump -w FILE ip6 proto 140"
    )
}

/// The octets of a text with blanks, colons, commas or line ends between them, and 0x before them, or not.
fn digits(text: &str) -> Result<Vec<u8>, String> {
    let separates = |c: char| c.is_whitespace() || c == ':' || c == ',';
    let mut octets = Vec::new();
    for word in text.split(separates).filter(|word| !word.is_empty()) {
        let word = word
            .strip_prefix("0x")
            .or_else(|| word.strip_prefix("0X"))
            .unwrap_or(word);
        let decoded = hex::decode(word).map_err(|error| match word.chars().count() {
            0..=16 => format!("{word:?}: {error}"),
            _ => error.to_string(),
        })?;
        octets.extend(decoded);
    }
    if octets.is_empty() {
        return Err("there are no digits".to_owned());
    }
    Ok(octets)
}

/// The one place that is asked for.
pub(super) fn read(words: &[OsString], file: Option<&PathBuf>) -> anyhow::Result<Input> {
    match file {
        Some(path) if path == Path::new("-") => from_words(&["-".into()]),
        Some(path) => from_file(path),
        None => from_words(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_in_every_way_people_write_them() {
        for text in [
            "0aff10",
            "0AFF10",
            "0x0aff10\n",
            "0X0AFF10",
            " 0a ff\n10 \r\n",
            "0a:ff:10",
            "0a, ff, 10",
            "0x0a 0xff 0x10",
            "0aff\n10\n",
        ] {
            assert_eq!(digits(text), Ok(vec![0x0a, 0xff, 0x10]), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_digit_is_named() {
        for (text, reason) in [
            ("", "there are no digits"),
            (" : ", "there are no digits"),
            ("0x", "there are no digits"),
            ("3b 01 xy", "\"xy\": 'x' after 0 digits is no hexadecimal digit"),
            ("3b 1", "\"1\": it has 1 hexadecimal digits, an odd number"),
        ] {
            assert_eq!(digits(text), Err(reason.to_owned()));
        }
    }

    #[test]
    fn text_from_a_reader_is_a_message_and_a_magic_number_a_capture() {
        let read = |octets: &'static [u8]| from_reader("it".to_owned(), Box::new(octets));
        assert!(matches!(read(b"3b01"), Ok(Input::Message(octets)) if octets == [0x3b, 1]));
        assert!(matches!(read(b"3b"), Ok(Input::Message(octets)) if octets == [0x3b]));
        for magic in ["0a0d0d0a", "a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1"] {
            let octets = hex::decode(magic).expect("digits").leak();
            let Ok(Input::Capture { mut source, .. }) = read(octets) else {
                panic!("{magic} starts a capture");
            };
            let mut all = Vec::new();
            source.read_to_end(&mut all).expect("octets");
            assert_eq!(all, octets, "nothing is lost");
        }
        for (octets, said) in [
            (&b"\x1f\x8b\x08\x00more"[..], "is compressed"),
            (b"\xff\xfe\x00\x01", "it is no text"),
            (b"not hex", "\"not\": 'n' after 0 digits"),
            (b"", "there are no digits"),
        ] {
            let Err(error) = read(octets) else {
                panic!("{octets:?} is nothing to decode");
            };
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
