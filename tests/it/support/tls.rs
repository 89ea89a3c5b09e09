//! Valid and invalid certificates from an authority that the tests' client trusts.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A valid certificate, or a certificate with a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certificate {
    Good,
    SelfSigned,
    OtherName,
    Expired,
}

/// The host name in valid certificates.
pub(crate) const HOST: &str = "receiver.test";

pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The authority that the whole test run shares, because tests create clients before they create the receivers.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Authority> = OnceLock::new();
        SHARED.get_or_init(|| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, "Test authority");
            let certificate = params.self_signed(&key).unwrap().der().clone();
            Self { certificate, issuer: Issuer::new(params, key) }
        })
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The authority's certificate as PEM, for a file of trusted certificates.
    pub(crate) fn pem(&self) -> String {
        let text = STANDARD.encode(&self.certificate);
        // RFC 7468, section 2, limits lines to 64 characters. OpenSSL rejects longer lines.
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }

    /// TLS settings for a server that has this type of certificate and offers these protocols by ALPN.
    pub(crate) fn server(&self, kind: Certificate, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let name = if kind == Certificate::OtherName { "other.test" } else { HOST };
        self.server_of(name, kind, protocols)
    }

    pub(crate) fn server_of(&self, name: &str, kind: Certificate, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        // The real binary resolves names, so the certificate is also valid for the name `localhost`.
        let mut params = CertificateParams::new(vec![name.to_owned(), "localhost".to_owned()]).unwrap();
        if kind == Certificate::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let certificate = if kind == Certificate::SelfSigned {
            params.self_signed(&key)
        } else {
            params.signed_by(&key, &self.issuer)
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.unwrap().der().clone()], key)
            .unwrap();
        server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(server)
    }
}
