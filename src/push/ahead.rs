//! A remote that is called before there is anything to send.
//!
//! Programs start, ssh and TLS shake hands and references are listed, and none of that needs the
//! commit that is still being made. What the remote lists then may be a moment old when it is used,
//! as it always is: the remote compares it again under its own lock.

use std::{fmt, sync::Arc, thread::JoinHandle, time::Duration};

use gix::url::Scheme;

use super::{
    Options,
    child::Stream,
    error::Error,
    http::Answer,
    pulse::Pulse,
    web::Web,
    wire::{self, Wire},
};

/// A call that is older is not used: servers hang up on those who say nothing.
const AGE_MAX: Duration = Duration::from_secs(10);

/// A remote that was called; [`Options::ahead`] takes it. Dropping it hangs up.
pub struct Ahead {
    url: gix::Url,
    pulse: Arc<Pulse>,
    call: Option<Call>,
}

/// What is under way.
pub(crate) enum Call {
    /// The other end is a program that will speak first.
    Stream(Box<Stream>),
    /// The references are asked for.
    Http(JoinHandle<Result<Answer, Error>>),
}

impl fmt::Debug for Ahead {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Ahead")
            .field("url", &super::url::shown(&self.url))
            .finish_non_exhaustive()
    }
}

/// Calls a remote, and does not wait for it. The options are those of the push that will use it.
///
/// There is none where it cannot be called now: the push itself tells why. A git daemon answers
/// only when it is connected to, which is waited for, so it is not called ahead.
pub fn call(repo: &gix::Repository, url: &gix::Url, options: &mut Options<'_>) -> Option<Ahead> {
    super::url::allowed(url).ok()?;
    let deadlines = options.deadlines;
    let pulse = Pulse::new(deadlines.idle, deadlines.wall, options.interrupt.clone());
    let call = match url.scheme {
        Scheme::Git => return None,
        Scheme::Http | Scheme::Https => {
            let mut credentials = options.credentials.take();
            let shown = super::url::shown(url);
            let web = Web::new(repo, url, &shown, options, credentials.as_deref_mut(), &pulse);
            let asked = web.ok().map(|it| it.ask_ahead());
            options.credentials = credentials;
            Call::Http(asked?)
        }
        _ => Call::Stream(Box::new(wire::stream(repo, url, options, &pulse).ok()?)),
    };
    Some(Ahead { url: url.clone(), pulse, call: Some(call) })
}

impl Ahead {
    /// What it is good for, if it was made for this address and is young enough.
    pub(crate) fn answer(mut self, url: &gix::Url) -> Option<(Call, Arc<Pulse>)> {
        let good = self.url == *url && self.pulse.age() < AGE_MAX;
        let call = self.call.take_if(|_| good)?;
        Some((call, self.pulse.clone()))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(Call::Stream(stream)) = self.call.take() {
            let pulse = self.pulse.clone();
            // It ends as soon as it hears that nothing comes, which nobody needs to wait for.
            std::thread::spawn(move || Wire::hang_up(*stream, &pulse));
        }
    }
}
