//! The texts of `identity.toml` and `search.toml`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shim6_cga::{CgaParameters, HbaSet, Sec, SubnetPrefix, VerifyError};

use super::fields::Fields;
use super::{PublicIdentity, StoredIdentity, StoredSearch, hex, key};
use crate::config::Problem;

/// The version of both formats that is written and read.
const VERSION: u64 = 1;
/// The last second that [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339) can express, since the epoch.
const LAST_SECOND: u64 = 253_402_300_799;

const IDENTITY_KEYS: [&str; 6] = ["version", "sec", "created", "automatic", "parameters", "key"];
const SEARCH_KEYS: [&str; 7] = ["version", "sec", "tried", "seeded", "parameters", "key", "new_key"];

const PARAMETERS_EXPECTED: &str =
    "expected the hexadecimal digits of a CGA Parameters data structure (RFC 3972 section 3)";
const CREATED_EXPECTED: &str = "expected a time in UTC (RFC 3339) such as \"2025-01-31T12:00:00Z\"";

/// `identity.toml`.
pub(super) fn identity(identity: &StoredIdentity) -> String {
    let set = &identity.set;
    let kind = if set.has_public_key() { "CGA/HBA" } else { "HBA-only" };
    let mut text = format!(
        "# The identity of this host in Shim6: its addresses, which belong together (RFC 5535). Written by shim6.\n#\n\
         # {kind}, Sec {}\n",
        set.sec()
    );
    for (prefix, address) in set.prefixes().iter().zip(set.addresses()) {
        let _ = writeln!(text, "#   {prefix}  {address}");
    }
    let _ = write!(
        text,
        "\nversion = {VERSION}\nsec = {}\ncreated = \"{}\"\nautomatic = {}\nparameters = \"{}\"\n",
        set.sec(),
        timestamp(identity.created),
        identity.automatic,
        hex::encode(&set.parameters().to_vec())
    );
    if set.has_public_key() {
        let _ = writeln!(text, "key = \"{}\"", key::file_name(set.parameters().public_key()));
    }
    text
}

/// What `identity.toml` says; the key is not looked at.
pub(super) fn parse_identity(text: &str, origin: &Path) -> Result<PublicIdentity, Problem> {
    let fields = Fields::parse(text, origin)?;
    check_version(&fields)?;
    fields.only(&IDENTITY_KEYS)?;
    let sec = sec(&fields)?;
    let created = fields.parsed("created", CREATED_EXPECTED, |text| {
        parse_timestamp(text).ok_or_else(|| format!("{text:?} is no such time"))
    })?;
    let automatic = fields.flag("automatic")?;
    let parameters = parameters(&fields)?;
    let set = HbaSet::from_parameters(&parameters, sec).map_err(|error| {
        fields.wrong(
            "parameters",
            error,
            format!("expected those of an HBA set of Sec {sec}"),
        )
    })?;
    check_prefixes(&fields, set.prefixes())?;
    let key = key_file(&fields, set.has_public_key(), parameters.public_key(), origin)?;
    Ok(PublicIdentity {
        set,
        created,
        automatic,
        key,
    })
}

/// `search.toml`.
pub(super) fn search(search: &StoredSearch) -> String {
    let mut text = format!(
        "# A search for addresses that was interrupted (RFC 3972 section 4, step 2). The command that began it goes on\n\
         # from here. Remove this file to give it up. Whoever reads it knows the addresses before they are used.\n\n\
         version = {VERSION}\nsec = {}\ntried = {}\nseeded = {}\nparameters = \"{}\"\n",
        search.sec,
        search.tried,
        search.seeded,
        hex::encode(&search.parameters.to_vec()),
    );
    if search.key.is_some() {
        let name = key::file_name(search.parameters.public_key());
        let _ = write!(text, "key = \"{name}\"\nnew_key = {}\n", search.new_key);
    }
    text
}

/// What `search.toml` says; the key is not looked at.
pub(super) fn parse_search(text: &str, origin: &Path) -> Result<StoredSearch, Problem> {
    let fields = Fields::parse(text, origin)?;
    check_version(&fields)?;
    fields.only(&SEARCH_KEYS)?;
    let sec = sec(&fields)?;
    let tried = fields.integer("tried", i64::MAX.unsigned_abs())?;
    let seeded = fields.flag("seeded")?;
    let new_key = fields.flag("new_key")?;
    let parameters = parameters(&fields)?;
    let Some(list) = parameters.multi_prefix() else {
        return Err(fields.wrong("parameters", VerifyError::NoMultiPrefix, "expected those of an HBA set"));
    };
    check_prefixes(&fields, &list.prefixes().collect::<Vec<_>>())?;
    let has_public_key = list.has_public_key();
    let key = key_file(&fields, has_public_key, parameters.public_key(), origin)?;
    if new_key && key.is_none() {
        return Err(fields.wrong("new_key", "there is no key", "expected true only together with key"));
    }
    Ok(StoredSearch {
        parameters,
        sec,
        tried,
        seeded,
        key,
        new_key,
    })
}

/// Whether a file says to be of another version than that which is read.
pub(super) fn is_of_other_version(text: &str) -> bool {
    let fields = Fields::parse(text, Path::new(""));
    let version = fields.and_then(|fields| fields.integer("version", i64::MAX.unsigned_abs()));
    version.is_ok_and(|version| version != VERSION)
}

fn check_version(fields: &Fields<'_>) -> Result<(), Problem> {
    match fields.integer("version", i64::MAX.unsigned_abs())? {
        VERSION => Ok(()),
        other => {
            let expected = format!("expected {VERSION}; it may come from a newer shim6, which then can read it");
            Err(fields.wrong("version", format!("{other} is not known"), expected))
        }
    }
}

fn sec(fields: &Fields<'_>) -> Result<Sec, Problem> {
    let value = fields.integer("sec", 2)?;
    // At most 2, as just checked.
    Sec::try_from(value as u8).map_err(|error| fields.wrong("sec", error, "expected 0, 1 or 2"))
}

fn parameters(fields: &Fields<'_>) -> Result<CgaParameters, Problem> {
    fields.parsed("parameters", PARAMETERS_EXPECTED, |text| {
        let octets = hex::decode(text).map_err(|error| error.to_string())?;
        CgaParameters::parse(&octets).map_err(|error| error.to_string())
    })
}

/// Whoever makes a set checks this before; a file may say anything.
fn check_prefixes(fields: &Fields<'_>, prefixes: &[SubnetPrefix]) -> Result<(), Problem> {
    for (index, prefix) in prefixes.iter().enumerate() {
        if !prefix.is_assignable() {
            let wrong = format!("no host has an address under the prefix {prefix} in it");
            return Err(fields.wrong("parameters", wrong, "expected unicast prefixes"));
        }
        if prefixes[..index].contains(prefix) {
            let wrong = format!("the prefix {prefix} is in it twice");
            return Err(fields.wrong("parameters", wrong, "expected different prefixes"));
        }
    }
    Ok(())
}

/// The path of the key file, for parameters with a public key; `None` for others.
fn key_file(
    fields: &Fields<'_>,
    has_public_key: bool,
    public_key: &[u8],
    origin: &Path,
) -> Result<Option<PathBuf>, Problem> {
    if !has_public_key {
        let unexpected = || {
            fields.wrong(
                "key",
                "these parameters have a nonce and no public key",
                "expected no key",
            )
        };
        let given = fields.optional("key", "expected no key", |_| Ok(()))?;
        return given.map_or(Ok(None), |()| Err(unexpected()));
    }
    let name = key::file_name(public_key);
    let expected = format!("expected \"{name}\", which is named after the public key in the parameters");
    let path = fields.parsed("key", &expected, |text| {
        let fits = text == name;
        fits.then(|| origin.with_file_name(&name))
            .ok_or_else(|| format!("{text:?} is the file of another key"))
    })?;
    Ok(Some(path))
}

/// RFC 3339 in UTC, whole seconds; times before the epoch are the epoch.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND));
    humantime::format_rfc3339_seconds(time).to_string()
}

fn parse_timestamp(text: &str) -> Option<SystemTime> {
    // What is not ASCII is no time, and the library cuts at octets.
    text.is_ascii().then(|| humantime::parse_rfc3339(text).ok())?
}
