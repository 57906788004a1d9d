//! What `list` says of messages: it reads no more of them than their headers, however large they are.

use cylinder_core::archive::member::{FOOTER_LEN, Kind, parse_header};
use cylinder_tests::proof::{Store, out, run_for};
use cylinder_tests::spool::Spool;
use serde_json::Value;
use std::fs;

/// A message whose subject comes after `before` bytes of other lines, and a body of `body` bytes.
fn mail(n: u8, before: usize, body: usize) -> Vec<u8> {
    let mut mail = Vec::new();
    while mail.len() < before {
        mail.extend_from_slice(format!("Received: from {n}.example.org by example.com; line at {}\r\n", mail.len()).as_bytes());
    }
    mail.extend_from_slice(format!("Subject: message {n}\r\nFrom: <{n}@example.org>\r\n\r\n").as_bytes());
    let mut state = u32::from(n);
    mail.extend(
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + (state >> 24) as u8 % 26
        })
        .take(body),
    );
    mail
}

/// A store with a backup of some messages.
struct Listed {
    store: Store,
}

impl Listed {
    fn new(messages: &[Vec<u8>]) -> Listed {
        let store = Store::new();
        let mut spool = Spool::create(&store.beside("root"), "anna", 1).expect("a spool");
        for message in messages {
            spool.deliver("INBOX", message).expect("a message");
        }
        spool.save().expect("an index");
        run_for(&mut store.backup(spool.root(), "anna"), 0);
        Listed { store }
    }

    /// A field of each message, as `list` says it, ending with `code`.
    fn column(&self, name: &str, code: i32) -> Vec<Value> {
        let output = run_for(&mut self.store.command(&["list", "anna", "INBOX", "--json"]), code);
        let lines = out(&output);
        lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")[name].clone()).collect()
    }
}

#[test]
fn subjects_are_found_in_large_messages_and_in_long_headers() {
    let sizes = [(0, 10), (0, 40_000), (0, 3_000_000), (15_000, 90_000), (17_000, 100), (100_000, 3_000_000), (200_000, 5)];
    let messages: Vec<Vec<u8>> = (1..).zip(sizes).map(|(n, (before, body))| mail(n, before, body)).collect();
    let listed = Listed::new(&messages);
    let expected: Vec<Value> = (1..=messages.len()).map(|n| format!("message {n}").into()).collect();
    assert_eq!(listed.column("subject", 0), expected);
}

#[test]
fn damage_behind_what_is_read_of_a_message_is_told() {
    let listed = Listed::new(&[mail(1, 0, 10), mail(2, 0, 900_000), mail(3, 0, 800_000)]);
    let path = listed.store.archive("anna");
    let mut bytes = fs::read(&path).expect("the archive");
    let (mut at, mut data) = (0, Vec::new());
    while at < bytes.len() - FOOTER_LEN {
        let info = parse_header(&bytes[at..]).expect("a member");
        if info.kind == Kind::Data {
            data.push(at..at + info.len as usize);
        }
        at += info.len as usize;
    }
    // The second message is alone in a member; its header is far from the end of it.
    let member = data.iter().max_by_key(|range| range.len()).expect("a member");
    bytes[member.end - 1000] ^= 1;
    fs::write(&path, bytes).expect("the archive");
    let errors = listed.column("error", 4);
    assert!(errors[0].is_null() && errors[2].is_null(), "{errors:?}");
    assert!(errors[1].as_str().is_some_and(|error| error.contains("damaged bytes")), "{errors:?}");
    assert_eq!(listed.column("subject", 4)[2], "message 3");
}
