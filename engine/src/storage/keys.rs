//! Keys of a shard's records. Numbers are big endian, so that records sort by collection and then by time.
//!
//! | key | value |
//! | --- | --- |
//! | `c/` collection | `storage.Collection` |
//! | `b/` collection `/` timestamp `/` part | `storage.Batch` |
//! | `d/` collection `/` timestamp | `storage.Deletes` |
//! | `s/` collection `/` segment | `storage.Segment` |
//! | `g/` object name | `storage.Garbage` |
//! | `u/` user name | `storage.User` (system shard only) |
//! | `n/` database name | `storage.Database` (system shard only) |
//! | `m/` | the mark of the last batch: epoch and number |
//! | `f/` | the format that the shard is committed to, 4 bytes; without it the first |

/// Kind of record, the first byte of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Collection = b'c',
    Batch = b'b',
    Deletes = b'd',
    Segment = b's',
    Garbage = b'g',
    User = b'u',
    Database = b'n',
}

/// Key of the mark that every batch of the log carries.
pub const MARK: &[u8] = b"m/";
/// Key of the format that the shard is committed to.
pub const FORMAT: &[u8] = b"f/";

/// The prefix of all records of `kind`.
pub fn kind(kind: Kind) -> Vec<u8> {
    vec![kind as u8, b'/']
}

/// Key of a record that is found by name.
pub fn named(kind_of: Kind, name: &str) -> Vec<u8> {
    let mut key = kind(kind_of);
    key.extend_from_slice(name.as_bytes());
    key
}

/// Key of a record of a collection, or the prefix of them when `rest` is empty.
pub fn of_collection(kind_of: Kind, collection: i64, rest: &[u64]) -> Vec<u8> {
    let mut key = kind(kind_of);
    key.extend_from_slice(&collection.to_be_bytes());
    for number in rest {
        key.push(b'/');
        key.extend_from_slice(&number.to_be_bytes());
    }
    key
}

/// The collection and the numbers in a key that [`of_collection`] made; `None` for any other key.
pub fn parse(key: &[u8]) -> Option<(i64, Vec<u64>)> {
    let (collection, rest) = key.get(2..)?.split_first_chunk::<8>()?;
    let numbers = rest.chunks(9).map(|chunk| match chunk {
        [b'/', number @ ..] => number.try_into().ok().map(u64::from_be_bytes),
        _ => None,
    });
    Some((i64::from_be_bytes(*collection), numbers.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_sort_by_time() {
        let key = |timestamp| of_collection(Kind::Batch, 7, &[timestamp, 1]);
        assert_eq!(parse(&key(9)), Some((7, vec![9, 1])));
        assert!(key(255) < key(256));
        assert_eq!(parse(b"b/short"), None);
    }
}
