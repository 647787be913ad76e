//! Placeholder until the template is read.
use shared::table::admin::{IndexShape, Shape};

/// The table of the template.
///
/// # Errors
/// When the template does not describe it.
pub fn table_shape() -> shared::kernel::Result<Shape> {
    let index =
        |name: &str| IndexShape { name: name.into(), key: (format!("{name}pk"), format!("{name}sk")), keys_only: true };
    Ok(Shape { key: ("pk".into(), "sk".into()), indexes: vec![index("gsi1"), index("gsi2")], ttl: "ttl".into() })
}
