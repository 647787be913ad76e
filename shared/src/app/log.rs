//! Setting up logs: structured JSON in production, lines for people on a terminal.

use tracing_subscriber::EnvFilter;

/// What is never logged in more detail than this, whatever the filter says: these quote whole requests and answers, and
/// with them passwords and what visitors write.
const QUIET: [&str; 9] = [
    "lambda_runtime=info",
    "lambda_runtime_api_client=info",
    "lambda_http=info",
    "hyper=info",
    "hyper_util=info",
    "reqwest=info",
    "aws_smithy_runtime=info",
    "aws_smithy_runtime_api=info",
    "aws_runtime=info",
];

fn filter(usual: &str) -> EnvFilter {
    let given = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    QUIET.iter().fold(given, |filter, directive| match directive.parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    })
}

/// JSON lines on standard output, as the platform collects them, each with the id of the request that it is about
/// (`span.request_id`). `RUST_LOG` filters; `info` without it. A panic is a line with its place, without its text, which
/// may quote what somebody sent.
pub fn to_json() {
    // A second call (tests) finds the first in place.
    drop(tracing_subscriber::fmt().json().with_env_filter(filter("info")).with_span_list(false).try_init());
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a panic");
    }));
}

/// Lines for people on standard error. `RUST_LOG` filters; warnings without it, but for the embedded database's, which
/// warns of every condition that does not hold.
pub fn to_terminal() {
    let filter = filter("warn,dynoxide=error");
    drop(tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_quotes_whole_requests_stays_quiet() {
        for directive in QUIET {
            assert!(directive.parse::<tracing_subscriber::filter::Directive>().is_ok(), "{directive}");
        }
        let asked = QUIET
            .iter()
            .fold(EnvFilter::new("trace"), |filter, quiet| filter.add_directive(quiet.parse().expect("a directive")));
        assert!(asked.to_string().contains("lambda_runtime=info"), "{asked}");
    }
}
