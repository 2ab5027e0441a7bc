//! The operator as a program: reads its flags, waits for its turn, and reconciles.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use crate::{
    chain::chain,
    controller::{self, Pace},
    isolation,
    lease::LeaderLease,
    metrics::Metrics,
    notify::{Notifier, feed::Feed, target},
    poller::Reach,
    server,
    settings::{AddressPort, AddressRange, Settings},
};
use clap::Parser;
use jiff::SignedDuration;
use kube::Client;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

/// Turns VectorCluster resources into isolated, encrypted vector-search clusters.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Tells installations apart; part of every derived cluster id. Must never change.
    #[arg(long)]
    installation_id: String,
    /// Namespace that the operator runs in.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// Name of this replica.
    #[arg(long, env = "POD_NAME")]
    instance: String,
    /// Service account that the operator runs as.
    #[arg(long, default_value = "vectorkeep-operator")]
    service_account: String,
    /// A label KEY=VALUE of the operator's pods; may be given several times.
    #[arg(long = "pod-label", value_parser = parse_label, default_value = "app.kubernetes.io/name=vectorkeep-operator")]
    pod_labels: Vec<(String, String)>,
    /// An annotation KEY=VALUE of the engines' pods; may be given several times.
    #[arg(long = "engine-pod-annotation", value_parser = parse_label)]
    pod_annotations: Vec<(String, String)>,
    /// Clusters that may be moving to another release at the same time.
    #[arg(long, default_value_t = 3)]
    concurrent_upgrades: usize,
    /// Seconds that a new release has to pass every gate, before it is taken back.
    #[arg(long, default_value_t = 300)]
    upgrade_gate_seconds: u32,
    /// Address range, with a port if it is not 443, where the KMS and the token service are found.
    #[arg(long = "kms-egress-cidr", value_name = "CIDR[:PORT]")]
    kms_egress: Vec<AddressPort>,
    /// Address range of this cluster's pods, services or nodes, which no resource may open egress to.
    #[arg(long = "cluster-cidr", value_name = "CIDR")]
    cluster_ranges: Vec<AddressRange>,
    /// Namespace whose pods may read the engines' metrics.
    #[arg(long = "monitoring-namespace", value_name = "NAMESPACE")]
    monitoring_namespaces: Vec<String>,
    /// Audience of the token that engines present to the cloud's identity service.
    #[arg(long, default_value = "sts.amazonaws.com")]
    token_audience: String,
    /// A listener HOST:PORT that engines must not reach, and that the operator reaches: proof that the network keeps
    /// engines apart. May be given several times.
    #[arg(long = "isolation-probe", value_name = "HOST:PORT")]
    isolation_probes: Vec<String>,
    /// A further listener NAME=HOST:PORT that engines must not reach. The name shows in every status. May be given several
    /// times.
    #[arg(long = "isolation-target", value_name = "NAME=HOST:PORT", value_parser = parse_target)]
    isolation_targets: Vec<(String, String)>,
    /// Where to listen for engines that must not get here.
    #[arg(long, value_name = "ADDRESS:PORT")]
    isolation_listen: Option<SocketAddr>,
    /// File (JSON) of the targets to notify of upgrades and advisories.
    #[arg(long, value_name = "FILE")]
    notification_targets: Option<PathBuf>,
    /// Where to serve health, metrics and the advisory feed.
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Reconciles at the same time.
    #[arg(long, default_value_t = 8)]
    concurrency: u16,
    /// Seconds after which a resource is looked at though nothing called.
    #[arg(long, default_value_t = 600)]
    resync: u64,
    /// Seconds that one look at a resource may take, before it is given up and tried again.
    #[arg(long, default_value_t = 60)]
    reconcile_timeout: u64,
    /// Seconds between two questions to one engine.
    #[arg(long, default_value_t = 3)]
    poll_interval: u64,
    /// Connect here, instead of to the address of an engine's name, for its admin API: for an operator outside the
    /// pod network. Certificates are verified for the name all the same.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_connect_to: Option<SocketAddr>,
    /// What to log, like `info` or `vectorkeep_operator=debug`.
    #[arg(long, default_value = "info", env = "VECTORKEEP_LOG")]
    log: String,
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

fn parse_target(text: &str) -> Result<(String, String), String> {
    let (name, address) = parse_label(text)?;
    let port = address.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
    match (port, name.starts_with("operator") || name.starts_with("other-cluster")) {
        (Some(_), false) => Ok((name, address)),
        (Some(_), true) => Err(format!("{name:?} is a name that the operator gives itself")),
        (None, _) => Err(format!("{address:?} is not HOST:PORT")),
    }
}

/// Runs the operator to its end. Engines' pods get these annotations beside those that the flags name: builds that differ
/// in them render different pods.
#[tokio::main]
pub async fn run(annotations: &[(&str, &str)]) -> ExitCode {
    let mut arguments = Arguments::parse();
    arguments.pod_annotations.extend(annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    tracing_subscriber::fmt()
        .json()
        .with_span_list(false)
        .with_env_filter(EnvFilter::new(&arguments.log))
        .with_writer(std::io::stderr)
        .init();
    match lead(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = chain(&*error), "the operator can't run");
            ExitCode::FAILURE
        }
    }
}

async fn lead(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // The only provider that is built in; said once for every library that asks for "the" provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let stop = stop_signal()?;
    let metrics = Arc::new(Metrics::default());
    let targets = arguments.notification_targets.as_deref().map(target::read).transpose()?.unwrap_or_default();
    metrics.unusable_targets(targets.unusable.len());
    for unusable in &targets.unusable {
        tracing::error!(error = chain(unusable), "a notification target is told nothing until it is mended");
    }
    let client = Client::try_default().await?;
    let feed = Feed::new(client.clone());
    let address = server::serve(arguments.listen, &arguments.namespace, Arc::clone(&metrics), feed).await?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "health and metrics are served");

    if let Some(address) = arguments.isolation_listen {
        isolation::listen(address).await?;
    }
    let lease = LeaderLease::new(client.clone(), &arguments.namespace, arguments.instance.clone());
    let reached = || metrics.start();
    tokio::select! {
        () = lease.acquire(reached) => {}
        () = stopped(stop.clone()) => return Ok(()),
    }
    tracing::info!(instance = arguments.instance, "leading");
    metrics.lead(true);

    let pace = Pace {
        concurrency: arguments.concurrency,
        resync: Duration::from_secs(arguments.resync),
        deadline: Duration::from_secs(arguments.reconcile_timeout),
        reach: Reach { interval: Duration::from_secs(arguments.poll_interval), connect_to: arguments.admin_connect_to },
    };
    let instance = arguments.instance.clone();
    let settings = settings(arguments, targets.names);
    let notifier = Notifier::start(&client, &settings.operator_namespace, targets.usable, &metrics);
    let shutdown = stopped(stop.clone());
    let reconciling = controller::run(client, settings, pace, instance, notifier, Arc::clone(&metrics), shutdown);
    tokio::select! {
        () = reconciling => {}
        lost = lease.keep() => {
            tracing::error!(error = %lost, "another replica may lead by now; this one ends at once");
            // Not after a tidy end: whatever is under way must not go on.
            std::process::exit(70);
        }
    }
    lease.release().await;
    tracing::info!("stopped");
    Ok(())
}

fn settings(arguments: Arguments, notification_targets: Vec<String>) -> Settings {
    Settings {
        installation_id: arguments.installation_id,
        operator_namespace: arguments.namespace,
        operator_service_account: arguments.service_account,
        operator_pod_labels: arguments.pod_labels,
        isolation_probes: arguments.isolation_probes,
        isolation_targets: arguments.isolation_targets,
        pod_annotations: arguments.pod_annotations,
        concurrent_upgrades: arguments.concurrent_upgrades,
        gate_deadline: SignedDuration::from_secs(arguments.upgrade_gate_seconds.into()),
        kms_egress: arguments.kms_egress,
        cluster_ranges: arguments.cluster_ranges,
        monitoring_namespaces: arguments.monitoring_namespaces,
        token_audience: arguments.token_audience,
        notification_targets,
    }
}

/// Becomes `true` at the first SIGTERM or SIGINT.
fn stop_signal() -> Result<watch::Receiver<bool>, std::io::Error> {
    let (sender, receiver) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop");
        let _ = sender.send(true);
        // Keeps the channel open, so that "stopped" stays true for whoever asks later.
        std::future::pending::<()>().await;
    });
    Ok(receiver)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
