//! What an installation of the operator is told at its start.

use std::{fmt, net::IpAddr, str::FromStr};

use jiff::SignedDuration;

/// What an installation of the operator is told at its start. Nothing of it changes while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tells installations apart; part of every derived cluster id.
    pub installation_id: String,
    /// Namespace that the operator runs in and keeps its CA keys in.
    pub operator_namespace: String,
    /// Service account that the operator runs as; it is bound in every namespace that the operator creates.
    pub operator_service_account: String,
    /// Labels of the operator's own pods, the only ones that reach an engine's admin port.
    pub operator_pod_labels: Vec<(String, String)>,
    /// Listeners, as host and port, that no engine may reach and the operator does.
    pub isolation_probes: Vec<String>,
    /// Further listeners that no engine may reach: names, and host and port.
    pub isolation_targets: Vec<(String, String)>,
    /// Annotations of the engines' pods.
    pub pod_annotations: Vec<(String, String)>,
    /// So many clusters may be moving to another release at the same time.
    pub concurrent_upgrades: usize,
    /// So long a rollout has to become good, before it is taken back.
    pub gate_deadline: SignedDuration,
    /// Addresses of the KMS and the token service that every cluster may reach.
    pub kms_egress: Vec<AddressPort>,
    /// Ranges of this Kubernetes cluster's pods, services and nodes. A resource can't open egress to them.
    /// While none are given, every private range counts as the cluster's.
    pub cluster_ranges: Vec<AddressRange>,
    /// Namespaces whose pods may read the engines' metrics.
    pub monitoring_namespaces: Vec<String>,
    /// Audience of the token that engines present to the cloud's identity service.
    pub token_audience: String,
    /// Names of the targets to notify, also of those that can't be used as they are.
    pub notification_targets: Vec<String>,
}

/// A range of IP addresses, like `203.0.113.0/24`. A single address is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    address: IpAddr,
    prefix: u8,
}

/// A range of addresses and, if given, the one port that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPort {
    /// The addresses.
    pub range: AddressRange,
    /// The TCP port, 443 unless given.
    pub port: u16,
}

/// Why a text is not an address range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address range like 203.0.113.0/24 or 203.0.113.0/24:8443")]
pub struct AddressError(String);

impl AddressRange {
    /// Whether any address lies in both ranges.
    pub fn overlaps(&self, other: &Self) -> bool {
        let prefix = self.prefix.min(other.prefix);
        match (self.address, other.address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let mask = mask(prefix, 32);
                (u128::from(a.to_bits()) & mask) == (u128::from(b.to_bits()) & mask)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let mask = mask(prefix, 128);
                (a.to_bits() & mask) == (b.to_bits() & mask)
            }
            // An IPv4 range written as IPv6 (::ffff:0:0/96) is among the refused IPv6 ranges.
            _ => false,
        }
    }

    /// Whether this is a range of one.
    pub fn is_single(&self) -> bool {
        self.prefix == if self.is_v6() { 128 } else { 32 }
    }

    /// Whether this is a range of IPv6 addresses.
    pub fn is_v6(&self) -> bool {
        self.address.is_ipv6()
    }
}

/// The lowest `bits` bits, without the part behind `prefix`.
fn mask(prefix: u8, bits: u8) -> u128 {
    let host_bits = u32::from(bits.saturating_sub(prefix));
    u128::MAX.checked_shl(host_bits).unwrap_or(0)
}

impl FromStr for AddressRange {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv6() { 128 } else { 32 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| wrong())?,
            None => bits,
        };
        if prefix > bits {
            return Err(wrong());
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for AddressPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // The port follows the prefix length, where no colon of an IPv6 address can be.
        let (range, port) = match text.split_once('/') {
            Some((address, rest)) => match rest.split_once(':') {
                Some((prefix, port)) => (format!("{address}/{prefix}"), Some(port)),
                None => (text.to_owned(), None),
            },
            None => (text.to_owned(), None),
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| AddressError(text.to_owned()))?,
            None => 443,
        };
        Ok(Self { range: range.parse().map_err(|_| AddressError(text.to_owned()))?, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().expect("a range")
    }

    #[test]
    fn ranges_overlap_when_one_holds_an_address_of_the_other() {
        assert!(range("10.0.0.0/8").overlaps(&range("10.1.2.3/32")));
        assert!(range("10.1.2.3").overlaps(&range("0.0.0.0/0")));
        assert!(range("fe80::/10").overlaps(&range("fe80::1/128")));
        assert!(!range("10.0.0.0/8").overlaps(&range("11.0.0.0/8")));
        assert!(!range("0.0.0.0/0").overlaps(&range("::/0")));
    }

    #[test]
    fn a_port_may_follow_the_range() {
        let egress: AddressPort = "198.18.0.1/32:8443".parse().expect("valid");
        assert_eq!(egress.port, 8443);
        let egress: AddressPort = "2001:db8::/32".parse().expect("valid");
        assert_eq!(egress.port, 443);
        assert!(egress.range.is_v6());
    }

    #[test]
    fn what_is_not_a_range_is_refused() {
        for text in ["", "10.0.0.0/33", "ten", "10.0.0.0/8/8", "10.0.0.0/8:x"] {
            assert!(text.parse::<AddressPort>().is_err(), "{text}");
        }
    }
}
