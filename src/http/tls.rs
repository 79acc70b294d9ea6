//! Which certificates are trusted, and which of our own are shown.

use reqwest::Url;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where distributions keep the bundle of all trusted certificates.
pub const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read; the cause names it.
    #[error("cannot read certificates")]
    Read(#[source] std::io::Error),
    /// A file holds no certificate or key.
    #[error("{path} holds no usable {what} in PEM form")]
    Empty {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// rustls refuses what it was given.
    #[error("cannot set up TLS")]
    Rustls(#[from] rustls::Error),
}

/// Trust. The default reads the system's bundle, else the built-in one, and knows no exceptions.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// The first of these that exists is the bundle; if none does, Mozilla's built-in list is. `SSL_CERT_FILE` replaces all.
    pub bundles: Vec<PathBuf>,
    /// Directories of more certificates in PEM form (`SSL_CERT_DIR`). What is missing is left out.
    pub directories: Vec<PathBuf>,
    /// More certificates that must be there (`--registry-ca`).
    pub extra: Vec<PathBuf>,
    /// Directories with one directory a registry, `HOST[:PORT]/{*.crt,*.cert,*.key}`, such as /etc/docker/certs.d.
    pub host_directories: Vec<PathBuf>,
    /// Hosts, `host:port` or `a.b.c.d/n` whose certificate is not verified and that may speak plain http.
    pub insecure: BTreeSet<String>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        TlsSettings {
            bundles: SYSTEM_BUNDLES.iter().map(PathBuf::from).collect(),
            directories: Vec::new(),
            extra: Vec::new(),
            host_directories: vec!["/etc/docker/certs.d".into(), "/etc/containers/certs.d".into()],
            insecure: BTreeSet::new(),
        }
    }
}

impl TlsSettings {
    /// Whether plain http and unverified certificates are accepted of `authority` (`host` or `host:port`). This machine
    /// always is, as with Docker.
    pub fn is_insecure(&self, authority: &str) -> bool {
        let host = super::address::host_of(authority);
        super::is_loopback(authority)
            || self.insecure.contains(authority)
            || self.insecure.contains(host)
            || self.insecure.contains("*")
            || self.insecure.iter().any(|net| in_network(host, net))
    }

    /// The directory of certificates for the host of `url`, if there is one.
    pub(super) fn host_directory(&self, url: &Url) -> Option<PathBuf> {
        let short = super::authority(url);
        let long = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
        let names = [short, long];
        let paths = self.host_directories.iter().flat_map(|dir| names.iter().map(move |name| dir.join(name)));
        paths.into_iter().find(|path| path.is_dir())
    }

    /// The configuration for a host with certificates in `host_directory`, if any. With `insecure`, nothing is verified
    /// unless that directory names an authority.
    pub(super) fn config(&self, host_directory: Option<&Path>, insecure: bool) -> Result<ClientConfig, TlsError> {
        let own = host_directory.map(HostFiles::read).transpose()?.unwrap_or_default();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = if insecure && own.authorities.is_empty() {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        } else {
            let mut roots = self.roots()?;
            roots.add_parsable_certificates(own.authorities);
            builder.with_root_certificates(roots)
        };
        let mut config = match own.identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(bundle) = self.bundles.iter().find(|path| path.is_file()) {
            roots.add_parsable_certificates(certificates(bundle)?);
        }
        if roots.is_empty() {
            roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        }
        for file in self.directories.iter().flat_map(|dir| files(dir)) {
            // Such a directory holds other things too: what is no certificate is left out.
            roots.add_parsable_certificates(certificates(&file).unwrap_or_default());
        }
        for file in &self.extra {
            let (usable, _) = roots.add_parsable_certificates(certificates(file)?);
            if usable == 0 {
                return Err(TlsError::Empty { path: file.clone(), what: "certificate" });
            }
        }
        Ok(roots)
    }
}

/// A configuration that trusts nobody: for clients that only ever speak plain http.
pub(super) fn no_tls() -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// What a directory of /etc/docker/certs.d holds: `*.crt` are authorities, `NAME.cert` with `NAME.key` is our identity.
#[derive(Default)]
struct HostFiles {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl HostFiles {
    fn read(directory: &Path) -> Result<Self, TlsError> {
        let mut found = HostFiles::default();
        for file in files(directory) {
            match file.extension().and_then(|e| e.to_str()) {
                Some("crt") => found.authorities.extend(certificates(&file)?),
                Some("cert") => {
                    let (chain, key) = (certificates(&file)?, file.with_extension("key"));
                    let text = fs_err::read(&key).map_err(TlsError::Read)?;
                    let key = PrivateKeyDer::from_pem_slice(&text)
                        .map_err(|_| TlsError::Empty { path: key, what: "private key" })?;
                    found.identity = Some((chain, key));
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = fs_err::read(file).map_err(TlsError::Read)?;
    Ok(CertificateDer::pem_slice_iter(&text).filter_map(Result::ok).collect())
}

/// Files of a directory in the order of their names; none if it cannot be read.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(directory).map(|dir| dir.filter_map(Result::ok).map(|e| e.path()).collect());
    let mut paths: Vec<PathBuf> = entries.unwrap_or_default();
    paths.sort();
    paths
}

fn in_network(host: &str, network: &str) -> bool {
    let Some((base, bits)) = network.split_once('/') else { return false };
    let (Ok(host), Ok(base), Ok(bits)) =
        (host.parse::<std::net::Ipv4Addr>(), base.parse::<std::net::Ipv4Addr>(), bits.parse::<u32>())
    else {
        return false;
    };
    let mask = u32::MAX.checked_shl(32u32.saturating_sub(bits)).unwrap_or(0);
    bits <= 32 && host.to_bits() & mask == base.to_bits() & mask
}

/// Accepts every certificate, for hosts that the user calls insecure. Signatures are still checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
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
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_insecure() {
        let insecure = ["r.example.com", "s.example.com:5000", "10.0.0.0/8"].map(String::from).into();
        let settings = TlsSettings { insecure, ..TlsSettings::default() };
        for host in ["127.0.0.1:5000", "localhost", "r.example.com:1", "s.example.com:5000", "10.1.2.3:5000"] {
            assert!(settings.is_insecure(host), "{host}");
        }
        for host in ["s.example.com", "11.0.0.1", "example.com", "10.example.com"] {
            assert!(!settings.is_insecure(host), "{host}");
        }
    }

    #[test]
    fn without_a_bundle_the_built_in_list_serves() {
        let settings = TlsSettings { bundles: vec!["/nonexistent".into()], ..TlsSettings::default() };
        assert!(settings.roots().unwrap().len() > 50);
    }

    #[test]
    fn a_ca_file_that_holds_none_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let settings = TlsSettings { extra: vec![file.path().into()], ..TlsSettings::default() };
        assert!(matches!(settings.roots(), Err(TlsError::Empty { .. })));
    }
}
