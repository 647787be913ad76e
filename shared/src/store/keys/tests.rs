//! Keys that are read back.

use super::*;
use crate::domain::usage::{KeySource, UsageBucket};
use crate::kernel::Day;

#[test]
fn a_bucket_of_usage_is_read_back_from_its_key() {
    let bucket = UsageBucket {
        day: Day::parse("2040-03-05").unwrap(),
        workspace: Id::from_int(1).unwrap(),
        agent: Id::from_int(2).unwrap(),
        key_source: KeySource::Byok,
    };
    let key = usage_rollup(Id::from_int(3).unwrap(), &bucket);
    assert_eq!(read_usage_rollup(&key.sk), Some(bucket));
    let (from, to) = usage_rollups(bucket.day, bucket.day);
    assert!(from < key.sk && key.sk < to);
    assert_eq!(read_usage_rollup("AGENT#00000000002"), None);
    let marker = rollup_marker(&key, Uuid::from_u128(7));
    let (from, to) = usage_markers(Uuid::from_u128(7), Uuid::from_u128(7));
    assert!(from < marker.sk && marker.sk < to);
    assert_eq!(read_usage_marker(&marker.sk), Some(Uuid::from_u128(7)));
}
