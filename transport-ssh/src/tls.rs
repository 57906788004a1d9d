//! TLS on a connection, by rustls: whom to trust, and a session between the bytes of the socket and those of the machines.
//!
//! A certificate is checked against the authorities that the system trusts or those of a file, and must be for the name that
//! was asked for. A file may as well hold the server's own certificate: that one is then taken as it is. On a connection that
//! nobody else can read anyway, such as loopback, no certificate is looked at; TLS is only there because the server wants it.
//! What must not come in: when TLS begins, and what is said on a connection.

use crate::peer::Secured;
use crate::session::{Session, Sessions, Trouble, Wire};
use rustix::io::Errno;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::Arc;

/// Bytes that wait to be encrypted or to leave, at most.
const BUFFER: usize = 64 << 10;

/// Who is believed to be who they say.
#[derive(Clone, Debug)]
pub struct Trust {
    checked: Arc<ClientConfig>,
    unchecked: Arc<ClientConfig>,
}

impl Trust {
    /// Trusts the authorities, or the very certificates, in a PEM file.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, worded for a person.
    pub fn file(path: &Path) -> Result<Trust, String> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let own = read.map_err(|error| format!("{}: {error}", path.display()))?;
        if own.is_empty() {
            return Err(format!("{}: expected certificates in PEM form, found none", path.display()));
        }
        Trust::new(own.clone(), own)
    }

    /// Trusts the authorities that the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR`, or where distributions have them).
    /// Where there are none, nobody is trusted.
    pub fn system() -> Result<Trust, String> {
        Trust::new(rustls_native_certs::load_native_certs().certs, Vec::new())
    }

    /// Trusts nobody: for connections that are private already.
    pub fn nobody() -> Result<Trust, String> {
        Trust::new(Vec::new(), Vec::new())
    }

    fn new(authorities: Vec<CertificateDer<'static>>, own: Vec<CertificateDer<'static>>) -> Result<Trust, String> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        // What cannot be an authority may still be the very certificate of the server.
        roots.add_parsable_certificates(authorities);
        let usual = (!roots.is_empty())
            .then(|| WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build())
            .transpose()
            .map_err(|error| error.to_string())?;
        let checked = Checked { usual, own, signatures: Signatures(provider.clone()) };
        Ok(Trust {
            checked: config(&provider, Arc::new(checked))?,
            unchecked: config(&provider, Arc::new(Unchecked(Signatures(provider.clone()))))?,
        })
    }
}

impl Sessions for Trust {
    fn with(&self, secured: &Secured) -> io::Result<Box<dyn Session>> {
        let name = ServerName::try_from(secured.name.clone()).map_err(io::Error::other)?;
        Ok(Box::new(Tls::new(&self.checked, name)?))
    }

    fn within(&self) -> io::Result<Box<dyn Session>> {
        Ok(Box::new(Tls::new(&self.unchecked, ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()))?))
    }
}

fn config(provider: &Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(Arc::new(builder.with_no_client_auth()))
}

/// Checks what the other side signed with the key of its certificate.
#[derive(Debug)]
struct Signatures(Arc<CryptoProvider>);

type Signed = Result<HandshakeSignatureValid, Error>;

impl Signatures {
    fn tls12(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Signed {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn tls13(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Signed {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes the certificates of a file as they are, and others as is usual.
#[derive(Debug)]
struct Checked {
    usual: Option<Arc<WebPkiServerVerifier>>,
    own: Vec<CertificateDer<'static>>,
    signatures: Signatures,
}

impl ServerCertVerifier for Checked {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.own.iter().any(|own| own == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.usual {
            Some(usual) => usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Signed {
        self.signatures.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Signed {
        self.signatures.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}

/// Takes any certificate.
#[derive(Debug)]
struct Unchecked(Signatures);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Signed {
        self.0.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Signed {
        self.0.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.schemes()
    }
}

/// A session.
struct Tls(Box<ClientConnection>);

impl Tls {
    fn new(config: &Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Tls> {
        let mut session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(BUFFER));
        Ok(Tls(Box::new(session)))
    }

    fn read_record(&mut self, mut wire: Wire<'_>) -> Result<(), Trouble> {
        let was_agreeing = self.is_agreeing();
        let n = self.0.read_tls(&mut wire).map_err(|error| trouble(&error))?;
        let taken = self.0.process_new_packets();
        // What follows from it leaves at once: an answer, or word of why this is the end.
        let left = self.flush(wire);
        taken.map_err(|error| Trouble::Refused(worded(&error)))?;
        if n == 0 && was_agreeing {
            return Err(Trouble::Refused(String::from("the other side ended the connection before TLS was agreed")));
        }
        match left {
            Err(Trouble::Wire(Errno::AGAIN)) | Ok(()) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }
}

impl Session for Tls {
    fn is_agreeing(&self) -> bool {
        self.0.is_handshaking()
    }

    fn is_flushed(&self) -> bool {
        !self.0.wants_write()
    }

    fn read(&mut self, wire: Wire<'_>, into: &mut Vec<u8>) -> Result<usize, Trouble> {
        loop {
            let taken = match self.0.reader().fill_buf() {
                Ok(plain) => {
                    into.extend_from_slice(plain);
                    plain.len()
                }
                // An end that is not announced is an end, too; all that is said here has an end of its own.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.read_record(wire)?;
                    continue;
                }
                Err(error) => return Err(trouble(&error)),
            };
            self.0.reader().consume(taken);
            return Ok(taken);
        }
    }

    fn write(&mut self, wire: Wire<'_>, plain: &[u8]) -> Result<usize, Trouble> {
        self.flush(wire)?;
        if self.is_agreeing() {
            return Err(Trouble::Wire(Errno::AGAIN));
        }
        let taken = self.0.writer().write(plain).map_err(|error| trouble(&error))?;
        match self.flush(wire) {
            Ok(()) | Err(Trouble::Wire(Errno::AGAIN)) => Ok(taken),
            Err(trouble) => Err(trouble),
        }
    }

    fn flush(&mut self, mut wire: Wire<'_>) -> Result<(), Trouble> {
        while self.0.wants_write() {
            self.0.write_tls(&mut wire).map_err(|error| trouble(&error))?;
        }
        Ok(())
    }

    fn end(&mut self, wire: Wire<'_>) {
        self.0.send_close_notify();
        let _ = self.flush(wire);
    }
}

fn trouble(error: &io::Error) -> Trouble {
    match Errno::from_io_error(error) {
        Some(errno) => Trouble::Wire(errno),
        None => Trouble::Refused(error.to_string()),
    }
}

/// What rustls says, and what can be done.
fn worded(error: &Error) -> String {
    let next = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "; a file with the certificate of who signed it, or with the server's own, makes it trusted (--tls-ca)"
        }
        Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            "; use a name that is in the certificate: NAME, or NAME@ADDRESS"
        }
        Error::InvalidMessage(_) => {
            "; does the other side speak TLS on this port? starttls: is for those where it begins plain"
        }
        _ => "",
    };
    format!("TLS: {error}{next}")
}
