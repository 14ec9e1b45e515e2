//! The checks against a host of this stack, in virtual time, as it is and with faults.

mod expected;
mod faults;
mod host;

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use self::expected::{COARSE, FAULTS};
use self::faults::Fault;
use self::host::Target;
use super::{Finding, Outcome, Plan, Run, Trigger, all};

const PREFIXES: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0x2001, 0xdb8, 0xa2, 0, 0, 0, 0, 0),
];

/// All checks against a host with this fault.
async fn play(prefixes: &[Ipv6Addr], trigger: Trigger, fault: Fault) -> Vec<Finding> {
    let target = Target::new(fault);
    let plan = Plan {
        target: target.ulid(),
        prefixes: prefixes.to_vec(),
        checks: all().to_vec(),
        trigger,
        seed: 5533,
    };
    let run = Run::new(&plan).expect("addresses");
    let wire = target.start();
    run.play(wire, |_| {}).await.expect("the target speaks Shim6")
}

fn failed(findings: &[Finding]) -> BTreeSet<&'static str> {
    let failed = findings.iter().filter(|finding| finding.outcome == Outcome::Fail);
    failed.map(|finding| finding.id).collect()
}

fn describe(findings: &[Finding]) -> String {
    let told = findings.iter().filter(|finding| finding.outcome != Outcome::Pass);
    told.map(|finding| {
        format!(
            "{} {:?}: {}\n",
            finding.id,
            finding.outcome,
            finding.reason.as_deref().unwrap_or_default()
        )
    })
    .collect()
}

#[test]
fn ids_are_different_and_well_formed() {
    let ids: BTreeSet<_> = all().iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), all().len());
    assert!(all().len() >= 80);
    for check in all() {
        assert!(["5533", "5534"].contains(&check.rfc()), "{}", check.id);
        assert!(
            check.section().split('.').all(|part| part.parse::<u8>().is_ok()),
            "{}",
            check.id
        );
        assert!(check.title.ends_with('.'), "{}", check.id);
        assert!(
            check.is_meant_by(check.id) && check.is_meant_by(check.section()),
            "{}",
            check.id
        );
    }
}

#[test]
fn selection_goes_by_section() {
    let meant = |said: &str| all().iter().filter(|check| check.is_meant_by(said)).count();
    assert!(meant("7.9") > 0 && meant("7.9") < meant("7") && meant("7") < meant("5533"));
    // Section 5.1 is not the start of 5.15.
    let sections: BTreeSet<_> = all()
        .iter()
        .filter(|check| check.is_meant_by("5533-5.1"))
        .map(|check| check.section())
        .collect();
    assert_eq!(sections, BTreeSet::from(["5.1"]));
    assert_eq!(meant("5533-99"), 0);
    assert_eq!(meant(""), 0);
}

#[tokio::test(start_paused = true)]
async fn every_check_applies_to_this_stack_and_none_fails() {
    let findings = play(&PREFIXES, Trigger::Echo(200), Fault::None).await;
    assert_eq!(findings.len(), all().len());
    assert!(
        findings.iter().all(|finding| finding.outcome == Outcome::Pass),
        "{}",
        describe(&findings)
    );
}

#[tokio::test(start_paused = true)]
async fn what_takes_a_second_prefix_or_a_trigger_does_not_apply_without() {
    let findings = play(&PREFIXES[..1], Trigger::None, Fault::None).await;
    assert!(failed(&findings).is_empty(), "{}", describe(&findings));
    let not = findings
        .iter()
        .filter(|finding| finding.outcome == Outcome::NotApplicable);
    let reasons: BTreeSet<_> = not.filter_map(|finding| finding.reason.as_deref()).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
}

/// Each fault makes those checks fail that are about it, and no other.
#[tokio::test(start_paused = true)]
async fn each_fault_is_found_by_the_checks_that_are_about_it() {
    let mut wrong = String::from("what differs:\n");
    let mut unfound: BTreeSet<_> = all().iter().map(|check| check.id).collect();
    for fault in COARSE {
        let found = failed(&play(&PREFIXES, Trigger::Echo(200), *fault).await);
        assert!(!found.is_empty(), "{fault:?}");
        unfound.retain(|id| !found.contains(id));
    }
    for (fault, expected) in FAULTS {
        let found = failed(&play(&PREFIXES, Trigger::Echo(200), *fault).await);
        unfound.retain(|id| !found.contains(id));
        let expected: BTreeSet<_> = expected.iter().copied().collect();
        if found != expected {
            let more: Vec<_> = found.difference(&expected).collect();
            let less: Vec<_> = expected.difference(&found).collect();
            wrong += &format!("{fault:?}: also {more:?}, not {less:?}\n");
        }
    }
    assert_eq!(wrong.lines().count(), 1, "{wrong}");
    // Each check can fail.
    assert!(unfound.is_empty(), "no fault is found by {unfound:?}");
}
