//! TLS towards the engine: who is believed, and what is said when somebody is not.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use plimsoll_discover::docker::host::EngineHost;
use plimsoll_discover::docker::whereami::Traces;
use plimsoll_testkit::{FakeContainer, FakeEngine, TempDir};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::running::{Running, calm};

/// Somebody who signs certificates.
struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
struct Pair {
    cert: String,
    key: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Signs one for these names and addresses.
    fn sign(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

/// An engine behind TLS that asks for certificates of a CA.
struct Secured {
    engine: FakeEngine,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Secured {
    async fn start(ca: &Ca, names: &[&str]) -> Self {
        let engine = FakeEngine::start().unwrap();
        engine.world(|world| world.run(FakeContainer::web("web", "web.example")));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap();
        roots.add(root).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let pair = ca.sign(names);
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = engine.socket();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, socket) = (acceptor.clone(), socket.clone());
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let mut inner = UnixStream::connect(socket).await.unwrap();
                        let copied = tokio::io::copy_bidirectional(&mut stream, &mut inner).await;
                        drop(copied);
                    }
                });
            }
        });
        Self {
            engine,
            address,
            accepting,
        }
    }

    fn host(&self, name: &str) -> EngineHost {
        EngineHost::parse(&format!("tcp://{name}:{}", self.address.port())).unwrap()
    }
}

/// A folder with what is given of a CA and a certificate.
fn folder(ca: Option<&Ca>, pair: Option<&Pair>) -> TempDir {
    let folder = TempDir::new().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    if let Some(ca) = ca {
        put("ca.pem", &ca.pem());
    }
    if let Some(pair) = pair {
        put("cert.pem", &pair.cert);
        put("key.pem", &pair.key);
    }
    folder
}

fn start(host: EngineHost) -> Running {
    Running::start_at(host, calm(), Traces::default())
}

#[tokio::test]
async fn both_sides_show_who_they_are() {
    let ca = Ca::new();
    let secured = Secured::start(&ca, &["localhost", "127.0.0.1"]).await;
    let folder = folder(Some(&ca), Some(&ca.sign(&["client"])));
    for name in ["localhost", "127.0.0.1"] {
        let source = start(secured.host(name).with_tls(folder.path(), true));
        source.up().await;
        source.look(|heard| assert!(heard.is_ready("web")));
    }
}

#[tokio::test]
async fn events_come_through() {
    let ca = Ca::new();
    let secured = Secured::start(&ca, &["localhost"]).await;
    let folder = folder(Some(&ca), Some(&ca.sign(&["client"])));
    let source = start(secured.host("localhost").with_tls(folder.path(), true));
    source.up().await;
    let id = secured
        .engine
        .world(|world| world.run(FakeContainer::web("new", "new.example")));
    source.until("started", |heard| heard.is_ready("new")).await;
    secured.engine.world(|world| world.stop(&id));
    source
        .until("stopped", |heard| !heard.is_ready("new"))
        .await;
}

#[tokio::test]
async fn an_engine_of_another_ca_is_not_believed() {
    let (ca, other) = (Ca::new(), Ca::new());
    let secured = Secured::start(&ca, &["localhost"]).await;
    let folder = folder(Some(&other), Some(&ca.sign(&["client"])));
    let why = start(secured.host("localhost").with_tls(folder.path(), true))
        .stale()
        .await;
    assert!(why.contains("not signed by the CA in ca.pem"), "{why}");
    // Without DOCKER_TLS_VERIFY it may be anybody.
    let source = start(secured.host("localhost").with_tls(folder.path(), false));
    source.up().await;
}

#[tokio::test]
async fn an_engine_of_another_name_is_not_believed() {
    let ca = Ca::new();
    let secured = Secured::start(&ca, &["engine.example"]).await;
    let folder = folder(Some(&ca), Some(&ca.sign(&["client"])));
    let why = start(secured.host("localhost").with_tls(folder.path(), true))
        .stale()
        .await;
    assert!(why.contains("not for this name or address"), "{why}");
}

#[tokio::test]
async fn without_a_certificate_the_engine_says_no() {
    let ca = Ca::new();
    let secured = Secured::start(&ca, &["localhost"]).await;
    let folder = folder(Some(&ca), None);
    let why = start(secured.host("localhost").with_tls(folder.path(), true))
        .stale()
        .await;
    assert!(why.contains("it wants a certificate"), "{why}");
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let (ca, other) = (Ca::new(), Ca::new());
    let secured = Secured::start(&ca, &["localhost"]).await;
    let folder = folder(Some(&ca), Some(&other.sign(&["client"])));
    let why = start(secured.host("localhost").with_tls(folder.path(), true))
        .stale()
        .await;
    assert!(
        why.contains("does not accept the certificate in cert.pem"),
        "{why}"
    );
}

#[tokio::test]
async fn files_that_are_missing_or_broken_are_named() {
    let ca = Ca::new();
    let secured = Secured::start(&ca, &["localhost"]).await;
    let pair = ca.sign(&["client"]);
    let why = async |folder: &TempDir| {
        start(secured.host("localhost").with_tls(folder.path(), true))
            .stale()
            .await
    };

    let none = folder(None, Some(&pair));
    let said = why(&none).await;
    assert!(
        said.contains("ca.pem") && said.contains("DOCKER_CERT_PATH"),
        "{said}"
    );

    let broken = folder(Some(&ca), Some(&pair));
    fs::write(broken.path().join("ca.pem"), "nothing").unwrap();
    let said = why(&broken).await;
    assert!(said.contains("ca.pem: holds no certificate"), "{said}");

    let keyless = folder(Some(&ca), Some(&pair));
    fs::remove_file(keyless.path().join("key.pem")).unwrap();
    let said = why(&keyless).await;
    assert!(said.contains("key.pem"), "{said}");

    let mixed = folder(Some(&ca), Some(&pair));
    fs::write(mixed.path().join("key.pem"), ca.sign(&["other"]).key).unwrap();
    let said = why(&mixed).await;
    assert!(
        said.contains("key.pem: does not go with cert.pem"),
        "{said}"
    );
}

#[tokio::test]
async fn tls_where_there_is_none_and_none_where_there_is() {
    let ca = Ca::new();
    let folder = folder(Some(&ca), Some(&ca.sign(&["client"])));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut reader, mut writer) = stream.split();
            let _hello = reader.read(&mut [0; 1024]).await;
            let _sent = writer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let plain = EngineHost::parse(&format!("tcp://{address}")).unwrap();
    let why = start(plain.with_tls(folder.path(), true)).stale().await;
    assert!(why.contains("does not speak TLS"), "{why}");
    answering.abort();

    let engine = FakeEngine::start().unwrap();
    let address = engine.listen_tcp().await.unwrap();
    // What Go's server says to who speaks HTTP to its TLS port.
    engine.adjust(|how| {
        let said = "Client sent an HTTP request to an HTTPS server.\n";
        let fault = plimsoll_testkit::Fault::Status(400, said.into());
        how.faults.insert(plimsoll_testkit::Ask::Ping, fault);
    });
    let plain = EngineHost::parse(&format!("tcp://{address}")).unwrap();
    let why = start(plain).stale().await;
    assert!(
        why.contains("set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH"),
        "{why}"
    );
}
