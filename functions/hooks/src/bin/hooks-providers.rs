//! The `providers` group of hooks as a Lambda function.

use shared::app::aws::Kit;
use shared::http::Surface;

/// What this function serves: its own group, so that the other is not linked into it.
static SURFACE: Surface = hooks::surface(&[hooks::PROVIDERS.undocumented()]);

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::serve_group(&SURFACE, &const { Kit::of("hooks-providers") })
}
