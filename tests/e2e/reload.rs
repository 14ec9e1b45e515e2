//! A daemon that runs takes another configuration whole, or not at all.

use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shim6_tests::{binary, isolated};
use shim6_tun::control::Client;
use shim6_tun::demo::daemon::Daemon;
use shim6_tun::lab::Failure;

use crate::restart::{LIMIT, Requests, moved, until};
use crate::set_up::{established, protected, running, stopped};

/// Writes a drop-in file for a daemon.
pub(crate) fn drop_in(daemon: &Daemon, name: &str, text: &str) {
    let directory = daemon.socket().with_file_name("shim6.toml.d");
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join(name), text).expect("a file");
}

pub(crate) fn reload(daemon: &Daemon) -> Output {
    Command::new(binary::shim6())
        .args(["reload", "--socket"])
        .arg(daemon.socket())
        .output()
        .expect("shim6 runs")
}

/// Reloads what must be taken, and gives what is said of it.
pub(crate) fn reloaded(daemon: &Daemon) -> String {
    let output = reload(daemon);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    said
}

/// Reloads what must be refused, and gives the reasons.
fn refused(daemon: &Daemon) -> String {
    let output = reload(daemon);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_good_file_is_taken_and_sessions_go_on() {
    isolated("reload::a_good_file_is_taken_and_sessions_go_on", || async {
        let (stage, ulids, requests) = protected("").await;
        let before = stage.context_a(ulids).await.expect("a status").expect("a context");

        let daemon = stage.daemon_a().expect("it runs");
        assert_eq!(reloaded(daemon), "nothing has changed\n");
        drop_in(
            daemon,
            "10.toml",
            "[limits]\nquiescence = \"1h\"\n[trigger]\npackets = 7\n",
        );
        let said = reloaded(daemon);
        assert!(said.contains("trigger.packets: 10 -> 7\n"), "{said}");
        assert!(said.contains("limits.quiescence: \"2h 4m\" -> \"1h\"\n"), "{said}");
        requests.go_on(&stage).await;
        let after = stage.context_a(ulids).await.expect("a status").expect("a context");
        assert_eq!((before.id, before.failovers), (after.id, after.failovers));

        // By the signal as well, of which everybody is told.
        let mut events = Client::connect(daemon.socket())
            .await
            .expect("a client")
            .events()
            .await
            .expect("events");
        drop_in(daemon, "20.toml", "[trigger]\npackets = 8\n");
        let pid = daemon.pid().expect("it runs").cast_signed();
        kill(Pid::from_raw(pid), Signal::SIGHUP).expect("a signal");
        let told = tokio::time::timeout(LIMIT, async {
            loop {
                let event = events.next().await.expect("an event").expect("no end");
                if event.kind == "reload" {
                    return event;
                }
            }
        });
        let told = told.await.unwrap_or_else(|_| panic!("no event\n{}", stage.logs()));
        assert_eq!(told.detail["changed"][0], "trigger.packets", "{told:?}");
        requests.go_on(&stage).await;

        // What watches the packets may have been made anew for it: it still notices when they come to nothing.
        stage.cut(Failure::Blackhole).await.expect("a cut");
        moved(&stage, ulids).await;
        requests.go_on(&stage).await;
        drop(requests);
        stopped(stage).await;
    });
}

#[test]
fn a_bad_or_unreadable_file_or_a_key_that_needs_a_restart_changes_nothing() {
    let name = "reload::a_bad_or_unreadable_file_or_a_key_that_needs_a_restart_changes_nothing";
    isolated(name, || async {
        let (stage, ulids) = running("\n[[policy]]\nprotect = false\nanswer = true\n").await;
        let requests = Requests::start(&stage, ulids);
        let daemon = stage.daemon_a().expect("it runs");
        let main = daemon.socket().with_file_name("shim6.toml");
        let text = std::fs::read_to_string(&main).expect("the main file");
        let (protecting, _) = text.split_once("\n[[policy]]").expect("a rule");
        // What would be taken by itself is not, beside what is wrong.
        std::fs::write(&main, protecting).expect("the main file");
        drop_in(daemon, "bad.toml", "[trigger]\n\npackets = \"many\"\nocttets = 1\n");
        let said = refused(daemon);
        assert!(said.contains("bad.toml:3: trigger.packets: is a string; "), "{said}");
        assert!(
            said.contains("bad.toml:4: trigger.octtets: unknown key; did you mean octets?"),
            "{said}"
        );
        assert!(said.contains("nothing was changed"), "{said}");

        let bad = daemon.socket().with_file_name("shim6.toml.d").join("bad.toml");
        std::fs::remove_file(&bad).expect("it is there");
        std::os::unix::fs::symlink("/nonexistent", &bad).expect("a link");
        let said = refused(daemon);
        assert!(said.contains("bad.toml cannot be read"), "{said}");

        std::fs::remove_file(&bad).expect("it is there");
        drop_in(daemon, "bad.toml", "[tun]\nname = \"other0\"\n");
        let said = refused(daemon);
        assert!(
            said.contains("tun.name: \"shim0\" -> \"other0\" needs a restart"),
            "{said}"
        );

        // Far more packets than a context takes, were it not for the rule that still holds.
        requests.go_on(&stage).await;
        requests.go_on(&stage).await;
        assert_eq!(daemon.status().await.expect("a status").contexts, []);
        drop_in(daemon, "bad.toml", "");
        let said = reloaded(daemon);
        assert!(said.contains("policy[0].protect: false -> unset\n"), "{said}");
        established(&stage, ulids).await;
        drop(requests);
        stopped(stage).await;
    });
}

#[test]
fn a_preference_that_is_reloaded_is_told_to_the_peer() {
    isolated("reload::a_preference_that_is_reloaded_is_told_to_the_peer", || async {
        let (stage, ulids, requests) = protected("").await;
        let daemon = stage.daemon_a().expect("it runs");
        let uplinks = daemon.status().await.expect("a status").uplinks;
        let used = uplinks
            .iter()
            .find(|uplink| uplink.address == ulids[0])
            .expect("an uplink");
        // The uplink that the session began on costs money by now: both directions leave it, although it works.
        drop_in(
            daemon,
            "lte.toml",
            &format!("[[uplink]]\ninterface = {:?}\nmetered = true\n", used.interface),
        );
        let said = reloaded(daemon);
        assert!(
            said.contains("metered: false -> true\n") && said.contains("priority: 0 -> 255\n"),
            "{said}"
        );
        until("both directions leave the metered uplink", &stage, async || {
            let contexts = [stage.context_a(ulids).await, stage.context_b(ulids).await];
            let [Ok(Some(a)), Ok(Some(b))] = contexts else {
                return false;
            };
            a.locators.local != ulids[0] && b.locators.peer != ulids[0]
        })
        .await;
        requests.go_on(&stage).await;
        drop(requests);
        stopped(stage).await;
    });
}
