//! `shim6 address generate`: makes the host's addresses.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use shim6_cga::{MAX_PREFIXES, Sec, SubnetPrefix, max_prefixes};

use super::super::output::{count, print};
use super::super::{UsageError, block_on};
use super::args::{IdentityArgs, SearchArgs, check_prefixes, configuration, key_bits, prefix, public_key_len, sec};
use super::description::Description;
use super::make::{KeyChoice, Made, Plan, make};
use super::{INTERRUPTED, say};
use crate::daemon::{self, uplink};
use crate::identity::{PublicIdentity, Store, load_key};
use crate::netlink::Netlink;

pub(super) const EXAMPLES: &str = "\
Examples:
  shim6 address generate
      makes an address for each uplink of this host
  shim6 address generate 2001:db8:a::/64 2001:db8:b::/64 --sec 2 --new-key
      makes addresses with a key, for which an attacker has 2^32 times the work

The addresses of a set belong together: whoever gets the parameters can check that all of them are of the same host. To
change the prefixes is to make another set. The files are described in docs/identity.md.";

/// Arguments of `shim6 address generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Prefixes such as 2001:db8:a::/64, in the order of the addresses [default: those of this host's uplinks]
    #[arg(value_name = "PREFIX", value_parser = prefix)]
    prefixes: Vec<SubnetPrefix>,
    /// Security parameter, 0 to 2: 1 takes no time to make, 2 takes minutes to hours
    ///
    /// To find other parameters for one of the addresses by trial takes an attacker some 2^59 hashes with 0, and 2^16 times
    /// as many for each step more. Making the set takes 2^16 times as many for each step too: 65536 with 1, 4.3 thousand
    /// million with 2.
    #[arg(long, value_name = "N", value_parser = sec, default_value = "1")]
    sec: Sec,
    /// Make an RSA key for the set, of 2048 bits or this many
    ///
    /// With it this host can sign for addresses that are not in the set. Everybody who is shown the parameters sees the
    /// public key, and knows this host again by it.
    #[arg(long, value_name = "BITS", value_parser = key_bits, num_args = 0..=1, require_equals = true,
          default_missing_value = "2048", conflicts_with = "key")]
    new_key: Option<usize>,
    /// Use this RSA key (PKCS#8 in PEM, mode 0600), which is copied
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Put the new identity in the place of one that is there, whose key and addresses are kept beside it
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    identity: IdentityArgs,
}

/// What is printed with `--json` of a set that was made.
#[derive(Debug, Serialize)]
pub(super) struct Printed<'a> {
    #[serde(flatten)]
    set: Description,
    identity: &'a Path,
    former: Option<&'a Path>,
    former_key: Option<&'a Path>,
    hashes: u64,
}

/// Makes a set of addresses and writes it.
///
/// # Errors
///
/// When there can be no such set, when there is an identity already, or when it cannot be written.
pub fn run(args: GenerateArgs) -> anyhow::Result<ExitCode> {
    let store = args.identity.store()?;
    let key = match (&args.key, args.new_key) {
        (Some(path), _) => KeyChoice::Given(Box::new(load_key(path)?)),
        (None, Some(bits)) => KeyChoice::New(bits),
        (None, None) => KeyChoice::Nonce,
    };
    let prefixes = if args.prefixes.is_empty() {
        of_uplinks()?
    } else {
        args.prefixes
    };
    check_prefixes(&prefixes, key.max_prefixes()).map_err(UsageError)?;
    let writer = store.lock()?;
    let former = former(&store, args.force)?;
    let plan = Plan {
        prefixes,
        sec: args.sec,
        key,
        threads: args.search.threads(),
        seed: args.search.seed,
    };
    let Some(made) = make(&writer, plan, former.as_ref().map(|former| &former.set))? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    drop(writer);
    let former_key = former
        .and_then(|former| former.key)
        .filter(|key| Some(key) != made.saved.key.as_ref());
    let text = if args.json {
        serde_json::to_string(&printed(&made, former_key.as_deref()))? + "\n"
    } else {
        in_words(&made, former_key.as_deref(), &args.identity.repeated())
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

impl KeyChoice {
    /// How many prefixes fit a message beside this public key field.
    pub(super) fn max_prefixes(&self) -> usize {
        match self {
            Self::Nonce => MAX_PREFIXES,
            Self::New(bits) => max_prefixes(public_key_len(*bits)),
            Self::Given(key) => max_prefixes(key.public_key().spki().len()),
        }
    }
}

/// The prefixes of the uplinks that the daemon would use.
fn of_uplinks() -> anyhow::Result<Vec<SubnetPrefix>> {
    let hints = daemon::hints(&configuration()?);
    let uplinks = block_on(async { Ok(uplink::discover(&Netlink::connect()?, &hints).await?) });
    let uplinks =
        uplinks.map_err(|error| error.context("no prefix is given, and there is none to be found; give some"))?;
    for uplink in &uplinks {
        say(format_args!("Uplink {}: {}/64", uplink.interface, uplink.prefix));
    }
    if let [only] = uplinks.as_slice() {
        say(format_args!(
            "{} is the only uplink: a set of one address cannot move anywhere.",
            only.interface
        ));
    }
    let prefixes = uplinks.iter().map(|uplink| {
        let wrong = |error| UsageError(format!("uplink {}: {error}", uplink.interface));
        Ok(prefix(&format!("{}/64", uplink.prefix)).map_err(wrong)?)
    });
    prefixes.collect()
}

/// The identity that gets replaced, if that is wanted and it can be read.
fn former(store: &Store, force: bool) -> anyhow::Result<Option<PublicIdentity>> {
    match store.load_public() {
        Ok(None) => Ok(None),
        Ok(Some(former)) if force => Ok(Some(former)),
        Ok(Some(former)) if former.automatic => anyhow::bail!(
            "the daemon has made an identity in {} already; to put another in its place: --force",
            store.directory().display()
        ),
        Ok(Some(_)) => anyhow::bail!(
            "there is an identity in {} already; for new addresses under its prefixes: shim6 address rotate; to put \
             another in its place: --force",
            store.directory().display()
        ),
        Err(error) if force => {
            say(format_args!("shim6: what is replaced is no identity: {error}"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn printed<'a>(made: &'a Made, former_key: Option<&'a Path>) -> Printed<'a> {
    Printed {
        set: made.description(),
        identity: &made.saved.identity,
        former: made.saved.former.as_deref(),
        former_key,
        hashes: made.hashes,
    }
}

fn in_words(made: &Made, former_key: Option<&Path>, option: &str) -> String {
    let mut text = made.description().text();
    let _ = write!(
        text,
        "\n{}hashes:          {}\n",
        made.files(former_key),
        count(made.hashes)
    );
    let _ = write!(
        text,
        "\nNext:\n  \
         - start the daemon again: one that runs keeps its addresses until then\n  \
         - put the addresses into DNS: shim6 address dns NAME{option}\n"
    );
    text
}

impl Made {
    pub(super) fn description(&self) -> Description {
        Description::new(&PublicIdentity {
            set: self.set.clone(),
            created: self.created,
            automatic: false,
            key: self.saved.key.clone(),
        })
    }

    /// Where everything is.
    pub(super) fn files(&self, former_key: Option<&Path>) -> String {
        let lines = [
            ("identity", Some(self.saved.identity.as_path())),
            ("private key", self.saved.key.as_deref()),
            ("former identity", self.saved.former.as_deref()),
            ("former key", former_key),
        ];
        let lines = lines.iter().filter_map(|(name, path)| Some((name, (*path)?)));
        lines.fold(String::new(), |mut text, (name, path)| {
            let _ = writeln!(text, "{:<17}{}", format!("{name}:"), path.display());
            text
        })
    }
}
