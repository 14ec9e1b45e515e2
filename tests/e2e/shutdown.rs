//! What a daemon leaves behind: nothing.

use std::sync::Arc;

use shim6_tests::{binary, isolated};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::snapshot::Snapshot;
use shim6_tun::demo::stage::Stage;

use crate::plans::assert_clean;

#[test]
fn daemon_without_a_context_leaves_nothing_behind() {
    isolated("shutdown::daemon_without_a_context_leaves_nothing_behind", || async {
        let live = Arc::new(Live::default());
        let mut stage = Stage::build(binary::shim6(), live).await.expect("a lab");
        let host = stage.topology().a.namespace.clone();
        let before = Snapshot::take(&host, &[]).await.expect("a snapshot");

        stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
        let during = Snapshot::take(&host, &[]).await.expect("a snapshot");
        assert_ne!(before, during, "a daemon adds at least its addresses");
        let socket = stage.daemon_a().expect("it runs").socket().to_owned();
        assert!(socket.exists());

        assert_clean(&stage.stop().await.unwrap_or_else(|error| panic!("{error:#}")));
        let after = Snapshot::take(&host, &[]).await.expect("a snapshot");
        assert_eq!(before.difference(&after), [""; 0]);
        assert!(!socket.exists(), "the control socket is still there");
    });
}

#[test]
fn what_a_killed_daemon_left_is_gone_after_the_next() {
    isolated("shutdown::what_a_killed_daemon_left_is_gone_after_the_next", || async {
        let live = Arc::new(Live::default());
        let mut stage = Stage::build(binary::shim6(), live).await.expect("a lab");
        let host = stage.topology().a.namespace.clone();
        let before = Snapshot::take(&host, &[]).await.expect("a snapshot");
        stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
        stage.crash().await.expect("it can be killed");
        let left = Snapshot::take(&host, &[]).await.expect("a snapshot");
        assert_ne!(before, left, "a killed daemon cannot clean up");

        stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
        assert_clean(&stage.stop().await.unwrap_or_else(|error| panic!("{error:#}")));
        let after = Snapshot::take(&host, &[]).await.expect("a snapshot");
        assert_eq!(before.difference(&after), [""; 0]);
    });
}
