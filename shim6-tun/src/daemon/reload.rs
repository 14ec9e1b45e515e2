//! Another configuration for a daemon that runs, applied whole or not at all.

use std::net::Ipv6Addr;

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};

use super::endpoint_config;
use super::engine::Engine;
use super::notify::Notifier;
use super::policy::Policy;
use super::uplink::Uplink;
use crate::config::{self, Change, Config, ConfigError, Loaded};
use crate::control::{Changed, Refusal, Reloaded};
use crate::status;

/// Who waits for an answer.
type Asker = oneshot::Sender<Result<Reloaded, Refusal>>;
/// What reading the files gave.
type Read = Result<Loaded, ConfigError>;

/// The configuration that holds, and how another one comes.
pub(crate) struct Reload {
    loaded: Loaded,
    /// Who wants it read again: `None` is a signal. Those that ask while it is read wait for the next time, since what is being
    /// read may be older than what they mean.
    waiting: Vec<Option<Asker>>,
    /// Whom the reading is for that is under way.
    reading: Option<Vec<Option<Asker>>>,
    done: (mpsc::Sender<Read>, mpsc::Receiver<Read>),
    hangup: Option<Signal>,
    /// This host's addresses by interface when the policy was last made.
    addresses: Vec<(String, Ipv6Addr)>,
}

/// What makes the daemon look at its configuration.
pub(crate) enum Cue {
    /// SIGHUP.
    Signal,
    /// The files have been read.
    Read(Box<Read>),
}

impl Reload {
    /// `hangup`: the signal that asks for it, if it is listened to.
    pub(crate) fn new(loaded: Loaded, hangup: Option<Signal>) -> Self {
        Self {
            loaded,
            waiting: Vec::new(),
            reading: None,
            done: mpsc::channel(1),
            hangup,
            addresses: Vec::new(),
        }
    }

    /// The configuration that holds.
    pub(super) fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// The next cue. Cancel safe.
    pub(crate) async fn cue(&mut self) -> Cue {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(()) = hangup => Cue::Signal,
            Some(read) = self.done.1.recv() => Cue::Read(Box::new(read)),
        }
    }

    /// Has the files read, off the task that runs the protocol: they may be on a slow disk.
    fn ask(&mut self, asker: Option<Asker>, notifier: &Notifier) {
        self.waiting.push(asker);
        self.begin(notifier);
    }

    fn begin(&mut self, notifier: &Notifier) {
        if self.reading.is_some() || self.waiting.is_empty() {
            return;
        }
        notifier.reloading();
        self.reading = Some(std::mem::take(&mut self.waiting));
        let (source, done) = (self.loaded.source.clone(), self.done.0.clone());
        // Nobody listens any more only while the daemon ends.
        tokio::task::spawn_blocking(move || drop(done.blocking_send(source.load())));
    }
}

impl Engine<'_> {
    /// Somebody wants the configuration read again.
    pub(super) fn request_reload(&mut self, asker: Asker) {
        self.reload.ask(Some(asker), &self.notifier);
    }

    pub(super) fn handle_cue(&mut self, cue: Cue) {
        match cue {
            Cue::Signal => self.reload.ask(None, &self.notifier),
            Cue::Read(read) => {
                let result = self.apply(*read);
                self.report_reload(&result);
                self.notifier.reloaded();
                for asker in self.reload.reading.take().into_iter().flatten().flatten() {
                    // Whoever asked may have left already.
                    let _ = asker.send(result.clone());
                }
                self.reload.begin(&self.notifier);
            }
        }
    }

    /// Makes the policy anew if this host's addresses are others than when it was made.
    pub(super) fn follow_addresses(&mut self) {
        let addresses: Vec<_> = self
            .addresses
            .uplinks()
            .map(|(uplink, address)| (uplink.interface.clone(), address))
            .collect();
        if addresses == self.reload.addresses {
            return;
        }
        let is_first = std::mem::replace(&mut self.reload.addresses, addresses).is_empty();
        let config = self.reload.loaded.config.clone();
        if is_first && config.policies.is_empty() {
            return;
        }
        if let Err(error) = self.take_policy(&config) {
            tracing::error!("the policy does not know this host's new addresses: {error:#}");
        }
    }

    fn apply(&mut self, read: Read) -> Result<Reloaded, Refusal> {
        let loaded = read.map_err(|error| refusal(&error))?;
        let changes = config::changes(&self.reload.loaded.config, &loaded.config);
        let problems: Vec<_> = changes
            .iter()
            .filter(|change| change.needs_restart)
            .map(needs_restart)
            .collect();
        if !problems.is_empty() {
            return Err(Refusal { problems });
        }
        // What can fail comes first; after it, nothing does.
        self.take_policy(&loaded.config).map_err(|error| Refusal {
            problems: vec![format!("{error:#}; restart the daemon")],
        })?;
        let now = self.shared.clock.now();
        if self.follower.set_uplinks(&loaded.config) {
            // It tells the peers what is preferred.
            self.follower.wake(now);
        }
        let reloaded = Reloaded {
            files: loaded.files.iter().map(|file| file.display().to_string()).collect(),
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
            changed: changes.into_iter().map(changed).collect(),
        };
        self.reload.loaded = loaded;
        Ok(reloaded)
    }

    /// Has the policy of a configuration hold, and all else that the endpoint is told.
    fn take_policy(&mut self, config: &Config) -> anyhow::Result<()> {
        let owned: Vec<_> = self.addresses.uplinks().collect();
        let addresses_of = |interface: &str| {
            let owned = owned.iter().filter(|(uplink, _)| uplink.interface == interface);
            owned.map(|&(_, address)| address).collect()
        };
        let policy = Policy::new(config, addresses_of);
        let uplinks = owned.iter().map(|&(uplink, _)| uplink);
        let uplinks: Vec<&Uplink> = uplinks.filter(|uplink| uplink.is_present()).collect();
        let answers = policy.answers();
        let prepared = self.observers.prepare(config, policy, &uplinks)?;
        if self.observers.take(prepared) {
            let pairs: Vec<_> = self.endpoint.flows().map(|flow| flow.ulids).collect();
            self.observers.follow(&pairs);
        }
        let config = endpoint_config(config, answers);
        self.endpoint.set_config(self.shared.clock.now(), config);
        Ok(())
    }

    fn report_reload(&mut self, result: &Result<Reloaded, Refusal>) {
        let (message, detail) = match result {
            Ok(reloaded) => {
                for warning in &reloaded.warnings {
                    tracing::warn!("{warning}");
                }
                let keys: Vec<_> = reloaded.changed.iter().map(|change| change.key.as_str()).collect();
                let what = if keys.is_empty() {
                    "nothing".to_owned()
                } else {
                    keys.join(", ")
                };
                let message = format!("the configuration was read again; changed: {what}");
                (message, serde_json::json!({ "changed": keys }))
            }
            Err(Refusal { problems }) => {
                for problem in problems {
                    tracing::error!("{problem}");
                }
                let message = format!("the configuration was not applied: {}", problems.join(" | "));
                tracing::error!("the configuration was not applied, and nothing changed");
                (message, serde_json::json!({ "problems": problems }))
            }
        };
        self.publish(status::Event {
            at_ms: self.shared.clock.millis(),
            kind: "reload".to_owned(),
            context: None,
            message,
            detail,
        });
    }
}

/// An error with its causes, a line each.
fn refusal(error: &ConfigError) -> Refusal {
    let mut problems: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
    if let (Some(cause), Some(last)) = (std::error::Error::source(error), problems.last_mut()) {
        *last += &format!(" ({cause})");
    }
    Refusal { problems }
}

fn needs_restart(change: &Change) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".to_owned());
    let (key, from, to) = (&change.key, shown(&change.from), shown(&change.to));
    format!("{key}: {from} -> {to} needs a restart; put {from} back, or restart the daemon")
}

fn changed(change: Change) -> Changed {
    Changed {
        key: change.key,
        from: change.from,
        to: change.to,
    }
}
