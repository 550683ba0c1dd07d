//! Whom TLS trusts: the system's certificates, read when the first of a server is to be judged.
//!
//! Reading some hundred of them takes longer than asking a server nearby for its references, and
//! plain http has no need of any.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use rustls_platform_verifier::Verifier;

use super::error::{Cause, Error};

/// What is spoken behind the handshake.
const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";

/// Settings that trust the system and those who are named in a PEM file, if there is one.
///
/// # Errors
/// [`Error::Setup`] when the file cannot be used.
pub(super) fn settings(ca_file: Option<&Path>, http1_only: bool) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let extra = ca_file.map(certificates).transpose()?.unwrap_or_default();
    let trusted = Trusted { extra, provider: provider.clone(), judge: OnceLock::new() };
    let settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|err| Error::Setup { what: "TLS".into(), source: err.into() })?;
    let mut settings = settings
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trusted))
        .with_no_client_auth();
    let spoken = if http1_only { &[HTTP_1][..] } else { &[HTTP_2, HTTP_1] };
    settings.alpn_protocols = spoken.iter().map(|it| it.to_vec()).collect();
    Ok(settings)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed =
        |source: Cause| Error::Setup { what: format!("CA file {}", file.display()), source };
    let pem = std::fs::read(file).map_err(|err| failed(err.into()))?;
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|err| failed(err.into()))?;
        // Told now, not when the first server is to be judged.
        RootCertStore::empty().add(certificate.clone()).map_err(|err| failed(err.into()))?;
        found.push(certificate);
    }
    if found.is_empty() {
        return Err(failed("there is no certificate in it".into()));
    }
    Ok(found)
}

/// The platform's own judge, who is called when there is somebody to be judged.
#[derive(Debug)]
struct Trusted {
    extra: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    judge: OnceLock<Verifier>,
}

impl Trusted {
    fn judge(&self) -> Result<&Verifier, rustls::Error> {
        if let Some(judge) = self.judge.get() {
            return Ok(judge);
        }
        // A system without certificates may have some by the next time.
        let extra = self.extra.iter().cloned();
        let judge = Verifier::new_with_extra_roots(extra, self.provider.clone())?;
        Ok(self.judge.get_or_init(|| judge))
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge = self.judge()?;
        judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge()?.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge()?.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        // Said with the first words, when nobody is to be judged yet.
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
