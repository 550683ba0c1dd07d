//! What the door counts of itself, as Prometheus reads it.

use axum::http::{Method, StatusCode};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the latency buckets, in microseconds.
const BUCKETS_US: [u64; 10] =
    [250, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000, 250_000, 1_000_000, 10_000_000];

/// Counters of one agent's door.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Reads and writes, each by the first digit of the status.
    answered: [[AtomicU64; 6]; 2],
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    micros: AtomicU64,
    /// Connections that are open.
    pub connections: AtomicI64,
    /// Clients that follow the events.
    pub streams: AtomicI64,
    /// Requests without a token that is known.
    pub strangers: AtomicU64,
    /// Requests over somebody's limit.
    pub limited: AtomicU64,
}

impl Metrics {
    /// Counts one answer.
    pub fn answered(&self, method: &Method, status: StatusCode, took: Duration) {
        let kind = usize::from(!method.is_safe());
        let class = usize::from(status.as_u16() / 100).min(5);
        self.answered[kind][class].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.iter().position(|it| micros <= *it).unwrap_or(BUCKETS_US.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Writes them down.
    pub fn write(&self, out: &mut String) {
        let mut line = |text: std::fmt::Arguments<'_>| {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{text}");
        };
        let read = |it: &AtomicU64| it.load(Ordering::Relaxed);
        line(format_args!("# TYPE git_intake_api_requests_total counter"));
        for (kind, classes) in ["read", "write"].iter().zip(&self.answered) {
            for (class, count) in classes.iter().enumerate().skip(1) {
                let n = read(count);
                line(format_args!(
                    "git_intake_api_requests_total{{kind=\"{kind}\",status=\"{class}xx\"}} {n}"
                ));
            }
        }
        line(format_args!("# TYPE git_intake_api_request_duration_seconds histogram"));
        let name = "git_intake_api_request_duration_seconds";
        let mut sum = 0;
        for (n, count) in self.buckets.iter().enumerate() {
            sum += read(count);
            let bound = BUCKETS_US.get(n).map(|it| (*it as f64 / 1e6).to_string());
            let bound = bound.unwrap_or_else(|| "+Inf".to_owned());
            line(format_args!("{name}_bucket{{le=\"{bound}\"}} {sum}"));
        }
        line(format_args!("{name}_sum {}", read(&self.micros) as f64 / 1e6));
        line(format_args!("{name}_count {sum}"));
        line(format_args!("# TYPE git_intake_api_connections gauge"));
        line(format_args!(
            "git_intake_api_connections {}",
            self.connections.load(Ordering::Relaxed)
        ));
        line(format_args!("# TYPE git_intake_api_event_streams gauge"));
        line(format_args!("git_intake_api_event_streams {}", self.streams.load(Ordering::Relaxed)));
        line(format_args!("# TYPE git_intake_api_unauthenticated_total counter"));
        line(format_args!("git_intake_api_unauthenticated_total {}", read(&self.strangers)));
        line(format_args!("# TYPE git_intake_api_rate_limited_total counter"));
        line(format_args!("git_intake_api_rate_limited_total {}", read(&self.limited)));
    }
}
