//! A real API server, the chart installed in it, and the operator as a process with the rights that the chart gives.

pub mod engine;
pub mod proxy;
pub mod receiver;

use std::{
    fs::File,
    io::{Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Namespace, Pod, PodTemplateSpec},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use vectorkeep_crds::{VectorCluster, status::Condition};

pub const OPERATOR_NAMESPACE: &str = "vectorkeep-system";
pub const INSTALLATION: &str = "itest";

/// So long an upgrade has until its gates hold.
pub const GATE_SECONDS: u64 = 15;

/// One API server for all tests of this process but those that take minutes, which have another.
static COMMON: Place = Place { plane: OnceLock::new(), turn: Mutex::const_new(()) };
static APART: Place = Place { plane: OnceLock::new(), turn: Mutex::const_new(()) };

struct Place {
    plane: OnceLock<ControlPlane>,
    /// There can be one operator at a time, so tests take turns.
    turn: Mutex<()>,
}

struct ControlPlane {
    kubeconfig: PathBuf,
    /// Takes the control plane down when this process ends, however it ends: then its input is closed.
    _undertaker: Child,
}

/// What a test works with.
pub struct World {
    pub client: Client,
    /// Namespace of the customer, new for each test.
    pub namespace: String,
    kubeconfig: PathBuf,
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// An operator process.
pub struct Operator {
    child: Child,
    log: PathBuf,
}

/// Kubernetes' own controllers that tests rely on: to delete namespaces, and what hangs on an owner or a finalizer.
const CONTROLLERS: &str = "namespace-controller,serviceaccount-controller,garbage-collector-controller,\
                           persistentvolumeclaim-protection-controller";

/// How to start an operator.
#[derive(Clone, Debug)]
pub struct Flags {
    pub instance: String,
    pub pod_annotations: Vec<String>,
    pub connect_to: Option<SocketAddr>,
    /// Instead of the API server itself.
    pub api_server: Option<String>,
    pub cluster_ranges: Vec<String>,
    pub notification_targets: Option<PathBuf>,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            instance: "operator-0".into(),
            pod_annotations: Vec::new(),
            connect_to: None,
            api_server: None,
            cluster_ranges: Vec::new(),
            notification_targets: None,
        }
    }
}

pub fn image(name: &str, digit: char) -> String {
    let digest: String = std::iter::repeat_n(digit, 64).collect();
    format!("localhost/vectorkeep-{name}@sha256:{digest}")
}

fn template_name(template: &PodTemplateSpec) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(template).expect("JSON").hash(&mut hasher);
    format!("engine-{:x}", hasher.finish())
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A program of the lab, which builds all of them.
fn program(name: &str) -> PathBuf {
    let cache = std::env::var_os("VECTORKEEP_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache/vectorkeep"),
        PathBuf::from,
    );
    let path = cache.join("lab/current").join(name);
    assert!(path.exists(), "{} is missing: run `e2e/lab/lab build`", path.display());
    path
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn control_plane(place: &'static Place) -> &'static ControlPlane {
    place.plane.get_or_init(|| {
        let lab = repository().join("e2e/lab/lab");
        // Not removed by its guard, which a static never drops, but by the undertaker.
        let folder = tempfile::Builder::new().prefix("vectorkeep-operator-test-").tempdir().expect("a folder").keep();
        let undertaker = Command::new("sh")
            .args(["-c", "cat; exec \"$0\" control-plane down --state \"$1\""])
            .args([&lab, &folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("a shell");
        let output = run(Command::new(&lab)
            .args(["control-plane", "up", "--controllers"])
            .arg(CONTROLLERS)
            .arg("--state")
            .arg(&folder));
        let kubeconfig = PathBuf::from(output.lines().last().expect("a path"));
        install(&kubeconfig);
        ControlPlane { kubeconfig, _undertaker: undertaker }
    })
}

/// The chart's objects, or Helm's complaint about the values.
pub fn render(options: &[&str]) -> Result<String, String> {
    let output = Command::new(program("helm"))
        .args(["template", "vectorkeep"])
        .arg(repository().join("charts/vectorkeep"))
        .args(["--namespace", OPERATOR_NAMESPACE])
        .args(["--set", &format!("installationId={INSTALLATION}")])
        .args(["--set", &format!("operator.image={}", image("operator", 'a'))])
        .args(["--set", &format!("engine.image={}", image("engine", 'b'))])
        .args(options)
        .output()
        .expect("helm starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Installs the chart as an administrator would; there is no kubelet, so its Deployment stays without pods.
fn install(kubeconfig: &Path) {
    let manifest = render(&[]).expect("a manifest");
    kubectl(kubeconfig, &["create", "namespace", OPERATOR_NAMESPACE], "");
    let apply = ["apply", "--server-side", "--namespace", OPERATOR_NAMESPACE, "-f", "-"];
    // The catalog is of a kind that the chart defines itself: it is refused until its definition is established. Helm
    // makes it after everything else.
    let _ = try_kubectl(kubeconfig, &apply, &manifest);
    for definition in ["crd/vectorclusters.vectorkeep.dev", "crd/enginecatalogs.vectorkeep.dev"] {
        kubectl(kubeconfig, &["wait", "--for=condition=Established", definition], "");
    }
    kubectl(kubeconfig, &apply, &manifest);
}

/// Runs `kubectl` with an input; answers what it says, or panics with its complaint.
pub fn kubectl(kubeconfig: &Path, arguments: &[&str], input: &str) -> String {
    try_kubectl(kubeconfig, arguments, input).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
}

/// Runs `kubectl` with an input; answers what it says, or its complaint.
pub fn try_kubectl(kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(program("kubectl"))
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("kubectl ends");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

async fn client(kubeconfig: &Path) -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a configuration");
    Client::try_from(config).expect("a client")
}

impl World {
    /// Waits for its turn, and makes a namespace of its own.
    pub async fn new() -> Self {
        Self::at(&COMMON).await
    }

    /// As [`Self::new`], beside the other tests: for who takes minutes.
    pub async fn apart() -> Self {
        Self::at(&APART).await
    }

    async fn at(place: &'static Place) -> Self {
        let turn = place.turn.lock().await;
        let kubeconfig = control_plane(place).kubeconfig.clone();
        let client = client(&kubeconfig).await;
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {"generateName": "acme-"},
        }))
        .expect("a namespace");
        let namespace =
            Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("created");
        Self {
            client,
            namespace: namespace.name_any(),
            kubeconfig,
            folder: tempfile::tempdir().expect("a folder"),
            _turn: turn,
        }
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig with the operator's own rights.
    pub fn operator_kubeconfig(&self, api_server: Option<&str>) -> PathBuf {
        let token = kubectl(
            &self.kubeconfig,
            &["create", "token", "vectorkeep-operator", "-n", OPERATOR_NAMESPACE, "--duration=1h"],
            "",
        );
        let text = std::fs::read_to_string(&self.kubeconfig).expect("readable");
        let mut config: Value = serde_yaml_ng::from_str(&text).expect("YAML or JSON");
        config["users"][0]["user"] = json!({"token": token.trim()});
        if let Some(url) = api_server {
            config["clusters"][0]["cluster"] = json!({"server": url});
        }
        let path = self.folder.path().join("operator.kubeconfig");
        std::fs::write(&path, config.to_string()).expect("written");
        path
    }

    /// Starts the operator, with the rights of its service account.
    pub fn start(&self, flags: &Flags) -> Operator {
        let log = self.folder.path().join(format!("{}.log", flags.instance));
        let file = File::options().create(true).append(true).open(&log).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_vectorkeep-operator"));
        command
            .env("KUBECONFIG", self.operator_kubeconfig(flags.api_server.as_deref()))
            .args(["--installation-id", INSTALLATION])
            .args(["--namespace", OPERATOR_NAMESPACE])
            .args(["--instance", &flags.instance])
            .args(["--upgrade-gate-seconds", &GATE_SECONDS.to_string()])
            .args(["--listen", "127.0.0.1:0"])
            .args(["--resync", "3", "--poll-interval", "1", "--reconcile-timeout", "5"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        for annotation in &flags.pod_annotations {
            command.args(["--engine-pod-annotation", annotation]);
        }
        for range in &flags.cluster_ranges {
            command.args(["--cluster-cidr", range]);
        }
        if let Some(path) = &flags.notification_targets {
            command.arg("--notification-targets").arg(path);
        }
        if let Some(address) = flags.connect_to {
            command.args(["--admin-connect-to", &address.to_string()]);
        }
        Operator { child: command.spawn().expect("the operator starts"), log }
    }

    /// Writes a VectorCluster with this spec.
    pub async fn apply(&self, name: &str, spec: &str) -> VectorCluster {
        self.try_apply(name, spec).await.expect("accepted")
    }

    /// Writes a VectorCluster with this spec, or says why it is refused.
    pub async fn try_apply(&self, name: &str, spec: &str) -> Result<VectorCluster, kube::Error> {
        let spec: Value = serde_yaml_ng::from_str(spec).expect("YAML");
        let object = json!({
            "apiVersion": "vectorkeep.dev/v1alpha1",
            "kind": "VectorCluster",
            "metadata": {"name": name},
            "spec": spec,
        });
        self.clusters().patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await
    }

    /// Deletes everything that is reported of a cluster.
    pub fn delete_status(&self, name: &str) {
        let patch = json!([{"op": "remove", "path": "/status"}]).to_string();
        let of = ["patch", "vcl", name, "-n", &self.namespace, "--subresource=status"];
        kubectl(&self.kubeconfig, &[&of[..], &["--type=json", "-p", &patch]].concat(), "");
    }

    pub fn clusters(&self) -> Api<VectorCluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn cluster_id(&self, name: &str) -> String {
        vectorkeep_crds::identity::cluster_id(INSTALLATION, &self.namespace, name)
    }

    pub fn data_plane(&self, name: &str) -> String {
        vectorkeep_crds::identity::data_plane_namespace(&self.cluster_id(name))
    }

    /// Plays kubelet and the StatefulSet controller: the engine's pod is there, of the workload's template, and ready.
    pub async fn pod_is_ready(&self, name: &str) {
        self.pod_is(name, true).await;
    }

    /// As [`Self::pod_is_ready`], but its container ends whenever it is started.
    pub async fn pod_crashes(&self, name: &str) {
        self.pod_is(name, false).await;
    }

    async fn pod_is(&self, name: &str, ready: bool) {
        let namespace = self.data_plane(name);
        let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), &namespace);
        let workload = api.get("engine").await.expect("a workload");
        let template = workload.spec.expect("a spec").template;
        // Named after the template, as Kubernetes does it, if not by the same hash.
        let revision = template_name(&template);
        self.run_pod(&namespace, template, &revision, ready).await;
        let status = json!({"status": {
            "observedGeneration": workload.metadata.generation, "replicas": 1, "readyReplicas": i32::from(ready),
            "updatedReplicas": 1,
            "currentRevision": revision, "updateRevision": revision,
        }});
        api.patch_status("engine", &PatchParams::default(), &Patch::Merge(status)).await.expect("written");
    }

    /// Plays the StatefulSet controller: the pod goes once its workload is gone.
    pub async fn pod_goes_with_its_workload(&self, name: &str) {
        let namespace = self.data_plane(name);
        let sets: Api<StatefulSet> = Api::namespaced(self.client.clone(), &namespace);
        self.until("the workload to go", || async { sets.get_opt("engine").await.ok()?.is_none().then_some(()) }).await;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        pods.delete("engine-0", &DeleteParams::default().grace_period(0)).await.expect("deleted");
    }

    async fn run_pod(&self, namespace: &str, template: PodTemplateSpec, revision: &str, ready: bool) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let label = "controller-revision-hash";
        if let Some(pod) = api.get_opt("engine-0").await.expect("readable") {
            if pod.labels().get(label).map(String::as_str) == Some(revision) {
                return;
            }
            api.delete("engine-0", &DeleteParams::default().grace_period(0)).await.expect("deleted");
        }
        let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
        pod.metadata.name = Some("engine-0".into());
        pod.metadata.labels.get_or_insert_default().insert(label.into(), revision.to_owned());
        api.create(&PostParams::default(), &pod).await.expect("created");
        let now = jiff::Timestamp::now().to_string();
        let status = match ready {
            true => json!({"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]}),
            false => json!({"containerStatuses": [{
                "name": "engine", "image": "engine", "imageID": "engine", "ready": false, "restartCount": 4,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            }]}),
        };
        let status = json!({"status": status});
        api.patch_status("engine-0", &PatchParams::default(), &Patch::Merge(status)).await.expect("written");
    }

    /// What was created in a namespace, in the order in which the API server's audit log has it.
    pub fn creations(&self, namespace: &str) -> Vec<(String, String)> {
        let log = self.kubeconfig.with_file_name("logs").join("audit.log");
        let text = std::fs::read_to_string(log).expect("an audit log");
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|event| {
                event["objectRef"]["namespace"] == namespace
                    && event["stage"] == "ResponseComplete"
                    && event["responseStatus"]["code"] == 201
            })
            .map(|event| {
                let field = |name: &str| event["objectRef"][name].as_str().unwrap_or_default().to_owned();
                (field("resource"), field("name"))
            })
            .collect()
    }

    /// Puts releases into the catalog beside the chart's, as an administrator would.
    pub fn offer(&self, releases: &[(&str, &str)]) {
        let releases = releases.iter().map(|(version, image)| json!({"version": version, "image": image}));
        self.offer_releases(&releases.collect::<Vec<_>>());
    }

    /// As [`Self::offer`], with everything that a release says of itself.
    pub fn offer_releases(&self, releases: &[Value]) {
        let mut all = vec![json!({"version": "0.1.0", "image": image("engine", 'b')})];
        all.extend_from_slice(releases);
        let patch = json!({"spec": {"releases": all}}).to_string();
        kubectl(&self.kubeconfig, &["patch", "enginecatalog", "vectorkeep", "--type=merge", "-p", &patch], "");
    }

    pub async fn condition(&self, name: &str, type_: &str) -> Option<Condition> {
        let cluster = self.clusters().get_opt(name).await.expect("readable")?;
        let conditions = cluster.status?.conditions;
        conditions.into_iter().find(|condition| condition.type_ == type_)
    }

    /// Waits for a condition with this status and reason.
    pub async fn until_condition(&self, name: &str, type_: &str, status: &str, reason: &str) -> Condition {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            last = self.condition(name, type_).await;
            if let Some(condition) = &last
                && condition.status == status
                && condition.reason == reason
            {
                return condition.clone();
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{type_} never was {status}/{reason}; last: {last:?}");
    }

    /// Waits until `check` answers something.
    pub async fn until<T, F>(&self, what: &str, mut check: impl FnMut() -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        for _ in 0..ATTEMPTS {
            if let Some(value) = check().await {
                return value;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("waited in vain for: {what}");
    }

    /// Takes away what this test made, so that the next test's operator has nothing to do with it.
    pub async fn clean_up(&self) {
        self.offer(&[]);
        let clusters = self.clusters();
        for cluster in clusters.list(&Default::default()).await.expect("listed") {
            let patch = json!({"metadata": {"finalizers": null}});
            let name = cluster.name_any();
            let _ = clusters.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
            let _ = clusters.delete(&name, &DeleteParams::default()).await;
            let namespaces: Api<Namespace> = Api::all(self.client.clone());
            let _ = namespaces.delete(&self.data_plane(&name), &DeleteParams::default()).await;
        }
    }
}

/// Bounds of every wait: a minute and a half in all, on a machine that does other things too.
const ATTEMPTS: usize = 900;
const PAUSE: Duration = Duration::from_millis(100);

impl Operator {
    /// Ends the process without any chance to tidy up.
    pub fn kill(mut self) {
        self.end();
    }

    /// Sends the process a signal, by its name.
    pub fn signal(&self, name: &str) {
        run(Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]));
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks the process to stop; answers whether it did so in good order.
    pub async fn stop(mut self) -> bool {
        let pid = self.child.id().to_string();
        run(Command::new("kill").args(["-TERM", &pid]));
        for _ in 0..ATTEMPTS {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.success();
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
    }

    /// Everything that was logged.
    pub fn log(&self) -> String {
        let mut text = String::new();
        File::open(&self.log).and_then(|mut file| file.read_to_string(&mut text)).expect("a log");
        text
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- log of the operator ---\n{}", self.log());
        }
    }
}
