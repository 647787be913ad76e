//! The `builder` group of studio as a Lambda function.

use shared::app::aws::Kit;
use shared::http::Surface;

/// What this function serves: its own group, so that the others are not linked into it.
static SURFACE: Surface = studio::surface(&[studio::BUILDER.undocumented()]);

fn main() -> Result<(), shared::http::lambda::Error> {
    shared::http::lambda::serve_group(&SURFACE, &const { Kit::of("studio-builder") })
}
