//! Which traffic gets contexts is decided by the rules.

use shim6_tests::isolated;

use crate::reload::{drop_in, reloaded};
use crate::restart::{Requests, until};
use crate::set_up::{established, running, stopped};

#[test]
fn only_traffic_that_a_rule_names_makes_a_context() {
    isolated("policy::only_traffic_that_a_rule_names_makes_a_context", || async {
        let (stage, ulids) = running("\n[[policy]]\nprotect = false\nanswer = true\n").await;
        let (named, other) = (Requests::start(&stage, ulids), Requests::start(&stage, ulids));
        let daemon = stage.daemon_a().expect("it runs");
        for flow in [&named, &other] {
            flow.go_on(&stage).await;
        }
        assert_eq!(
            daemon.status().await.expect("a status").contexts,
            [],
            "nothing is named"
        );

        // The rules of later files come behind, so the main file's has to make room.
        let main = daemon.socket().with_file_name("shim6.toml");
        let text = std::fs::read_to_string(&main).expect("the main file");
        let port = named.port;
        let first = format!("[[policy]]\nprotocols = \"udp\"\nports = {port}\npackets = 20\n\n[[policy]]\nprotect");
        drop(named);
        std::fs::write(&main, text.replace("[[policy]]\nprotect", &first)).expect("the main file");
        reloaded(daemon);
        other.go_on(&stage).await;
        other.go_on(&stage).await;
        assert_eq!(
            daemon.status().await.expect("a status").contexts,
            [],
            "another port is none of those named"
        );

        let text = std::fs::read_to_string(&main).expect("the main file");
        let both = format!("ports = [{port}, {}]", other.port);
        std::fs::write(&main, text.replace(&format!("ports = {port}"), &both)).expect("the main file");
        reloaded(daemon);
        established(&stage, ulids).await;
        drop(other);
        stopped(stage).await;
    });
}

#[test]
fn a_peer_that_is_not_to_be_answered_gets_no_context() {
    isolated("policy::a_peer_that_is_not_to_be_answered_gets_no_context", || async {
        let (stage, ulids) = running("").await;
        let daemon = stage.daemon_b().expect("it runs");
        drop_in(
            daemon,
            "10.toml",
            &format!("[[policy]]\npeer = \"{}\"\nprotect = false\n", ulids[0]),
        );
        reloaded(daemon);
        let requests = Requests::start(&stage, ulids);
        until("host b refuses", &stage, async || {
            let status = daemon.status().await.expect("a status");
            status.counters.discards["not_answered"] > 0
        })
        .await;
        requests.go_on(&stage).await;
        let status = daemon.status().await.expect("a status");
        assert_eq!(status.contexts, []);
        assert_eq!(status.counters.sent.get("R1"), None, "{:?}", status.counters);
        drop(requests);
        stopped(stage).await;
    });
}
