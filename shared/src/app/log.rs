//! Setting up logs: structured JSON in production, lines for people on a terminal.

use tracing_subscriber::EnvFilter;

/// JSON lines on standard output, as the platform collects them, each with the id of the request that it is about
/// (`span.request_id`). `RUST_LOG` filters; `info` without it.
pub fn to_json() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A second call (tests) finds the first in place.
    drop(tracing_subscriber::fmt().json().with_env_filter(filter).with_span_list(false).try_init());
}

/// Lines for people on standard error. `RUST_LOG` filters; warnings without it, but for the embedded database's, which
/// warns of every condition that does not hold.
pub fn to_terminal() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,dynoxide=error"));
    drop(tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init());
}
