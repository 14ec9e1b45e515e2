use super::*;

const USER: Option<u32> = Some(1_000);
const OTHER: Option<u32> = Some(1_001);

fn at(ms: u64) -> Instant {
    Instant::from_micros(1_000_000 + ms * 1_000)
}

fn about(context: u64, heard: Option<Instant>) -> Subject {
    Subject {
        context,
        send_timeout: Duration::from_millis(500),
        heard,
    }
}

/// In how many milliseconds it would be heeded; `None`: it is.
fn wait(limits: &mut AdviceLimits, ms: u64, user: Option<u32>, about: Subject, advice: Advice) -> Option<u64> {
    match limits.admit(at(ms), user, about, advice) {
        Ok(()) => None,
        Err(Objection::SessionRefused { retry_ms, .. }) => Some(retry_ms.unwrap_or(u64::MAX)),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn bad_news_of_a_context_is_heeded_once_in_a_while_whoever_brings_it() {
    let mut limits = AdviceLimits::default();
    let mut bad = |ms, user, context| wait(&mut limits, ms, user, about(context, None), Advice::Negative);
    assert_eq!(bad(0, USER, 7), None);
    assert_eq!(bad(1, OTHER, 7), Some(999));
    assert_eq!(bad(1, USER, 8), None, "another context");
    assert_eq!(bad(999, USER, 7), Some(1));
    assert_eq!(bad(1_000, OTHER, 7), None);
}

#[test]
fn a_slow_context_takes_bad_news_no_faster_than_it_would_notice_a_failure_itself() {
    let mut limits = AdviceLimits::default();
    let slow = Subject {
        send_timeout: Duration::from_secs(15),
        ..about(7, None)
    };
    assert_eq!(wait(&mut limits, 0, USER, slow, Advice::Negative), None);
    assert_eq!(wait(&mut limits, 14_000, USER, slow, Advice::Negative), Some(1_000));
}

#[test]
fn good_news_is_believed_only_while_the_peer_is_heard() {
    let mut limits = AdviceLimits::default();
    let mut good = |ms, heard| wait(&mut limits, ms, USER, about(7, heard), Advice::Positive);
    assert_eq!(good(0, None), Some(u64::MAX), "never heard");
    assert_eq!(good(1, Some(at(0))), None);
    assert_eq!(good(50, Some(at(0))), Some(51), "too early");
    assert_eq!(good(2_000, Some(at(0))), None, "four Send Timeouts ago");
    assert_eq!(good(2_101, Some(at(0))), Some(u64::MAX));
}

#[test]
fn one_user_who_talks_much_takes_nothing_from_another() {
    let mut limits = AdviceLimits::default();
    let heeded = (0..100).filter(|&context| {
        let subject = about(context, None);
        wait(&mut limits, 0, USER, subject, Advice::Negative).is_none()
    });
    assert_eq!(heeded.count(), BURST as usize + 1);
    assert_eq!(wait(&mut limits, 0, OTHER, about(500, None), Advice::Negative), None);
    assert_eq!(
        wait(&mut limits, 0, USER, about(501, None), Advice::Negative),
        Some(100)
    );
    assert_eq!(wait(&mut limits, 100, USER, about(501, None), Advice::Negative), None);
}

#[test]
fn what_is_over_is_forgotten() {
    let mut limits = AdviceLimits::default();
    for number in 0..2_000 {
        let user = Some(u32::try_from(number).expect("a small number"));
        assert_eq!(
            wait(
                &mut limits,
                number * 10_000,
                user,
                about(number, None),
                Advice::Negative
            ),
            None
        );
    }
    assert!(limits.users.len() + limits.contexts.len() <= MANY + 2, "{limits:?}");
}
