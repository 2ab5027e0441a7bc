//! The test vectors of `docs/sealed-format.md`, read from that page: the code makes exactly those bytes, and opens them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;

use crate::boottime::BootTime;
use crate::ezk::EzkBytes;
use crate::ids::{Purpose, StoreId, ZoneId};
use crate::lease::Lease;
use crate::record::{KeyringRecord, RecordFields};
use crate::sealed::chunk_sealer::ChunkSealer;
use crate::sealed::object_key::ObjectKey;
use crate::sealed::{ChunkSize, open_whole, verify_sealed};
use crate::zone::ZoneKeys;

const PAGE: &str = include_str!("../../docs/sealed-format.md");

/// The hex block that is marked `name`.
fn block(name: &str) -> Vec<u8> {
    let start = format!("```hex {name}\n");
    let (_, rest) = PAGE.split_once(&start).unwrap();
    let (digits, _) = rest.split_once("```").unwrap();
    hex::decode(digits.split_whitespace().collect::<String>()).unwrap()
}

/// The value in the table row that is called `name`.
fn value<const N: usize>(name: &str) -> [u8; N] {
    let (_, rest) = PAGE.split_once(&format!("\n| {name} | `")).unwrap();
    let (digits, _) = rest.split_once('`').unwrap();
    hex::decode(digits).unwrap().try_into().unwrap()
}

fn ezk() -> EzkBytes {
    EzkBytes::take(&mut value::<32>("EZK")).unwrap()
}

fn zone_keys() -> ZoneKeys {
    ZoneKeys::new(
        StoreId::from_bytes(value("store id")),
        ZoneId::from_bytes(value("zone id")),
        Purpose::System,
        Lease::until(BootTime::now().after(Duration::from_secs(600))),
        BTreeMap::from([(1, Arc::new(ezk()))]),
    )
}

fn seal(name: &str, chunk_size: ChunkSize, plain: &[u8]) -> Vec<u8> {
    let keys = zone_keys();
    let (salt, dek) = (value("salt"), value("DEK"));
    let (header, key) = ObjectKey::create_from(&keys, name, chunk_size, salt, &dek).unwrap();
    let mut sealer = ChunkSealer::with_key(name, &header, key, plain.len() as u64);
    sealer.push(plain).unwrap();
    sealer.finish().unwrap().to_vec()
}

fn name(kind: &str, rest: &str) -> String {
    let zone = hex::encode(value::<16>("zone id"));
    format!("zones/{zone}/{kind}/vector/{rest}")
}

#[test]
fn the_record_is_the_documented_one() {
    let fields = RecordFields {
        purpose: Purpose::System,
        cluster_id: "vc0123456789abcdef",
        ezk_version: 1,
        store: StoreId::from_bytes(value("store id")),
        zone: ZoneId::from_bytes(value("zone id")),
        wrapped: b"wrapped-for-the-test-vector",
    };
    let record = KeyringRecord::new(fields, &ezk()).unwrap().unwrap();
    assert_eq!(hex::encode(record.encode()), hex::encode(block("record")));
    let parsed = KeyringRecord::parse(&block("record")).unwrap();
    assert!(parsed.prove(&ezk()).unwrap());
}

#[test]
fn objects_are_the_documented_ones() {
    let vectors = [("short", "one", b"VectorKeep test vector 1".as_slice()), ("empty", "empty", b"".as_slice())];
    for (marked, rest, plain) in vectors {
        let name = name("bulk", rest);
        let sealed = block(marked);
        assert_eq!(hex::encode(seal(&name, ChunkSize::Bulk, plain)), hex::encode(&sealed));
        let opened = open_whole(&zone_keys(), &name, ChunkSize::Bulk, &sealed).unwrap();
        assert_eq!(opened, plain);
        let summary = verify_sealed(&sealed).unwrap();
        assert_eq!(summary.logical_size, plain.len() as u64);
    }
}

#[test]
fn an_object_of_two_chunks_is_the_documented_one() {
    let plain: Vec<u8> = (0..4097u32).map(|i| ((7 * i + 3) % 256) as u8).collect();
    let sealed = seal(&name("rows", "two"), ChunkSize::Rows, &plain);
    assert_eq!(sealed.len(), 4321);
    assert_eq!(digest::digest(&digest::SHA256, &sealed).as_ref(), block("two-chunks-digest"));
}
