//! Machinery between axum and the use cases. It knows HTTP and no noun of the product.
//!
//! A surface is a list of groups; a group is an `ops!` table with its handlers. [`serve::surface`] is the only thing that
//! makes a served router of them, so no route is without its gate and its dialect.

pub mod call;
pub mod csv;
pub mod errors;
pub mod event_stream;
pub mod extract;
pub mod gate;
pub mod lambda;
pub mod openapi;
pub mod ops;
pub mod respond;
pub mod schemas;
pub mod serve;

pub use call::{Call, Context, Visit};
pub use csv::{AcceptsCsv, Csv, Format, JsonOrCsv};
pub use errors::{Asked, Dialect, usual_status};
pub use event_stream::{EventStream, SentFrame};
pub use extract::{IdempotencyKey, Json, LargeJson, LastEventId, MaybeJson, Path, Query, RawBody};
pub use ops::{Group, Row, Surface};
pub use respond::{Asset, Calendar, Created, Done, Download, NoContent, Reply};
pub use schemas::Schemas;
