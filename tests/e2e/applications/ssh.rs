//! A person at a shell of another host.

use std::time::Duration;

use shim6_tests::{isolated, tools};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::ChildStdin;
use tokio::sync::oneshot;
use tokio::time::interval;

use super::progress::Progress;
use super::scene::{BOUND, Process, Scene};

const PORT: u16 = 2222;
/// Between two lines that are typed, however long the answer takes.
const PACE: Duration = Duration::from_millis(20);
/// Lines to see in each phase.
const LINES: u64 = 30;
/// The end of input, at a terminal.
const END_OF_INPUT: [u8; 1] = [4];
/// The shell on the other host: its answers show that it is the same all the time.
const SHELL: &str = "stty -echo; while read -r line; do echo \"$$ $line\"; done";

/// sshd wants to be root or the user who logs in, and to find that one in the list of users. In a user namespace of an ordinary
/// user neither is so. So it gets a list of its own, and terminals which belong to that user, in namespaces which nobody else
/// sees.
const START: &str = r#"
set -e
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
mount -t devpts -o ptmxmode=0666,mode=0620 devpts /dev/pts
mount --bind /dev/pts/ptmx /dev/ptmx
exec "$2" -D -e -f "$1/sshd_config"
"#;

async fn start_sshd(scene: &Scene) -> Process {
    let here = scene.directory().display().to_string();
    for key in ["host", "user"] {
        let mut keygen = scene
            .command(scene.b(), "ssh-keygen")
            .args("-q -t ed25519 -N")
            .arg("")
            .arg("-f")
            .arg(scene.path(key))
            .start();
        keygen.succeeded().await;
    }
    scene.write("passwd", format!("tester:x:1000:1000::{here}:/bin/sh\n"));
    scene.write("group", "tester:x:1000:\n");
    scene.write(
        "sshd_config",
        format!(
            "Port {PORT}\nAddressFamily inet6\nHostKey {here}/host\nAuthorizedKeysFile {here}/user.pub\n\
             StrictModes no\nUsePAM no\nPidFile none\nPrintMotd no\nPrintLastLog no\nClientAliveInterval 1\n\
             ClientAliveCountMax {}\n",
            BOUND.as_secs()
        ),
    );
    let script = scene.write("start", START);
    let server = scene
        .command(scene.b(), "unshare")
        // It would leave its children behind.
        .args("--user --map-user=1000 --map-group=1000 --keep-caps --mount --pid --fork --kill-child=KILL sh")
        .arg(script)
        .arg(scene.directory())
        .arg(tools::path("sshd").expect("it is installed"))
        .start();
    scene.listening(scene.b(), PORT, &server).await;
    server
}

/// A session at a terminal, whose own checks of the connection end it as early as the server's do.
fn start_ssh(scene: &Scene) -> Process {
    let known = scene.path("known_hosts");
    scene
        .command(scene.a(), "ssh")
        .args(
            "-F none -tt -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR",
        )
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .args("-o ServerAliveInterval=1 -o")
        .arg(format!("ServerAliveCountMax={}", BOUND.as_secs()))
        .arg("-i")
        .arg(scene.path("user"))
        .arg("-p")
        .arg(PORT.to_string())
        .arg(format!("tester@{}", scene.server()))
        .arg(SHELL)
        .with_input()
        .with_output()
        .start()
}

/// Types numbered lines until it is told to stop, and gives the input back. Begins in earnest when somebody answers.
async fn types(mut input: ChildStdin, answers: Progress, mut stop: oneshot::Receiver<()>) -> ChildStdin {
    let (mut tick, mut number) = (interval(PACE), 0_u64);
    while stop.try_recv().is_err() {
        tick.tick().await;
        input
            .write_all(format!("{number}\n").as_bytes())
            .await
            .expect("ssh reads");
        if number == 0 {
            answers.reach(1).await;
            tick.reset();
        }
        number += 1;
    }
    input
}

#[test]
fn a_session_at_a_terminal_goes_on_and_comes_back() {
    if !tools::require(&["sshd", "ssh", "ssh-keygen", "unshare"]) {
        return;
    }
    isolated(
        "applications::ssh::a_session_at_a_terminal_goes_on_and_comes_back",
        || async {
            let scene = Scene::set().await;
            let server = start_sshd(&scene).await;
            let mut ssh = start_ssh(&scene);
            let (stop, stopped) = oneshot::channel();
            let progress = Progress::default();
            let input = ssh.child.stdin.take().expect("a pipe");
            let typing = tokio::spawn(types(input, progress.clone(), stopped));
            let output = BufReader::new(ssh.child.stdout.take().expect("a pipe"));
            let counted = progress.clone();
            let reading = tokio::spawn(async move {
                let (mut lines, mut all) = (output.lines(), Vec::new());
                while let Some(line) = lines.next_line().await.expect("what ssh writes") {
                    // What was typed before the terminal was told not to is echoed by it, too.
                    if let Some((shell, answer)) = line.trim_end().split_once(' ') {
                        counted.add(1);
                        all.push((shell.to_owned(), answer.to_owned()));
                    }
                }
                all
            });

            scene.established().await;
            progress.advance(LINES).await;
            scene.fail(&progress).await;
            progress.advance(LINES).await;
            scene.heal(&progress).await;
            progress.advance(LINES).await;

            stop.send(()).expect("it types");
            let mut input = typing.await.expect("it types");
            input.write_all(&END_OF_INPUT).await.expect("ssh reads");
            ssh.succeeded().await;
            let answers = reading.await.expect("it reads");
            let shell = answers[0].0.clone();
            for (number, answer) in answers.iter().enumerate() {
                assert_eq!(*answer, (shell.clone(), number.to_string()), "{answers:?}");
            }
            assert!(answers.len() as u64 > 3 * LINES);
            assert_eq!(
                server.said().matches("Accepted publickey").count(),
                1,
                "{}",
                server.log()
            );
            scene.report("ssh session (OpenSSH)", &progress);
            scene.end().await;
        },
    );
}
