//! Everyday life on servers that keep things elsewhere, name them otherwise, or store them in other formats.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_tests::cli::{Bench, Cylinder, Namespace, agrees_in_folder, append_many, shows};
use cylinder_tests::everyday::{everyday, message_dir};
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::proof::binary;
use serde_json::Value;

const DOTS: Namespace = Namespace { separator: '.', alt: true };
const BELOW_INBOX: Namespace = Namespace { separator: '/', alt: false };
const DOTS_BELOW_INBOX: Namespace = Namespace { separator: '.', alt: false };

/// Lives the life of one user on a server with these options.
#[track_caller]
fn lives(user: &str, namespace: Namespace, options: &[(&str, &str)]) -> Bench {
    println!("{user}: {options:?}");
    let mut bench = Bench::of(Lab::start(Version::V3_6, options), user, namespace);
    everyday(&mut bench);
    let (local, pulled) = (listed(&bench.cylinder, user), Cylinder::new(&bench.lab));
    let (root, conf) = (bench.lab.root().display(), bench.lab.conf());
    let from = format!("exec:{} serve --root {root} --imapd-conf {conf}", binary().display());
    let ran = pulled.pull(&[user, "--from", &from]);
    assert!(ran.exit == 0 && ran.stderr.is_empty(), "{ran:?}");
    assert_eq!(listed(&pulled, user), local, "a pull sees another user");
    bench
}

/// What `list` says of everything in the newest snapshot, but of expunged messages that the server may have dropped by now.
fn listed(cylinder: &Cylinder, user: &str) -> Vec<(Value, Vec<Value>)> {
    let folders = cylinder.read(&["list", user, "--json"]).json();
    let messages = |mut folder: Value| {
        // One archive has a long life behind it, the other has not.
        folder["snapshot"] = Value::Null;
        let name = folder["folder"].as_str().expect("a name").to_owned();
        let messages = cylinder.read(&["list", user, &name, "--json"]).json();
        (folder, messages)
    };
    folders.into_iter().map(messages).collect()
}

/// A file below the data directory of a lab exists.
fn has(bench: &Bench, path: &str) -> bool {
    bench.lab.outside(bench.lab.dir()).join(path).exists()
}

#[test]
fn folders_beside_or_below_the_inbox_with_dots_or_slashes_between() {
    lives("anna", DOTS, &[("unixhierarchysep", "no")]);
    lives("anna", BELOW_INBOX, &[("altnamespace", "no")]);
    lives("anna", DOTS_BELOW_INBOX, &[("unixhierarchysep", "no"), ("altnamespace", "no")]);
}

#[test]
fn users_with_dots_and_users_of_domains() {
    lives("bob.smith", Namespace::DEFAULT, &[]);
    lives("bob@other.net", Namespace::DEFAULT, &[]);
    lives("bob.smith@other.net", BELOW_INBOX, &[("altnamespace", "no"), ("mailbox_legacy_dirs", "yes")]);
}

#[test]
fn directories_by_name_and_hashed_in_every_way() {
    let by_name = ("mailbox_legacy_dirs", "yes");
    let bench = lives("anna", Namespace::DEFAULT, &[by_name]);
    assert!(has(&bench, "spool/a/user/anna/cyrus.index"));
    let bench = lives("anna", Namespace::DEFAULT, &[by_name, ("hashimapspool", "no")]);
    assert!(has(&bench, "spool/user/anna/cyrus.index"));
    let bench = lives("anna", Namespace::DEFAULT, &[by_name, ("fulldirhash", "yes")]);
    assert!(!has(&bench, "spool/a") && !has(&bench, "spool/uuid"));
    lives("anna", Namespace::DEFAULT, &[("fulldirhash", "yes")]);
}

#[test]
fn metadata_on_a_partition_of_its_own() {
    let meta = ("metapartition-default", "{dir}/meta");
    let bench = lives("anna", Namespace::DEFAULT, &[meta, ("metapartition_files", "header index annotations")]);
    let place = message_dir(&bench, "INBOX");
    assert!(!place.join("cyrus.index").exists() && has(&bench, "meta/uuid"));
    let options = [meta, ("metapartition_files", "index"), ("mailbox_legacy_dirs", "yes")];
    let bench = lives("anna", Namespace::DEFAULT, &options);
    assert!(has(&bench, "meta/a/user/anna/cyrus.index") && has(&bench, "spool/a/user/anna/cyrus.header"));
}

#[test]
fn databases_of_every_format_that_the_server_writes() {
    let of = |format| ["mboxlist_db", "seenstate_db", "subscription_db"].map(|option| (option, format));
    // No Cyrus keeps annotations in a flat database.
    lives("anna", Namespace::DEFAULT, &[&of("skiplist")[..], &[("annotation_db", "skiplist")]].concat());
    lives("anna", Namespace::DEFAULT, &of("flat"));
    lives("anna", Namespace::DEFAULT, &[("improved_mboxlist_sort", "yes"), ("conversations", "no")]);
}

#[test]
fn messages_that_were_moved_to_the_archive_partition() {
    let options = [("archive_enabled", "yes"), ("archivepartition-default", "{dir}/archive"), ("archive_after", "1s")];
    let mut bench = Bench::start(Version::V3_6, &options);
    bench.imap.create("Work");
    append_many(&mut bench.imap, "INBOX", 0, 3);
    bench.backup();
    append_many(&mut bench.imap, "Work", 3, 6);
    let places = ["INBOX", "INBOX.Work"].map(|name| message_dir(&bench, name));
    bench.lab.run("cyr_expire", &["-A", "0"]);
    // Those of the INBOX are saved already, those of Work have never lain anywhere else for a backup.
    assert!(places.iter().all(|place| !place.join("1.").exists()), "nothing was archived");
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 3, "{news:?}");
    append_many(&mut bench.imap, "Work", 6, 8);
    assert_eq!(bench.backup().told["messages_added"], 2);
    let archive = bench.lab.outside(bench.lab.dir()).join("archive");
    let spool = bench.lab.outside(bench.lab.dir()).join("spool");
    let inbox = archive.join(places[0].strip_prefix(spool).expect("below the spool"));
    shows(&bench.cylinder, &mut bench.imap, "anna", "INBOX", "INBOX", &inbox);
}

#[test]
fn mailboxes_that_belong_to_no_user_share_an_archive() {
    for options in [&[][..], &[("mailbox_legacy_dirs", "yes")]] {
        let lab = Lab::start(Version::V3_6, options);
        let mut admin = lab.login("cyrus");
        let names = ["public", "public/a.b", "news@other.net"];
        for (n, name) in names.into_iter().enumerate() {
            admin.create(name);
            admin.set_acl(name, "cyrus", "lrswipkxtecdan");
            append_many(&mut admin, name, 10 * n as u32, 10 * n as u32 + 3);
        }
        lab.new_user("anna").logout();
        let cylinder = Cylinder::new(&lab);
        let told = backed_up(&cylinder);
        assert_eq!((&told["messages_added"], &told["folders"]), (&9.into(), &3.into()), "{told}");
        let archived = ["public", "public.a^b", "other.net!news"];
        for (name, archived) in names.into_iter().zip(archived) {
            agrees_in_folder(&cylinder, &mut admin, "%shared", name, &cylinder.folder("%shared", archived));
        }
        assert!(backed_up(&cylinder)["snapshot"].is_null());
        admin.rename("public/a.b", "public/c");
        let told = backed_up(&cylinder);
        assert_eq!((&told["messages_added"], &told["names_new"]), (&0.into(), &1.into()), "{told}");
        agrees_in_folder(&cylinder, &mut admin, "%shared", "public/c", &cylinder.folder("%shared", "public.c"));
        // Everybody: the user and the shared mailboxes.
        let ran = cylinder.backup(&["--all"]);
        assert_eq!(ran.exit, 0, "{ran:?}");
        assert!(ran.user("%shared")["snapshot"].is_null() && ran.user("anna")["snapshot"] == 1, "{ran:?}");
    }
}

/// Backs up the shared mailboxes and gives what was said of them.
#[track_caller]
fn backed_up(cylinder: &Cylinder) -> serde_json::Value {
    let ran = cylinder.backup(&["--shared"]);
    assert!(ran.exit == 0 && ran.stderr.is_empty(), "{ran:?}");
    ran.user("%shared")
}
