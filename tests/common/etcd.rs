//! A real etcd (Debian's), which a test kills, freezes and starts again. It ends with its handle. Where it is secured, its
//! authorities, its users and their certificates are made here.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

use crate::common::ports::unused_address;
use crate::common::{DEADLINE, http_get};

/// The password of the user `root` of a secured etcd.
const ROOT: &str = "root:password-of-root";

/// A running etcd with a folder of its own.
pub(crate) struct Etcd {
    child: Option<Child>,
    folder: tempfile::TempDir,
    client: SocketAddr,
    peer: SocketAddr,
    metrics: SocketAddr,
    /// The arguments beside those that each has.
    arguments: Vec<String>,
    is_secured: bool,
}

/// Whoever signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Etcd {
    /// Starts one and waits until it answers.
    pub(crate) async fn start() -> Self {
        let mut etcd = Self::new(false, &[]);
        etcd.restart().await;
        etcd
    }

    /// Starts one that is encrypted, and whose clients are to have certificates of this authority if there is one.
    pub(crate) async fn start_secured(clients: Option<&Authority>, arguments: &[&str]) -> Self {
        let mut etcd = Self::new(true, arguments);
        let authority = Authority::new("authority of etcd");
        etcd.write("ca.pem", &authority.pem());
        authority.issue(
            "etcd",
            &etcd.file("server.pem"),
            &etcd.file("server-key.pem"),
        );
        if let Some(clients) = clients {
            etcd.trust(clients);
            let file = etcd.shown("client-ca.pem");
            etcd.arguments
                .extend(["--client-cert-auth", "--trusted-ca-file", &file].map(str::to_owned));
        }
        etcd.restart().await;
        etcd
    }

    fn new(is_secured: bool, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        std::fs::write(
            folder.path().join("secret"),
            "the secret that tokens are signed with",
        )
        .expect("a file can be written");
        Self {
            child: None,
            folder,
            client: unused_address(),
            peer: unused_address(),
            metrics: unused_address(),
            arguments: arguments.iter().copied().map(str::to_owned).collect(),
            is_secured,
        }
    }

    /// Where it is reached.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_secured { "https" } else { "http" };
        format!("{scheme}://{}", self.client)
    }

    /// A file of its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).expect("a file can be written");
    }

    /// Has clients with certificates of this authority let in, from the next start on.
    pub(crate) fn trust(&self, clients: &Authority) {
        self.write("client-ca.pem", &clients.pem());
    }

    /// Starts it with what it kept, after it was killed.
    pub(crate) async fn restart(&mut self) {
        let (client, peer) = (self.url(), format!("http://{}", self.peer));
        let mut command = Command::new("etcd");
        command
            .current_dir(self.folder.path())
            .arg("--data-dir")
            .arg(self.file("data"))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--listen-metrics-urls", &format!("http://{}", self.metrics)])
            .args(["--unsafe-no-fsync"])
            .args(["--log-level", "error"])
            .args(&self.arguments);
        if self.is_secured {
            // Each login costs what this says, and the usual is a tenth of a second.
            command.args(["--bcrypt-cost", "4"]).args([
                "--cert-file",
                "server.pem",
                "--key-file",
                "server-key.pem",
            ]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed (Debian's etcd-server)");
        self.child = Some(child);
        let begun = Instant::now();
        while TcpStream::connect(self.client).is_err()
            || TcpStream::connect(self.metrics).is_err()
            || !http_get(self.metrics, "/health").contains("true")
        {
            assert!(begun.elapsed() < DEADLINE, "etcd does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Makes a user with this password, who may read and write the keys that begin with `/twinsight/test/`, and a superuser. They are
    /// asked for from [`enable_users`](Self::enable_users) on.
    pub(crate) fn add_user(&self, user: &str, password: &str) {
        for arguments in [
            &["user", "add", ROOT][..],
            &["role", "add", "root"],
            &["user", "grant-role", "root", "root"],
            &["role", "add", "nodes"],
            &[
                "role",
                "grant-permission",
                "nodes",
                "readwrite",
                "--prefix=true",
                "/twinsight/test/",
            ],
            &["user", "add", &format!("{user}:{password}")],
            &["user", "grant-role", user, "nodes"],
        ] {
            self.control(arguments);
        }
    }

    /// Lets in its users alone from now on.
    pub(crate) fn enable_users(&self) {
        self.control(&["auth", "enable"]);
    }

    /// Changes who may do what by one more user, which makes all tokens of before old.
    pub(crate) fn add_another_user(&self) {
        self.control(&["--user", ROOT, "user", "add", "another:password"]);
    }

    /// Runs etcd's own client, on an etcd that wants no certificates.
    fn control(&self, arguments: &[&str]) {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.url()]);
        if self.is_secured {
            command.args(["--cacert", &self.shown("ca.pem")]);
        }
        let output = command
            .args(arguments)
            .output()
            .expect("etcdctl is installed (Debian's etcd-client)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {arguments:?}: {said}");
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate can be made"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes a certificate for somebody on this machine, and its key.
    pub(crate) fn issue(&self, name: &str, cert_file: &Path, key_file: &Path) {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("the names are names");
        params.distinguished_name.push(DnType::CommonName, name);
        // A server of etcd is a client of its own, too.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key can be made");
        let cert = params.signed_by(&key, &self.0).expect("it can be signed");
        for (file, pem) in [(cert_file, cert.pem()), (key_file, key.serialize_pem())] {
            std::fs::write(file, pem).expect("a file can be written");
        }
    }
}
