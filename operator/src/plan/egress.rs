//! Which addresses an engine needs for its key, and which a resource may not open.

use vectorkeep_crds::VectorClusterSpec;

use super::refusal::Refusal;
use crate::settings::{AddressPort, AddressRange, Settings};

/// Port of the KMS and of the token service, unless another is given.
pub const HTTPS: u16 = 443;

/// Where an engine finds its KMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KmsEgress {
    /// It needs none: the key lies in the Kubernetes cluster.
    Nothing,
    /// At these addresses.
    Given(Vec<AddressPort>),
    /// Somewhere public, on port 443, since nobody gave addresses.
    PublicOnly {
        /// Ranges that are not public.
        except: Vec<AddressRange>,
    },
}

impl KmsEgress {
    /// Whether the engine may be allowed to reach a listener, given as host and port. Which addresses a name stands for is
    /// not known, nor what a network makes of a service's address before it looks at policies. So a name may lie in
    /// every range that is open on its port.
    pub fn may_allow(&self, listener: &str) -> bool {
        let Some((host, port)) = listener.rsplit_once(':') else { return false };
        let (host, port) = (host.trim_matches(['[', ']']).parse::<AddressRange>().ok(), port.parse::<u16>().ok());
        match self {
            Self::Nothing => false,
            Self::Given(addresses) => addresses.iter().filter(|open| Some(open.port) == port).any(|open| match host {
                Some(host) => open.range.overlaps(&host),
                None => !open.range.is_single(),
            }),
            Self::PublicOnly { except } => {
                let private = |host: AddressRange| except.iter().any(|range| range.overlaps(&host));
                port == Some(HTTPS) && !host.is_some_and(private)
            }
        }
    }
}

/// Ranges that no resource may open, whatever the installation says: this host, link-local with the clouds'
/// metadata services, multicast and reserved addresses, and IPv4 dressed up as IPv6.
const NEVER: [&str; 10] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/127",
    V4_AS_V6,
    "64:ff9b::/96",
    "fe80::/10",
    "ff00::/8",
];

const V4_AS_V6: &str = "::ffff:0.0.0.0/96";

/// Private ranges, among which the Kubernetes cluster's own must be suspected until they are known.
const PRIVATE: [&str; 6] =
    ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", "fc00::/7"];

/// Decides where the engine may go for its key.
///
/// Addresses of the installation are an administrator's word and taken as they are; those of the resource are a
/// customer's and refused where they touch link-local or cluster ranges.
pub fn kms_egress(spec: &VectorClusterSpec, settings: &Settings) -> Result<KmsEgress, Refusal> {
    let own_ranges = cluster_ranges(settings);
    let mut addresses = settings.kms_egress.clone();
    for egress in &spec.network.egress {
        let range: AddressRange = egress.cidr.parse().map_err(|_| Refusal::Field {
            field: "network.egress",
            problem: format!("{:?} is not an address range", egress.cidr),
        })?;
        if let Some(forbidden) = own_ranges.iter().find(|own| own.overlaps(&range)) {
            return Err(Refusal::Egress { cidr: egress.cidr.clone(), forbidden: *forbidden });
        }
        let ports: Vec<u16> = if egress.ports.is_empty() {
            vec![HTTPS]
        } else {
            let number = |port: &i32| u16::try_from(*port).ok();
            egress.ports.iter().filter_map(number).collect()
        };
        addresses.extend(ports.into_iter().map(|port| AddressPort { range, port }));
    }
    Ok(if spec.encryption.aws.is_none() {
        KmsEgress::Nothing
    } else if addresses.is_empty() {
        let except = ranges(&NEVER).chain(ranges(&PRIVATE)).chain(settings.cluster_ranges.iter().copied());
        // The API server takes no IPv4 address dressed up as IPv6, and no packet carries one.
        let except = except.filter(|range| range.to_string() != V4_AS_V6);
        KmsEgress::PublicOnly { except: without_nested(except.collect()) }
    } else {
        KmsEgress::Given(addresses)
    })
}

/// Ranges that a resource may not open.
fn cluster_ranges(settings: &Settings) -> Vec<AddressRange> {
    let mut forbidden: Vec<AddressRange> = ranges(&NEVER).collect();
    if settings.cluster_ranges.is_empty() {
        forbidden.extend(ranges(&PRIVATE));
    } else {
        forbidden.extend(&settings.cluster_ranges);
    }
    forbidden
}

fn ranges(texts: &'static [&'static str]) -> impl Iterator<Item = AddressRange> {
    texts.iter().filter_map(|text| text.parse().ok())
}

/// Leaves out ranges that lie within an earlier one: some policy engines object to exceptions that overlap.
fn without_nested(ranges: Vec<AddressRange>) -> Vec<AddressRange> {
    let mut kept: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        if !kept.iter().any(|other| other.overlaps(&range)) {
            kept.push(range);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_allowed_is_told_by_address_and_port_and_of_a_name_by_port_alone() {
        let given = |range: &str| KmsEgress::Given(vec![range.parse().expect("a range")]);
        assert!(given("10.0.5.0/24:443").may_allow("10.0.5.7:443"));
        assert!(!given("10.0.5.0/24:443").may_allow("10.0.5.7:80"));
        assert!(!given("10.0.5.0/24:443").may_allow("10.0.6.7:443"));
        assert!(given("10.0.5.0/24:443").may_allow("kubernetes.default.svc:443"));
        assert!(!given("10.0.5.7/32:443").may_allow("kubernetes.default.svc:443"));
        assert!(!given("10.0.5.0/24:8443").may_allow("kubernetes.default.svc:443"));
        let public = KmsEgress::PublicOnly { except: vec!["10.0.0.0/8".parse().expect("a range")] };
        assert!(public.may_allow("203.0.113.1:443") && public.may_allow("kubernetes.default.svc:443"));
        assert!(!public.may_allow("10.0.0.1:443") && !public.may_allow("203.0.113.1:80"));
        assert!(!KmsEgress::Nothing.may_allow("203.0.113.1:443"));
    }

    #[test]
    fn every_constant_is_a_range() {
        assert_eq!(ranges(&NEVER).count(), NEVER.len());
        assert_eq!(ranges(&PRIVATE).count(), PRIVATE.len());
    }
}
