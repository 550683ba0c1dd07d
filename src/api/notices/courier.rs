//! Brings notices to subscribers, in a thread of its own: neither a lane nor the door waits for it.
//!
//! Each subscriber hears one notice at a time, and in order as long as each arrives. What does not is
//! tried again, after twice as long each time, keeps no other from being sent, and lies aside in the end. A notice may arrive twice (its receiver took it
//! and the answer was lost), under the same id. Notices are signed as `standardwebhooks.com` says, so
//! receivers find a library that looks at them.

use super::entries::{Notice, Subscriber, Told};
use super::reach::{self, Judged};
use crate::agent::owed::Owed;
use crate::agent::schedule::{self, Patience};
use crate::api::house::House;
use crate::api::serve::give_way;
use crate::api::wire::event::EventView;
use crate::clock;
use crate::config::HookSettings;
use crate::model::digest::Sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// So many notices are under way at once.
const AT_ONCE_MAX: usize = 16;
/// So many events are noted in one write.
const NOTED_MAX: usize = 256;
/// How long a receiver has for its connection, and for all of its answer.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a look-up may take.
const LOOK_TIME_MAX: Duration = Duration::from_secs(10);
/// Nothing is due: the courier looks up this often all the same.
const IDLE: Duration = Duration::from_secs(3600);
/// What is told of a failure is not longer, in characters.
const ERROR_CHARS_MAX: usize = 300;
/// No file of authorities is larger, in bytes.
const CA_BYTES_MAX: u64 = 4 << 20;
/// After a disk that refused.
const DISK_PAUSE: Duration = Duration::from_secs(5);
/// Threads for names that are looked up.
const LOOKING_THREADS_MAX: usize = 4;

/// The courier at work; dropping it notes what has happened since and ends it.
pub struct Courier {
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Courier {
    /// Starts it.
    pub fn start(house: Arc<House>) -> io::Result<Courier> {
        // Whoever comes second finds the provider in place, which is all that is asked.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(LOOKING_THREADS_MAX)
            .build()?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("courier".to_owned()).spawn(move || {
            give_way();
            let left = left_over(&house);
            runtime.block_on(Round { house, after: 0, left, busy: BTreeSet::new() }.run(stopped));
            // What is under way is sent again by the next start.
            runtime.shutdown_timeout(Duration::from_millis(200));
        })?;
        Ok(Courier { stop, thread: Some(thread) })
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A notice that was sent, and what came of it.
type Sent = (Notice, Result<(), String>);

/// What is to be noted, and how far it then is.
#[derive(Default)]
struct Left {
    events: Vec<Told>,
    noted: BTreeMap<String, u64>,
}

/// What the stores keep that was not noted before the agent ended.
fn left_over(house: &House) -> Option<Left> {
    let mut left = Left::default();
    for lane in &house.lanes {
        let mut noted = house.book.noted(&lane.id);
        if noted > lane.store.newest() {
            // The store was made anew, and nothing of this one is noted yet.
            noted = 0;
            left.noted.insert(lane.id.clone(), noted);
        }
        house.events.owing.tell(&Arc::from(lane.id.as_str()), noted);
        let owed = lane.store.owed().unwrap_or_else(|error| {
            tracing::warn!(%error, "what was to be told by webhooks before the agent ended cannot be read");
            Vec::new()
        });
        for (number, bytes) in owed.into_iter().filter(|(number, _)| *number > noted) {
            left.noted.insert(lane.id.clone(), number);
            // What another version wrote in another way is passed over.
            let all: Vec<Owed> = serde_json::from_slice(&bytes).unwrap_or_default();
            for (n, it) in all.into_iter().enumerate() {
                let id = format!("{}-{number}-{n}", lane.id);
                let (kind, fabric, at) = (it.kind, it.fabric.clone(), Some(it.at));
                let view = EventView::owed(id, &lane.id, it);
                let body = serde_json::to_string(&view).unwrap_or_default();
                left.events.push(Told { kind, fabric, body, at });
            }
        }
    }
    let nothing = left.events.is_empty() && left.noted.is_empty();
    (!nothing).then_some(left)
}

struct Round {
    house: Arc<House>,
    /// The number of the last event that was noted.
    after: u64,
    /// What earlier starts did not come to note; none once it is noted.
    left: Option<Left>,
    /// Subscribers to whom something is under way.
    busy: BTreeSet<String>,
}

impl Round {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut heard = self.house.heard.subscribe();
        let mut under_way: JoinSet<Sent> = JoinSet::new();
        loop {
            heard.mark_unchanged();
            let noted = self.note();
            let busy = self.busy.clone();
            let is_busy = |id: &str| busy.contains(id);
            let room = AT_ONCE_MAX.saturating_sub(under_way.len());
            for (notice, to) in self.house.book.due(&is_busy, room) {
                self.busy.insert(to.id.clone());
                under_way.spawn(send(self.house.settings.webhooks.clone(), notice, to));
            }
            let pause = if noted { self.pause(room) } else { DISK_PAUSE };
            tokio::select! {
                _ = stopped.wait_for(|it| *it) => break,
                _ = heard.changed() => (),
                () = self.house.book.changed.notified() => (),
                () = tokio::time::sleep(pause) => (),
                Some(done) = under_way.join_next() => match done {
                    Ok(sent) => self.settle(sent),
                    // It panicked, which its message says; everybody may be sent to again.
                    Err(error) => {
                        tracing::error!(%error, "sending a notice went wrong");
                        self.busy.clear();
                    }
                },
            }
        }
        // The lanes have ended by now, so this is all.
        self.note();
    }

    /// How long until something is due.
    fn pause(&self, room: usize) -> Duration {
        let next = self.house.book.next_at(&|id: &str| self.busy.contains(id));
        match next {
            // Whoever is sent to now makes room when that is done.
            Some(_) if room == 0 => IDLE,
            Some(at) => {
                let wait = at.duration_since(clock::now());
                // Never in a tight circle, whatever the clock does.
                Duration::try_from(wait)
                    .unwrap_or_default()
                    .max(Duration::from_millis(20))
                    .min(IDLE)
            }
            None => IDLE,
        }
    }

    /// Notes what has happened; false where the disk refuses, and then it is noted later.
    fn note(&mut self) -> bool {
        if let Some(left) = &self.left {
            if !self.write_down(&left.events, &left.noted) {
                return false;
            }
            self.left = None;
        }
        loop {
            let found = self.house.events.since(self.after, NOTED_MAX);
            if found.missed > 0 {
                tracing::warn!(
                    missed = found.missed,
                    "events went by faster than they could be noted for those who are told by webhooks"
                );
            }
            if found.events.is_empty() {
                self.after = found.last;
                return true;
            }
            let epoch = self.house.events.epoch();
            let mut noted: Vec<Told> = Vec::new();
            let mut numbers = BTreeMap::new();
            for it in &found.events {
                if let Some(number) = it.owed {
                    numbers.insert(it.repository.to_string(), number);
                }
                let body = serde_json::to_string(&EventView::of(epoch, it)).unwrap_or_default();
                let fabrics = match &it.fabric {
                    Some(fabric) => vec![fabric.clone()],
                    // What happens to a repository happens to each of its fabrics.
                    None => self.house.fabrics_of(&it.repository),
                };
                let told = |fabric| Told { kind: it.kind, fabric, body: body.clone(), at: None };
                noted.extend(fabrics.into_iter().map(told));
            }
            if !self.write_down(&noted, &numbers) {
                return false;
            }
            self.after = found.last;
        }
    }

    /// Notes events, and then lets the stores forget what they kept of them.
    fn write_down(&self, events: &[Told], noted: &BTreeMap<String, u64>) -> bool {
        if let Err(error) = self.house.book.note(events, noted) {
            tracing::warn!(%error, "what those are to hear who are told by webhooks cannot be noted; it is tried again");
            return false;
        }
        for (repository, number) in noted {
            self.house.events.owing.tell(&Arc::from(repository.as_str()), *number);
        }
        true
    }

    fn settle(&mut self, (notice, outcome): Sent) {
        self.busy.remove(&notice.subscriber);
        let settings = &self.house.settings.webhooks;
        let done = match outcome {
            Ok(()) => self.house.book.arrived(&notice.id),
            Err(error) => {
                let attempt = notice.attempts + 1;
                let patience = Patience { min: settings.retry_min, max: settings.retry_max };
                let seed = clock::now().subsec_nanosecond().unsigned_abs().into();
                let wait = (attempt < settings.attempts_max)
                    .then(|| schedule::wait(patience, attempt, seed));
                if wait.is_none() {
                    tracing::warn!(
                        webhook = notice.subscriber,
                        notice = notice.id,
                        reason = error,
                        "a notice did not arrive and lies aside; it can be sent again over the API"
                    );
                }
                self.house.book.failed(&notice.id, error, wait)
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, "what came of a notice cannot be noted; it may be sent again");
        }
    }
}

/// Sends a notice once.
async fn send(settings: HookSettings, notice: Notice, to: Subscriber) -> Sent {
    let outcome = try_send(&settings, &notice, &to).await.map_err(|it| {
        // An answer's words are a stranger's.
        it.chars().filter(|it| !it.is_control()).take(ERROR_CHARS_MAX).collect()
    });
    (notice, outcome)
}

async fn try_send(settings: &HookSettings, notice: &Notice, to: &Subscriber) -> Result<(), String> {
    // The settings may have changed since it was added.
    let url = reach::judge(&to.url, settings)?;
    let looking = tokio::time::timeout(LOOK_TIME_MAX, reach::addresses(&url, settings));
    let addresses = looking.await.map_err(|_| "looking up the name took too long".to_owned())??;
    let failed = |it: reqwest::Error| chain(&it.without_url());
    let trusted = match &settings.ca_file {
        Some(file) => authorities(file)?,
        None => Vec::new(),
    };
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_merge(trusted)
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(Judged(addresses)))
        .connect_timeout(CONNECT_TIME_MAX)
        .timeout(ANSWER_TIME_MAX)
        .pool_max_idle_per_host(0)
        .user_agent(concat!("git-intake/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(failed)?;
    let time = clock::now().as_second().to_string();
    let signature = signature(&to.secret.key(), &notice.id, &time, &notice.body);
    let request = client
        .post(url)
        .header("content-type", "application/json")
        .header("webhook-id", &notice.id)
        .header("webhook-timestamp", time)
        .header("webhook-signature", signature)
        .body(notice.body.clone());
    // Of the answer only the status counts; its body is not read.
    let status = request.send().await.map_err(failed)?.status();
    match status {
        it if it.is_success() => Ok(()),
        it if it.is_redirection() => {
            Err(format!("it answered {it}, and nobody is followed elsewhere: write the last URL"))
        }
        it => Err(format!("it answered {it}")),
    }
}

/// The authorities of a file, which may have changed since the last notice.
fn authorities(file: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let of = |it: String| format!("{} (webhooks.ca_file): {it}", file.display());
    let mut text = Vec::new();
    let opened = File::open(file).and_then(|it| it.take(CA_BYTES_MAX).read_to_end(&mut text));
    opened.map_err(|it| of(it.to_string()))?;
    let found = reqwest::Certificate::from_pem_bundle(&text);
    let found = found.map_err(|it| of(format!("it holds no certificates: {it}")))?;
    match found.is_empty() {
        true => Err(of("it holds no certificates".to_owned())),
        false => Ok(found),
    }
}

/// The signature over id, time and body.
fn signature(key: &[u8], id: &str, time: &str, body: &str) -> String {
    let signed = format!("{id}.{time}.{body}");
    format!("v1,{}", STANDARD.encode(Sha256::hmac(key, signed.as_bytes()).as_bytes()))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(it) = source {
        text.push_str(&format!(": {it}"));
        source = it.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_signed_as_the_standard_says() {
        // The example of the specification's reference implementations.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed =
            signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
