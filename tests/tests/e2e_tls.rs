//! Restores onto a real server that takes passwords over TLS alone, as Cyrus does unless it is told otherwise: by IMAP and by
//! the replication protocol, over TLS from the beginning and by STARTTLS, with a name that is checked and over loopback.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_tests::cli::{Bench, Ran, Running, append_many};
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::proof::binary;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use std::process::{Command, Stdio};

/// Options of a server that takes no password in the clear, and has a certificate. From 3.10 on, it does not offer STARTTLS
/// unless it is told to.
const CLOSED: [(&str, &str); 4] = [
    ("allowplaintext", "no"),
    ("allowstarttls", "yes"),
    ("tls_server_cert", "{dir}/server.pem"),
    ("tls_server_key", "{dir}/server.pem"),
];
const NAME: &str = "imap1.example.org";

/// Puts a key and a certificate for [`NAME`] where the server looks for them. Gives the certificate of who signed it.
fn certify(lab: &Lab) -> String {
    let authority = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&authority).expect("a certificate").pem();
    let issuer = Issuer::new(params, authority);
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec![NAME.to_owned()]).expect("parameters").signed_by(&key, &issuer);
    let certificate = certificate.expect("a certificate").pem();
    std::fs::write(lab.outside(lab.dir()).join("server.pem"), key.serialize_pem() + &certificate).expect("a file");
    ca
}

struct Host {
    bench: Bench,
    ca: String,
}

impl Host {
    fn restore(&self, server: &str, words: &[&str]) -> Ran {
        let mut command = Command::new(binary());
        command.args(["restore", "anna", "--login", "cyrus", "--password-env", "LAB_PASSWORD", "--json", "--server", server]);
        command.args(words).arg("--store").arg(self.bench.cylinder.store()).env("LAB_PASSWORD", "any");
        // The machine's own authorities have nothing to do with it.
        command.env("SSL_CERT_FILE", "/dev/null").env_remove("SSL_CERT_DIR");
        Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).end()
    }

    #[track_caller]
    fn restore_well(&self, server: &str, words: &[&str]) -> Value {
        let ran = self.restore(server, words);
        assert_eq!(ran.exit, 0, "{server} {words:?}: {ran:?}");
        ran.json().remove(0)
    }

    #[track_caller]
    fn refused(&self, server: &str, words: &[&str], why: &str) {
        let ran = self.restore(server, words);
        assert!(ran.exit == 1 && ran.stderr.contains(why), "{server} {words:?}: {ran:?}");
    }

    fn at(&self, scheme: &str, service: &str) -> String {
        format!("{scheme}{}:{}", self.bench.lab.host(), self.bench.lab.port(service))
    }
}

fn added(told: &Value) -> u64 {
    told["folders"].as_array().expect("folders").iter().filter_map(|folder| folder["added"].as_u64()).sum()
}

fn is_supported(version: Version) {
    let mut bench = Bench::start(version, &[("delete_mode", "immediate")]);
    append_many(&mut bench.imap, "INBOX", 0, 20);
    bench.imap.create("Sent");
    append_many(&mut bench.imap, "Sent", 20, 30);
    let before = bench.imap.fetch("INBOX");
    bench.imap.unselect();
    bench.cylinder.backup_well("anna");
    let mut admin = bench.lab.login("cyrus");
    admin.set_acl("user/anna", "cyrus", "lrx");
    admin.delete("user/anna");
    let pem = certify(&bench.lab);
    bench.lab.stop();
    bench.lab.start_again(&CLOSED);
    let ca = bench.lab.outside(bench.lab.dir()).join("ca.pem");
    std::fs::write(&ca, pem).expect("a file");
    let mut host = Host { bench, ca: ca.display().to_string() };
    let [imap, sync] = ["imap", "sync"].map(|service| host.at(&format!("starttls:{NAME}@"), service));
    let imaps = host.at(&format!("tls:{NAME}@"), "imaps");
    let trusting = ["--all", "--tls-ca", &host.ca];

    // Whom nobody knows, or who has another name, gets no password.
    host.refused(&imap, &["--all"], "UnknownIssuer; a file with the certificate");
    host.refused(&imaps, &["--all"], "UnknownIssuer; a file with the certificate");
    host.refused(&sync, &["--all", "--exact"], "UnknownIssuer; a file with the certificate");
    host.refused(&host.at("starttls:imap2.example.org@", "imap"), &trusting, "not valid for name \"imap2.example.org\"");
    host.refused(&host.at("tls:imap1.example.org@", "imap"), &trusting, "starttls:");

    // The user, who is gone, by the replication protocol; over loopback it needs no name.
    let exact = [&trusting[..], &["--exact"]].concat();
    assert_eq!(added(&host.restore_well(&sync, &exact)), 30);
    assert_eq!(added(&host.restore_well(&host.at("tcp:", "sync"), &["--all", "--exact"])), 0);
    // By IMAP.
    assert_eq!(added(&host.restore_well(&imap, &[&trusting[..], &["--tree", "one"]].concat())), 30);
    assert_eq!(added(&host.restore_well(&imaps, &[&trusting[..], &["--tree", "two"]].concat())), 30);
    assert_eq!(added(&host.restore_well(&host.at("tcp:", "imap"), &["--all", "--tree", "three"])), 30);
    assert_eq!(added(&host.restore_well(&imaps, &[&trusting[..], &["--merge"]].concat())), 0);
    // The replication protocol of imapd.
    assert_eq!(added(&host.restore_well(&imaps, &exact)), 0);

    host.bench.lab.stop();
    host.bench.lab.start_again(&[]);
    let mut anna = host.bench.lab.login("anna");
    assert_eq!(anna.fetch("INBOX"), before);
    for tree in ["one", "two", "three"] {
        assert_eq!(anna.fetch(&format!("RESTORED/{tree}/INBOX")).len(), 20, "{tree}");
    }
    // Where there is no TLS, nothing goes in the clear if it was asked for. The server has another address now.
    let [imap, sync] = ["imap", "sync"].map(|service| host.at(&format!("starttls:{NAME}@"), service));
    host.refused(&imap, &trusting, "does not offer STARTTLS");
    host.refused(&sync, &exact, "does not offer STARTTLS");
}

#[test]
fn cyrus_3_6_is_served_over_tls() {
    is_supported(Version::V3_6);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.2`: minutes, and some 0.5 GB"]
fn cyrus_3_2_is_supported() {
    is_supported(Version::V3_2);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.10`: minutes, and some 0.5 GB"]
fn cyrus_3_10_is_supported() {
    is_supported(Version::V3_10);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.12`: minutes, and some 0.5 GB"]
fn cyrus_3_12_is_supported() {
    is_supported(Version::V3_12);
}
