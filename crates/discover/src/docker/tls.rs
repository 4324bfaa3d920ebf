//! TLS towards the engine: the files of `DOCKER_CERT_PATH`, and who is believed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::host::Tls;

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(
        "{path}: {source}: DOCKER_CERT_PATH names the folder with ca.pem, cert.pem and key.pem"
    )]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {why}")]
    Bad { path: PathBuf, why: String },
}

/// A configuration from the files of a folder, read now. Without `cert.pem` and `key.pem` no
/// certificate is shown, as by the docker command.
pub(crate) fn client(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let bad = |path: &Path, why: String| TlsError::Bad {
        path: path.to_owned(),
        why,
    };
    let ca = tls.folder.join("ca.pem");
    let verifier: Arc<dyn ServerCertVerifier> = if tls.verify {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&ca)? {
            let added = roots.add(certificate);
            added.map_err(|error| bad(&ca, format!("is no certificate of a CA: {error}")))?;
        }
        let built =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        built.build().map_err(|error| bad(&ca, error.to_string()))?
    } else {
        Arc::new(Anybody(Arc::clone(&provider)))
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&tls.folder, error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let (cert, key) = (tls.folder.join("cert.pem"), tls.folder.join("key.pem"));
    if !cert.exists() && !key.exists() {
        return Ok(config.with_no_client_auth());
    }
    let chain = certificates(&cert)?;
    let bytes = read(&key)?;
    let private = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|error| bad(&key, format!("holds no private key: {error}")))?;
    let with = config.with_client_auth_cert(chain, private);
    with.map_err(|error| bad(&key, format!("does not go with cert.pem: {error}")))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let why = match found {
        Ok(found) if !found.is_empty() => return Ok(found),
        Ok(_) => "holds no certificate (PEM)".to_owned(),
        Err(error) => format!("holds no certificate (PEM): {error}"),
    };
    let path = path.to_owned();
    Err(TlsError::Bad { path, why })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Believes anybody who holds the key of the certificate shown: what the docker command does when
/// `DOCKER_TLS_VERIFY` is not set.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
