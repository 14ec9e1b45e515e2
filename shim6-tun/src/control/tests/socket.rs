//! The socket's place in the file system, and what clients say about what they find there.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::Path;

use super::*;

#[tokio::test]
async fn a_second_daemon_is_refused_while_the_first_lives() {
    let fixture = Fixture::start();
    let path = fixture.path();
    let message = Server::bind(&path).expect_err("the socket is taken").to_string();
    assert_eq!(
        message,
        format!(
            "a daemon (pid {}) already runs at {}; stop it first, or set another control_socket",
            std::process::id(),
            path.display()
        )
    );
    Client::connect(&path)
        .await
        .expect("a client")
        .status()
        .await
        .expect("the first still answers");
}

#[test]
fn two_daemons_that_start_at_once_do_not_remove_each_others_socket() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sock");
    for _ in 0..20 {
        let bound: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| Server::bind(&path))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        assert_eq!(bound.iter().filter(|server| server.is_ok()).count(), 1, "{bound:?}");
        assert!(path.exists());
    }
}

#[test]
fn the_socket_is_for_its_user_and_group() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("made/for/it/sock");
    let server = Server::bind(&path).expect("a socket in a new directory");
    let mode = |path: &Path| std::fs::metadata(path).expect("it exists").permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o660);
    drop(server);
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn a_stale_socket_is_replaced_and_other_files_are_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sock");
    drop(StdListener::bind(&path).expect("a socket whose owner goes away"));
    assert!(path.exists());
    let server = Server::bind(&path).expect("the stale socket is replaced");
    StdStream::connect(&path).expect("somebody listens again");
    drop(server);
    std::fs::write(&path, "precious").expect("a file");
    let message = Server::bind(&path).expect_err("a file is in the way").to_string();
    let shown = path.display();
    assert_eq!(message, format!("{shown} exists and is not a socket; use another path"));
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "precious");
}

#[test]
fn a_socket_that_took_our_place_is_not_removed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sock");
    let server = Server::bind(&path).expect("a socket");
    std::fs::remove_file(&path).expect("removed under it");
    let _other = StdListener::bind(&path).expect("another socket");
    drop(server);
    assert!(path.exists(), "it removed the socket of somebody else");
}

#[tokio::test]
async fn without_a_daemon_the_client_says_how_to_start_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sock");
    let expected = format!("no daemon runs at {}; start one with: shim6 run", path.display());
    let absent = Client::connect(&path).await.expect_err("nothing there");
    assert_eq!(absent.to_string(), expected);
    drop(StdListener::bind(&path).expect("a stale socket"));
    let stale = Client::connect(&path).await.expect_err("nobody listens");
    assert_eq!(stale.to_string(), expected);
    let other = Client::connect(directory.path()).await.expect_err("a directory");
    let expected = format!(
        "{} exists and is not a socket; use another path",
        directory.path().display()
    );
    assert_eq!(other.to_string(), expected);
}

#[test]
fn permission_denied_names_the_owner_of_what_is_in_the_way() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let error = ControlError::io("connect to", &directory.path().join("not-there"), denied);
    let ControlError::Denied { path, user, group } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(path, directory.path());
    let uid = nix::unistd::Uid::effective();
    let name = nix::unistd::User::from_uid(uid)
        .ok()
        .flatten()
        .map_or(uid.to_string(), |user| user.name);
    assert_eq!(user, &name);
    assert!(
        error
            .to_string()
            .starts_with(&format!("permission denied at {}, ", path.display()))
    );
    assert!(
        error
            .to_string()
            .contains(&format!("belongs to user {user} and group {group}; run this as "))
    );
}

#[tokio::test]
async fn what_does_not_speak_the_protocol_is_named() {
    for (answer, expected) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\0"[..],
            "is not a shim6 daemon of this version",
        ),
        (b"{\"parameters\":{}}\0", "is not a shim6 daemon of this version"),
        (b"", "closed the connection"),
        (b"{\"parameters\":", "closed the connection"),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("sock");
        let listener = StdListener::bind(&path).expect("a socket");
        let stranger = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut octet = [1];
            while octet != [0] {
                stream.read_exact(&mut octet).expect("a request");
            }
            stream.write_all(answer).expect("an answer");
        });
        let mut client = Client::connect(&path).await.expect("a client");
        let message = client.status().await.expect_err("no status").to_string();
        assert!(message.contains(expected), "{message}");
        stranger.join().expect("the stranger ends");
    }
}

#[test]
fn the_socket_is_given_to_the_group_that_is_asked_for() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sock");
    // One that everybody may give files to: their own.
    let own = nix::unistd::Group::from_gid(nix::unistd::Gid::effective())
        .ok()
        .flatten();
    if let Some(own) = own {
        let server = Server::bind_for(&path, &Access::Group(own.name)).expect("a socket");
        let metadata = std::fs::metadata(&path).expect("it exists");
        assert_eq!((metadata.gid(), metadata.mode() & 0o777), (own.gid.as_raw(), 0o660));
        drop(server);
    }
    let nobodys = Access::Group("no-such-group-here".to_owned());
    let error = Server::bind_for(&path, &nobodys).expect_err("no group").to_string();
    let expected = "there is no group no-such-group-here to give the control socket to; \
                    make it with: groupadd --system no-such-group-here, or set another control_group";
    assert_eq!(error, expected);
    assert!(!path.exists());
}

#[test]
fn whoever_is_denied_is_told_how_to_join_the_group_but_not_that_of_root() {
    let denied = |group: &str| ControlError::Denied {
        path: "/run/shim6/shim6.sock".into(),
        user: "root".to_owned(),
        group: group.to_owned(),
    };
    let message = denied("shim6").to_string();
    assert!(
        message.ends_with("or join that group: sudo usermod -aG shim6 $USER, and log in again"),
        "{message}"
    );
    assert!(!denied("root").to_string().contains("usermod"));
}
