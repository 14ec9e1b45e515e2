//! `shim6 address rotate`: new addresses under the same prefixes.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use shim6_cga::{HbaSet, Sec};

use super::super::UsageError;
use super::super::output::{Table, count, print};
use super::args::{IdentityArgs, SearchArgs, check_prefixes, key_bits, sec};
use super::description::{Entry, style};
use super::generate;
use super::make::{KeyChoice, Made, Plan, distance, make, start};
use super::{INTERRUPTED, identity, none};
use crate::identity::StoredIdentity;

pub(super) const EXAMPLES: &str = "\
Example:
  shim6 address rotate
      gives each prefix another address

Modifier and nonce are new, so that only the prefixes are left of the old parameters. A set with a key keeps the key: the
public key in the parameters then links old and new addresses for whoever sees both, unless there is --new-key.";

/// What a seed cannot give twice: a search of more steps than this is beyond anybody.
const REACH: u64 = 1 << 48;

/// Arguments of `shim6 address rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Make an RSA key for the new set [default: the key that is there, if there is one; default size: 2048 bits]
    #[arg(long, value_name = "BITS", value_parser = key_bits, num_args = 0..=1, require_equals = true,
          default_missing_value = "2048")]
    new_key: Option<usize>,
    /// Security parameter, 0 to 2 [default: that of the present set]
    #[arg(long, value_name = "N", value_parser = sec)]
    sec: Option<Sec>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    identity: IdentityArgs,
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    new: generate::Printed<'a>,
    old: Vec<Entry>,
}

/// Makes a new set of addresses in place of the present one.
///
/// # Errors
///
/// When there is no set, or when the new one cannot be made or written.
pub fn run(args: RotateArgs) -> anyhow::Result<ExitCode> {
    let store = args.identity.store()?;
    // Before the lock, which would make the directory.
    let old_key = identity(&store)?.key;
    let writer = store.lock()?;
    let StoredIdentity { set: old, key, .. } = store.load()?.ok_or_else(|| none(&store))?;
    let keeps_key = key.is_some() && args.new_key.is_none();
    let plan = Plan {
        prefixes: old.prefixes().to_vec(),
        sec: args.sec.unwrap_or(old.sec()),
        key: match (args.new_key, key) {
            (Some(bits), _) => KeyChoice::New(bits),
            (None, Some(key)) => KeyChoice::Given(Box::new(key)),
            (None, None) => KeyChoice::Nonce,
        },
        threads: args.search.threads(),
        seed: args.search.seed,
    };
    check_prefixes(&plan.prefixes, plan.key.max_prefixes()).map_err(UsageError)?;
    check_seed(&plan, &old)?;
    let Some(made) = make(&writer, plan, Some(&old))? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    drop(writer);
    let former_key = old_key.filter(|_| !keeps_key);
    let text = if args.json {
        let printed = Printed {
            new: generate::printed(&made, former_key.as_deref()),
            old: Entry::all(&old),
        };
        serde_json::to_string(&printed)? + "\n"
    } else {
        in_words(&made, &old, former_key.as_deref(), keeps_key, &args.identity.repeated())
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A seed that the present set was made from would give its addresses again.
fn check_seed(plan: &Plan, old: &HbaSet) -> anyhow::Result<()> {
    let Some(seed) = &plan.seed else {
        return Ok(());
    };
    let key = match &plan.key {
        KeyChoice::New(_) => return Ok(()),
        KeyChoice::Nonce => None,
        KeyChoice::Given(key) => Some(key.public_key().spki()),
    };
    let first = start(&plan.prefixes, key, plan.sec, Some(seed))?.parameters();
    let old = old.parameters();
    if first.public_key() == old.public_key() && distance(first.modifier(), old.modifier()) < REACH {
        let wrong = "--seed: the present addresses were made from this seed; give another one";
        return Err(UsageError(wrong.to_owned()).into());
    }
    Ok(())
}

fn in_words(made: &Made, old: &HbaSet, former_key: Option<&Path>, keeps_key: bool, option: &str) -> String {
    let mut table = Table::new(&["PREFIX", "OLD ADDRESS", "NEW ADDRESS"], style());
    let addresses = old.addresses().iter().zip(made.set.addresses());
    for (prefix, (old, new)) in old.prefixes().iter().zip(addresses) {
        table.row([prefix.into(), old.into(), new.into()]);
    }
    let mut text = format!(
        "{}\nSec {}, found after {} hashes.\n{}",
        table.render(),
        made.set.sec(),
        count(made.hashes),
        made.files(former_key)
    );
    if keeps_key {
        text += "\nThe key is the old one, which links both sets for whoever sees their parameters (see --new-key).\n";
    }
    text += &format!(
        "\nNext:\n  \
         - start the daemon again: one that runs keeps the old addresses until then\n  \
         - let DNS follow, the old addresses out and the new ones in: shim6 address dns NAME{option}\n\
         To go back, put the former identity in the place of identity.toml.\n"
    );
    text
}
