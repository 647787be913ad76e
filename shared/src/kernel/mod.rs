//! The ground floor: no I/O, and nothing here knows a noun of the product.

pub mod clock;
pub mod code;
pub mod day;
pub mod error;
pub mod id;
pub mod json_text;
pub mod page;
pub mod patch;
pub mod rng;
pub mod secret;
pub mod work;

pub use clock::{Clock, ManualClock, SystemClock, Time};
pub use code::Code;
pub use day::Day;
pub use error::{Error, Field, Kind, Result};
pub use id::{Id, Ids, Int, Text};
pub use page::{Cursor, Limit, Page};
pub use patch::{Nullable, Patch};
pub use rng::Rng;
pub use secret::{Keyring, Secret};
pub use work::Work;
