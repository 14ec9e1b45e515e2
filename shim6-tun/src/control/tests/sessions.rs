//! What programs ask for their sessions.

use super::*;

#[tokio::test]
async fn each_wish_reaches_the_daemon_with_its_session() {
    let fixture = Fixture::start();
    let mut client = Client::connect(&fixture.path()).await.expect("a client");
    let (all, one) = (session(None), session(Some("tcp:5:6")));
    assert_eq!(client.session(all).await.expect("a session"), session_status(all));
    assert_eq!(client.session(one).await.expect("a session"), session_status(one));
    for when in [Protect::Now, Protect::Never, Protect::ByPolicy] {
        assert_eq!(client.protect(all, when).await.expect("a session"), session_status(all));
    }
    for pair in [None, Some(all.pair())] {
        assert_eq!(client.prefer(all, pair).await.expect("a session"), session_status(all));
        assert_eq!(client.pin(all, pair).await.expect("a move"), moved(all.pair()));
    }
    assert_eq!(client.fork(one).await.expect("a session"), session_status(one));
    assert_eq!(client.join(one).await.expect("a session"), session_status(one));
    let good = client.advise(all, Advice::Positive).await.expect("advice taken");
    let bad = client.advise(all, Advice::Negative).await.expect("advice taken");
    assert_eq!((good.reap.as_str(), bad.reap.as_str()), ("operational", "exploring"));
}

#[tokio::test]
async fn a_session_that_the_daemon_refuses_is_refused_to_all_who_ask() {
    let fixture = Fixture::start();
    let strange = SessionName {
        peer: "2001:db8:bad::1".parse().expect("an address"),
        ..session(None)
    };
    let mut client = Client::connect(&fixture.path()).await.expect("a client");
    let refused = client.session(strange).await.expect_err("a refusal").to_string();
    assert_eq!(refused, "no such session");
    assert!(client.fork(strange).await.is_err() && client.advise(strange, Advice::Negative).await.is_err());
    assert!(client.session_events(strange).await.is_err());
}

#[tokio::test]
async fn what_names_no_session_never_reaches_the_daemon() {
    let fixture = Fixture::start();
    let good = json!(session(Some("tcp:5:6")));
    let mut wrong = Vec::new();
    for (name, value) in [
        ("protocol", 58),
        ("protocol", 256),
        ("local_port", 0),
        ("peer_port", 65_536),
        ("flag", 1),
    ] {
        let mut session = good.clone();
        session["flow"][name] = json!(value);
        wrong.push(json!({ "session": session }));
    }
    wrong.push(json!({ "session": { "local": "::1" } }));
    wrong.push(json!({ "session": { "local": "127.0.0.1", "peer": "::1" } }));
    wrong.push(json!({ "session": null }));
    wrong.push(json!({}));
    for parameters in wrong {
        let answer = fixture
            .ask(&json!({ "method": "org.shim6.GetSession", "parameters": parameters }))
            .await;
        assert_eq!(answer["error"], "org.varlink.service.InvalidParameter", "{parameters}");
        assert_eq!(answer["parameters"]["parameter"], "session", "{parameters}");
    }
    for (method, parameter, value) in [
        ("Protect", "protection", json!("sometimes")),
        ("Protect", "protection", json!(null)),
        ("Advise", "advice", json!("")),
        ("Prefer", "pair", json!({ "local": "::1" })),
        ("Pin", "pair", json!(7)),
    ] {
        let method = format!("org.shim6.{method}");
        let answer = fixture
            .ask(&json!({ "method": method, "parameters": { "session": good, parameter: value } }))
            .await;
        assert_eq!(
            answer["error"], "org.varlink.service.InvalidParameter",
            "{method} {value}"
        );
        assert_eq!(answer["parameters"]["parameter"], parameter, "{method} {value}");
    }
    let answer = fixture
        .ask(&json!({ "method": "org.shim6.SessionEvents", "parameters": { "session": good } }))
        .await;
    assert_eq!(answer["error"], "org.varlink.service.ExpectedMore");
}

#[tokio::test]
async fn a_session_s_stream_has_its_events_and_no_others() {
    let fixture = Fixture::start();
    let client = Client::connect(&fixture.path()).await.expect("a client");
    let mut stream = client.session_events(session(Some("tcp:5:6"))).await.expect("a stream");
    let mut mine = event(1);
    mine.context = Some(7);
    mine.detail = json!({ "ulids": session(None).pair(), "forked_instance": 3 });
    let mut default = mine.clone();
    (default.context, default.detail["forked_instance"]) = (Some(6), json!(0));
    let mut other = mine.clone();
    other.detail["ulids"]["peer"] = json!("2001:db8:bad::1");
    for event in [event(0), default, other, mine.clone()] {
        fixture.events.send(event).expect("a subscriber");
    }
    let next = timeout(LONG, stream.next()).await.expect("in time").expect("no error");
    assert_eq!(next, Some(mine));
}
