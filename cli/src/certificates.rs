//! `kubectl vectorkeep certificates`: when certificates end, and asking for new certificate authorities.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use vectorkeep_crds::{
    VectorCluster,
    status::{CertificateStatus, Condition},
    well_known::ANNOTATION_ROTATE_CA,
};

use crate::{
    access::{Access, Error},
    duration,
    output::{self, Format},
    status::condition,
    table::table,
};

/// What the operator reports, and what was asked for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    namespace: &'a str,
    name: &'a str,
    certificates: Option<&'a CertificateStatus>,
    /// The condition `CertificatesValid`.
    condition: Option<&'a Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_requested_at: Option<String>,
}

pub(crate) async fn run(access: &Access, format: Format, name: &str, rotate_ca: bool) -> Result<ExitCode, Error> {
    let session = access.session().await?;
    let now = Timestamp::now();
    let (cluster, rotation_requested_at) = if rotate_ca {
        let requested_at = now.to_string();
        let cluster = session.annotate(name, ANNOTATION_ROTATE_CA, &requested_at).await?;
        eprintln!(
            "# New certificate authorities were asked for. `kubectl vectorkeep certificates {name} -n {}` shows what \
             comes of it.",
            session.namespace
        );
        (cluster, Some(requested_at))
    } else {
        (session.existing_cluster(name).await?, None)
    };
    let report = Report {
        namespace: &session.namespace,
        name,
        certificates: certificates(&cluster),
        condition: valid(&cluster),
        rotation_requested_at,
    };
    output::answer(format, &report, || render(&session.namespace, name, &cluster, now))?;
    Ok(ExitCode::SUCCESS)
}

fn certificates(cluster: &VectorCluster) -> Option<&CertificateStatus> {
    cluster.status.as_ref()?.certificates.as_ref()
}

fn valid(cluster: &VectorCluster) -> Option<&Condition> {
    condition(cluster.status.as_ref()?, "CertificatesValid")
}

fn render(namespace: &str, name: &str, cluster: &VectorCluster, now: Timestamp) -> String {
    let mut text = match certificates(cluster) {
        Some(certificates) => {
            let mut ends = vec![
                ("serving (clients see it)", &certificates.serving_not_after),
                ("serving CA (clients trust it)", &certificates.serving_ca_not_after),
                ("internal", &certificates.internal_not_after),
                ("operator", &certificates.operator_not_after),
            ];
            // Only where clients are asked for one.
            if certificates.client_not_after.is_some() {
                ends.push(("client (clients show it)", &certificates.client_not_after));
            }
            let row = |(which, end): (&str, &Option<String>)| {
                let end = end.clone().unwrap_or_default();
                let left = left(&end, now);
                [which.to_owned(), end, left]
            };
            let rows: Vec<_> = ends.into_iter().map(row).collect();
            table(["CERTIFICATE", "VALID UNTIL", "LEFT"], &rows)
        }
        None => format!(
            "The operator reports no certificates of {namespace}/{name} yet; `kubectl vectorkeep status {name} -n \
             {namespace}` says what the cluster waits for.\n"
        ),
    };
    if let Some(valid) = valid(cluster) {
        text.push_str(&format!("\nCertificatesValid={} {}: {}\n", valid.status, valid.reason, valid.message));
    }
    text
}

/// How long a certificate still is valid; empty if its end is not known.
fn left(end: &str, now: Timestamp) -> String {
    match end.parse::<Timestamp>() {
        Ok(end) if end <= now => "expired".to_owned(),
        Ok(end) => duration::show(end.duration_since(now).as_secs()),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    fn cluster(certificates: &str) -> VectorCluster {
        serde_yaml_ng::from_str(&format!(
            "
apiVersion: vectorkeep.dev/v1alpha1
kind: VectorCluster
metadata: {{name: support, namespace: acme}}
spec: {{encryption: {{local: {{}}}}}}
status:
  certificates: {certificates}
  conditions:
  - {{type: CertificatesValid, status: 'True', reason: Valid, message: renewed at noon, lastTransitionTime: x}}
"
        ))
        .expect("valid")
    }

    #[test]
    fn each_certificate_has_its_end_and_what_is_left() {
        let cluster = cluster("{servingNotAfter: '2026-03-31T00:00:00Z', operatorNotAfter: '2025-12-31T00:00:00Z'}");
        let text = render("acme", "support", &cluster, now());
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).expect("a line");
        assert!(line("serving (").ends_with("2026-03-31T00:00:00Z   89d"));
        assert!(line("operator").ends_with("expired"));
        assert!(line("internal").ends_with("-"));
        assert!(!text.contains("clients show it"));
        assert!(text.ends_with("\nCertificatesValid=True Valid: renewed at noon\n"));
    }

    #[test]
    fn what_clients_show_is_listed_where_they_are_asked_for_it() {
        let cluster = cluster("{clientNotAfter: '2026-03-31T00:00:00Z'}");
        let text = render("acme", "support", &cluster, now());
        assert!(text.contains("client (clients show it)"));
    }

    #[test]
    fn without_certificates_the_status_is_pointed_to() {
        let text = render("acme", "support", &cluster("null"), now());
        assert!(text.contains("kubectl vectorkeep status support -n acme"));
    }
}
