use super::super::run::{FaultRecord, Remains, SessionRecord};
use super::super::sample::{HostSample, StatusSample};
use super::super::schedule::FaultKind;
use super::super::session::Kind;
use super::*;

/// A run of forty minutes in which all is well.
pub(in crate::soak) fn made_up() -> Outcome {
    let fault = |from_s: f64, kind| FaultRecord {
        kind,
        what: "uplink 0 of a".to_owned(),
        from_s,
        until_s: from_s + 2.0,
        longest_stall_s: 0.0,
        stalled: 0,
    };
    let session = |number: usize| SessionRecord {
        name: Kind::of(number).name(number),
        kind: Kind::of(number),
        octets: 1000,
        sent: 10,
        arrived: 9,
        stalls: Vec::new(),
        lost: None,
    };
    let mut outcome = Outcome {
        command: "netbench soak --minutes 10 <&>".to_owned(),
        version: "0.1.0".to_owned(),
        observation: "ebpf".to_owned(),
        kernel: "6.18".to_owned(),
        cores: 2,
        seed: 1,
        seconds: 2400.0,
        patience_s: 20.0,
        pairs: 4,
        broken_off: None,
        faults: vec![fault(10.0, FaultKind::Blackhole), fault(30.0, FaultKind::DaemonKilled)],
        sessions: (0..8).map(session).collect(),
        samples: (0..2400).map(|second| sample(f64::from(second))).collect(),
        remains: Remains {
            home_after_s: Some(2.5),
            contexts: [4; 2],
            ..Remains::default()
        },
        verdicts: Vec::new(),
    };
    outcome.verdicts = judge(&outcome);
    outcome
}

fn sample(at_s: f64) -> Sample {
    let process = ProcessSample {
        pid: 100,
        resident_kb: 30_000,
        // A sawtooth.
        anonymous_kb: 10_000 + (at_s as u64 % 7) * 100,
        descriptors: 40,
        bpf_descriptors: 6,
        threads: 8,
        cpu_s: at_s / 20.0,
    };
    let host = HostSample {
        died: false,
        process: Some(process),
        status: Some(StatusSample {
            contexts: 4,
            ..StatusSample::default()
        }),
        kernel: Some(KernelSample {
            routes: 10,
            steering_routes: 0,
            rules: 4,
            addresses: 8,
        }),
    };
    Sample {
        at_s,
        hosts: [host; 2],
        octets: [at_s as u64 * 1000; 4],
        lost: 0,
        load: 1.5,
    }
}

/// What fails when this is done to it.
fn failed(change: impl FnOnce(&mut Outcome)) -> Vec<String> {
    let mut outcome = made_up();
    change(&mut outcome);
    let verdicts = judge(&outcome);
    verdicts
        .into_iter()
        .filter(Verdict::is_failed)
        .map(|verdict| verdict.what)
        .collect()
}

fn process(outcome: &mut Outcome, side: usize, change: impl Fn(f64, &mut ProcessSample)) {
    for sample in &mut outcome.samples {
        let at_s = sample.at_s;
        sample.hosts[side]
            .process
            .iter_mut()
            .for_each(|process| change(at_s, process));
    }
}

#[test]
fn run_in_which_all_is_well_passes() {
    let outcome = made_up();
    assert!(outcome.is_passed(), "{:#?}", outcome.verdicts);
    assert!(
        outcome
            .verdicts
            .iter()
            .all(|verdict| verdict.finding == Finding::Passed)
    );
}

#[test]
fn each_thing_that_goes_wrong_fails_its_verdict_alone() {
    assert_eq!(
        failed(|o| o.sessions[3].lost = Some("broken".to_owned())),
        ["sessions lost"]
    );
    assert_eq!(failed(|o| o.sessions.clear()), ["sessions lost"]);
    assert_eq!(failed(|o| o.faults.clear()), ["the run itself"]);
    assert_eq!(
        failed(|o| o.broken_off = Some("no route".to_owned())),
        ["the run itself"]
    );
    let died = ["daemons that ended by themselves"];
    assert_eq!(failed(|o| o.samples[300].hosts[1].died = true), died);
    assert_eq!(failed(|o| o.remains.bad_exits.push("host a: 1".to_owned())), died);
    assert_eq!(failed(|o| o.remains.home_after_s = None), ["back on their own paths"]);
    assert_eq!(
        failed(|o| o.remains.problems.push("no".to_owned())),
        ["back on their own paths"]
    );
    assert_eq!(failed(|o| o.remains.contexts = [4, 5]), ["contexts"]);
    assert_eq!(failed(|o| o.remains.contexts_after = [1, 0]), ["contexts"]);
    assert_eq!(
        failed(|o| o.remains.leftovers.push("+ rule".to_owned())),
        ["left behind by the daemons"]
    );
}

#[test]
fn route_that_stays_fails_its_host() {
    let one_more = |o: &mut Outcome| {
        for sample in &mut o.samples[200..] {
            sample.hosts[1].kernel.iter_mut().for_each(|kernel| kernel.routes += 1);
        }
    };
    assert_eq!(failed(one_more), ["routes, rules, addresses of b"]);
    let steered = |o: &mut Outcome| {
        for sample in &mut o.samples {
            sample.hosts[0]
                .kernel
                .iter_mut()
                .for_each(|kernel| kernel.steering_routes = 2);
        }
    };
    assert_eq!(failed(steered), ["routes, rules, addresses of a"]);
}

#[test]
fn descriptor_that_is_lost_each_minute_is_noticed() {
    let leak = |o: &mut Outcome| process(o, 0, |at_s, process| process.descriptors += at_s as u64 / 60);
    assert_eq!(failed(leak), ["descriptors and threads of a"]);
    let kept = |o: &mut Outcome| process(o, 0, |at_s, process| process.descriptors += (at_s as u64 / 120).min(6));
    assert_eq!(failed(kept), [""; 0]);
    let once = |o: &mut Outcome| {
        process(o, 0, |at_s, process| {
            process.descriptors += u64::from((2000.0..2010.0).contains(&at_s)) * 20
        })
    };
    assert_eq!(failed(once), [""; 0]);
}

#[test]
fn memory_that_grows_slowly_is_noticed_and_one_that_is_full_soon_is_not() {
    let leak = |o: &mut Outcome| process(o, 0, |at_s, process| process.anonymous_kb += at_s as u64 / 2);
    assert_eq!(failed(leak), ["memory of a"]);
    let full = |o: &mut Outcome| {
        process(o, 0, |at_s, process| {
            process.anonymous_kb += (at_s as u64 * 50).min(9000)
        })
    };
    assert_eq!(failed(full), [""; 0]);
}

#[test]
fn restart_hides_no_growth_and_is_none() {
    let lives = |growth: u64| {
        move |o: &mut Outcome| {
            process(o, 1, |at_s, process| {
                let life = u64::from(at_s >= 700.0);
                process.pid += life as u32;
                process.anonymous_kb += (at_s as u64 - life * 700) * growth + life * 700;
            });
        }
    };
    assert_eq!(failed(lives(3)), ["memory of b"]);
    assert_eq!(failed(lives(0)), [""; 0]);
}

#[test]
fn memory_of_a_short_run_is_not_judged() {
    let mut outcome = made_up();
    outcome.samples.truncate(60);
    outcome.seconds = 60.0;
    let verdicts = judge(&outcome);
    let unjudged = verdicts.iter().filter(|verdict| verdict.finding == Finding::NotJudged);
    assert_eq!(unjudged.count(), 2);
    assert!(!verdicts.iter().any(Verdict::is_failed), "{verdicts:#?}");
}
