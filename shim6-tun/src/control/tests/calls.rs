//! Single calls: what is answered, what is refused, and the bounds.

use super::super::server::{MAX_CONNECTIONS, MAX_REQUEST};
use super::super::wire::DESCRIPTION;
use super::*;

#[tokio::test]
async fn status_comes_back_as_the_daemon_gave_it() {
    let fixture = Fixture::start();
    let mut client = Client::connect(&fixture.path()).await.expect("a client");
    assert_eq!(client.status().await.expect("a status"), sample());
    assert_eq!(
        client.status().await.expect("a second one on the same connection"),
        sample()
    );
}

#[tokio::test]
async fn the_wire_is_varlink() {
    let fixture = Fixture::start();
    let answer = fixture.ask(&json!({ "method": "org.shim6.Status" })).await;
    assert_eq!(answer, json!({ "parameters": sample() }));
    let info = fixture
        .ask(&json!({ "method": "org.varlink.service.GetInfo", "parameters": {} }))
        .await;
    assert_eq!(
        info["parameters"]["interfaces"],
        json!(["org.varlink.service", "org.shim6"])
    );
    let asked = json!({
        "method": "org.varlink.service.GetInterfaceDescription",
        "parameters": { "interface": "org.shim6" }
    });
    let description = fixture.ask(&asked).await;
    let description = description["parameters"]["description"]
        .as_str()
        .expect("a description")
        .to_owned();
    assert!(description.contains("interface org.shim6\n"), "{description}");
    let methods = [
        "Status",
        "Events",
        "Contexts",
        "GetContext",
        "Paths",
        "Probe",
        "Move",
        "Close",
        "Reload",
        "GetSession",
        "Protect",
        "Prefer",
        "Pin",
        "Advise",
        "Fork",
        "Join",
        "SessionEvents",
    ];
    for method in methods {
        assert!(
            description.contains(&format!("method {method}(")),
            "{method} is not described"
        );
    }
}

#[tokio::test]
async fn a_reload_is_told_of_and_a_refused_one_says_why() {
    let fixture = Fixture::start();
    let mut client = Client::connect(&fixture.path()).await.expect("a client");
    assert_eq!(client.reload().await.expect("a configuration applied"), reloaded());
    match client.reload().await {
        Err(ControlError::ReloadRefused { problems }) => assert_eq!(problems, refusal().problems),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_description_has_every_field() {
    fn keys(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    found.push(key.clone());
                    // The keys of counters are data.
                    if key != "counters" {
                        keys(value, found);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let pair = sample().contexts[0].ulids;
    let objections = [too_soon(1), Objection::NoSuchContext { context: 7 }];
    let objections = objections.map(|objection| objection.describe().1);
    let documents = json!([
        sample(),
        event(1),
        path(),
        probe(pair),
        moved(pair),
        objections,
        reloaded(),
        refusal(),
        session_status(session(Some("tcp:5:6")))
    ]);
    keys(&documents, &mut found);
    found.retain(|key| key != "number");
    assert!(found.len() > 30, "{found:?}");
    for key in found {
        assert!(DESCRIPTION.contains(&format!("{key}: ")), "{key} is not described");
    }
}

#[tokio::test]
async fn what_is_not_offered_is_refused_by_name() {
    let fixture = Fixture::start();
    let cases = [
        (
            json!({ "method": "org.shim6.Reboot" }),
            "org.varlink.service.MethodNotFound",
            json!({ "method": "org.shim6.Reboot" }),
        ),
        (
            json!({ "method": "Status" }),
            "org.varlink.service.InterfaceNotFound",
            json!({ "interface": "" }),
        ),
        (
            json!({ "method": "com.example.Status" }),
            "org.varlink.service.InterfaceNotFound",
            json!({ "interface": "com.example" }),
        ),
        (
            json!({ "method": "org.shim6.Events" }),
            "org.varlink.service.ExpectedMore",
            json!({}),
        ),
        (
            json!({ "method": "org.shim6.Status", "parameters": { "verbose": true } }),
            "org.varlink.service.InvalidParameter",
            json!({ "parameter": "verbose" }),
        ),
        (
            json!({ "method": "org.varlink.service.GetInterfaceDescription" }),
            "org.varlink.service.InvalidParameter",
            json!({ "parameter": "interface" }),
        ),
    ];
    let mut stream = fixture.connect().await;
    for (request, error, parameters) in cases {
        let answer = exchange(&mut stream, request.to_string().as_bytes()).await;
        assert_eq!(
            answer,
            json!({ "error": error, "parameters": parameters }),
            "to {request}"
        );
    }
}

#[tokio::test]
async fn a_one_way_call_has_no_reply() {
    let fixture = Fixture::start();
    let mut stream = fixture.connect().await;
    let silent = json!({ "method": "org.shim6.Status", "oneway": true }).to_string() + "\0";
    stream.write_all(silent.as_bytes()).await.expect("a request sent");
    let answer = exchange(&mut stream, br#"{"method":"org.shim6.Reboot"}"#).await;
    assert_eq!(answer["error"], "org.varlink.service.MethodNotFound");
}

#[tokio::test]
async fn malformed_requests_are_told_and_cut_off() {
    let fixture = Fixture::start();
    let deep = "[".repeat(10_000);
    for request in [
        "",
        "{",
        "nonsense",
        "[]",
        r#"{"method":3}"#,
        r#"{"parameters":{}}"#,
        "\u{feff}{}",
        &deep,
    ] {
        let mut stream = fixture.connect().await;
        let answer = exchange(&mut stream, request.as_bytes()).await;
        assert_eq!(answer["error"], "org.shim6.MalformedRequest", "to {request:.20}");
        assert_closed(&mut stream).await;
    }
    let mut stream = fixture.connect().await;
    stream.write_all(b"{\"method\":").await.expect("half a request");
    stream.shutdown().await.expect("the end of it");
    assert_eq!(reply(&mut stream).await["error"], "org.shim6.MalformedRequest");
}

#[tokio::test]
async fn a_request_may_be_64_kib_and_no_more() {
    let fixture = Fixture::start();
    let padded = |length: usize| {
        let request = r#"{"method":"org.shim6.Status"}"#;
        request.to_owned() + &" ".repeat(length - request.len())
    };
    let mut stream = fixture.connect().await;
    let answer = exchange(&mut stream, padded(MAX_REQUEST).as_bytes()).await;
    assert_eq!(answer["parameters"]["tun"], "shim0");
    let answer = exchange(&mut stream, padded(MAX_REQUEST + 1).as_bytes()).await;
    assert_eq!(
        answer,
        json!({ "error": "org.shim6.RequestTooLarge", "parameters": { "limit": MAX_REQUEST } })
    );
    assert_closed(&mut stream).await;
}

#[tokio::test]
async fn further_connections_are_turned_away_until_one_is_free() {
    let fixture = Fixture::start();
    let mut open = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut client = Client::connect(&fixture.path()).await.expect("a client");
        client.status().await.expect("a status");
        open.push(client);
    }
    let mut surplus = fixture.connect().await;
    let expected = json!({ "error": "org.shim6.TooManyConnections", "parameters": { "limit": MAX_CONNECTIONS } });
    assert_eq!(reply(&mut surplus).await, expected);
    assert_closed(&mut surplus).await;
    let mut refused = Client::connect(&fixture.path()).await.expect("a client");
    let message = refused.status().await.expect_err("one too many").to_string();
    assert!(message.contains("org.shim6.TooManyConnections"), "{message}");
    open.pop();
    timeout(LONG, async {
        loop {
            let mut client = Client::connect(&fixture.path()).await.expect("a client");
            if client.status().await.is_ok() {
                return;
            }
        }
    })
    .await
    .expect("room again");
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let fixture = Fixture::with_patience(Patience {
        request: Duration::from_millis(20),
        ..Patience::default()
    });
    let mut stream = fixture.connect().await;
    stream.write_all(b"{").await.expect("the start of a request");
    assert_closed(&mut stream).await;
}

#[tokio::test]
async fn a_daemon_that_hangs_is_reported() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sock");
    let patience = Patience {
        answer: Duration::from_millis(20),
        ..Patience::default()
    };
    let server = Server::bind(&path).expect("a socket").with_patience(patience);
    let (requests, _never_read) = mpsc::channel(1);
    let (events, _) = broadcast::channel(1);
    tokio::spawn(server.serve(requests, events));
    let mut client = Client::connect(&path).await.expect("a client");
    // The first fills the queue, the second waits for room in it.
    for _ in 0..2 {
        let message = client.status().await.expect_err("no answer").to_string();
        assert!(message.contains("org.shim6.Unavailable"), "{message}");
    }
}

#[tokio::test]
async fn ten_thousand_contexts_fit_in_a_status() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sock");
    let (requests, mut asked) = mpsc::channel(1);
    let (events, _) = broadcast::channel(1);
    tokio::spawn(Server::bind(&path).expect("a socket").serve(requests, events));
    let mut large = sample();
    large.contexts = vec![large.contexts[0].clone(); 10_000];
    let expected = large.clone();
    tokio::spawn(async move {
        let Some(Request::Status(answer)) = asked.recv().await else {
            panic!("nobody asks");
        };
        answer.send(large).expect("somebody waits");
        // The server lives as long as somebody can be asked.
        drop(asked.recv().await);
    });
    let mut client = Client::connect(&path).await.expect("a client");
    assert!(
        client.status().await.expect("a status") == expected,
        "the status has changed on the way"
    );
}

#[tokio::test]
async fn contexts_and_pairs_come_back_as_the_daemon_gave_them() {
    let fixture = Fixture::start();
    let mut client = Client::connect(&fixture.path()).await.expect("a client");
    assert_eq!(client.contexts(None).await.expect("contexts"), sample().contexts);
    let peer = sample().contexts[0].peer_locators[1];
    assert_eq!(client.contexts(Some(peer)).await.expect("contexts").len(), 1);
    let stranger = Some(Ipv6Addr::LOCALHOST);
    assert_eq!(client.contexts(stranger).await.expect("contexts").len(), 0);
    let detail = client.context(7).await.expect("a context");
    assert_eq!(
        (detail.context, detail.paths),
        (sample().contexts.remove(0), vec![path()])
    );
    assert_eq!(client.paths(None).await.expect("paths"), [path()]);
    assert_eq!(client.paths(Some(7)).await.expect("paths"), [path()]);
    client.close(7).await.expect("it is closed");
}

#[tokio::test]
async fn what_comes_too_soon_waits_for_its_turn_if_that_is_soon() {
    let fixture = Fixture::start();
    let mut client = Client::connect(&fixture.path()).await.expect("a client");
    let pair = sample().contexts[0].ulids;
    assert_eq!(client.probe(7, Some(pair)).await.expect("an answer"), probe(pair));
    let error = client.move_to(7, Some(pair)).await.expect_err("that is too long");
    assert!(matches!(
        error,
        ControlError::Declined(Objection::PathRefused {
            retry_ms: Some(3_600_000),
            ..
        })
    ));
    assert_eq!(error.to_string(), "context 7: too soon");
    let in_use = sample().contexts[0].locators;
    assert_eq!(client.move_to(7, None).await.expect("an answer"), moved(in_use));
}

#[tokio::test]
async fn a_context_that_does_not_exist_is_named_with_the_remedy() {
    let fixture = Fixture::start();
    let mut client = Client::connect(&fixture.path()).await.expect("a client");
    let expected = "there is no context 8; to see those that there are: shim6 contexts";
    assert_eq!(client.context(8).await.expect_err("none").to_string(), expected);
    assert_eq!(client.paths(Some(8)).await.expect_err("none").to_string(), expected);
    assert_eq!(client.close(8).await.expect_err("none").to_string(), expected);
    assert_eq!(client.move_to(8, None).await.expect_err("none").to_string(), expected);
}

#[tokio::test]
async fn parameters_that_are_missing_unknown_or_of_another_type_are_named() {
    let fixture = Fixture::start();
    let cases = [
        ("Close", json!({}), "context"),
        ("Close", json!({ "context": "seven" }), "context"),
        ("Close", json!({ "context": -1 }), "context"),
        ("Close", json!({ "context": 7, "force": true }), "force"),
        ("Contexts", json!({ "peer": "example.org" }), "peer"),
        ("Contexts", json!({ "peer": "192.0.2.1" }), "peer"),
        ("Probe", json!({ "context": 7, "pair": { "local": "::1" } }), "pair"),
        ("Move", json!({ "context": 7, "pair": "::1" }), "pair"),
        ("Paths", json!({ "context": 1.5 }), "context"),
    ];
    let mut stream = fixture.connect().await;
    for (method, parameters, named) in cases {
        let request = json!({ "method": format!("org.shim6.{method}"), "parameters": parameters });
        let answer = exchange(&mut stream, request.to_string().as_bytes()).await;
        assert_eq!(answer["error"], "org.varlink.service.InvalidParameter", "to {request}");
        assert_eq!(answer["parameters"]["parameter"], named, "to {request}");
    }
}

#[test]
fn types_methods_and_errors_of_the_interface_have_names_of_their_own() {
    let mut names = Vec::new();
    for line in DESCRIPTION.lines() {
        let member = ["type ", "method ", "error "]
            .iter()
            .find_map(|kind| line.strip_prefix(kind));
        names.extend(member.and_then(|rest| rest.split(['(', ' ']).next()));
    }
    assert!(names.len() > 20, "{names:?}");
    for objection in ["NoSuchContext", "PathRefused", "NotProved"] {
        assert!(names.contains(&objection));
    }
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
}
