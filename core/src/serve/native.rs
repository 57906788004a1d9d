//! The server's side of the native dialect (PROTOCOL.md section 3).

use super::Session;
use crate::cyrus::index::Index;
use crate::cyrus::names::Owner;
use crate::error::{Damage, Error, Fault};
use crate::escape::shown;
use crate::guid::{Guid, Sha1};
use crate::io::{FileId, Place, Stat};
use crate::lines::Line;
use crate::source::capture::{Capture, META_MAX, capture};
use crate::source::lock::close;
use crate::source::message::{self, Found, Lacking, PIECE};
use crate::source::pass::pass;
use crate::source::{Ask, Folder, MAILBOX_ANNOTATIONS, MetaFile};
use crate::wire::VERSION;
use crate::wire::native::{self, Facts, Lack, Order, Wish, Wishes};
use crate::wire::stream::Block;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

impl Session<'_> {
    /// `CYLINDER - version=1`: what this server is.
    pub(super) async fn greet(&mut self) -> Result<(), Error> {
        let (clock, tick) = self.io.clock().await.unwrap_or_default();
        let facts = Facts {
            servername: self.settings.servername.clone(),
            cyrus: self.site.version_shown(),
            software: format!("{}, protocol {VERSION}", self.settings.software),
            clock,
            tick,
        };
        let mut answer = String::from("OK\n");
        facts.emit(&mut answer);
        answer.push_str("DONE CYLINDER\n");
        self.say(&answer).await
    }

    /// A request that begins with `line`.
    pub(super) async fn native(&mut self, verb: &[u8], line: &[u8]) -> Result<(), Error> {
        let words = native::words(line);
        let (mut ask, mut order, mut wishes) = (Ask::default(), Order::default(), Wishes::default());
        let parsed: Result<Option<Owner>, Damage> = (|| match verb {
            b"OWNERS" => Ok(None),
            b"PASS" => {
                ask = Ask::parse(&words)?;
                native::owner(&words).map(Some)
            }
            b"BODIES" => {
                wishes.folder = words.bytes("folder")?;
                native::owner(&words).map(Some)
            }
            _ => native::owner(&words).map(Some),
        })();
        // All lines are taken, whatever is wrong with one of them: what follows is the next request.
        let mut wrong = parsed.as_ref().err().cloned();
        loop {
            let detail = self.stream.some_line().await?;
            if detail == b"END" {
                break;
            }
            let taken = match verb {
                b"PASS" => ask.detail(detail),
                b"CAPTURE" => order.detail(detail),
                b"BODIES" => wishes.detail(detail),
                _ => Err(native::words(detail).damage("line", &shown(&detail[..detail.len().min(40)]), "END")),
            };
            wrong = wrong.or(taken.err());
        }
        if let Some(damage) = wrong {
            return self.no(&damage.to_string()).await;
        }
        self.keep_given_roots(&mut ask.quota_roots);
        self.keep_given_roots(&mut order.quota_roots);
        match parsed {
            Ok(Some(owner)) if !self.settings.gives(&owner) => self.no("this client may not have that user").await,
            Ok(Some(owner)) => match verb {
                b"PASS" => self.pass(&owner, &ask).await,
                b"CAPTURE" => self.capture(&owner, &order).await,
                b"RECORDS" => self.records(&owner).await,
                _ => self.bodies(&owner, &wishes).await,
            },
            _ => self.owners().await,
        }
    }

    async fn owners(&mut self) -> Result<(), Error> {
        match self.site.owners(self.io).await {
            Ok(owners) => {
                let mut answer = String::from("OK\n");
                for owner in owners.iter().filter(|owner| self.settings.gives(owner)) {
                    native::emit_owner(&mut answer, owner);
                }
                answer.push_str("DONE OWNERS\n");
                self.say(&answer).await
            }
            Err(error) => self.fail(&error).await,
        }
    }

    /// Forgets quota roots of users whom the client may not have. Those above users are everybody's.
    fn keep_given_roots(&self, roots: &mut Vec<Vec<u8>>) {
        let naming = self.site.naming();
        roots.retain(|root| {
            let owner = naming.parse_internal(root).map(|name| name.owner());
            root.ends_with(b"!") || owner.is_ok_and(|owner| owner == Owner::Shared || self.settings.gives(&owner))
        });
    }

    async fn pass(&mut self, owner: &Owner, ask: &Ask) -> Result<(), Error> {
        match pass(self.site, self.io, owner, ask).await {
            Ok(pass) => {
                let mut answer = String::from("OK\n");
                native::emit_pass(&mut answer, &pass);
                answer.push_str("DONE PASS\n");
                self.say(&answer).await
            }
            Err(error) => self.fail(&error).await,
        }
    }

    async fn capture(&mut self, owner: &Owner, order: &Order) -> Result<(), Error> {
        let ask = Ask { quota_roots: order.quota_roots.clone(), ..Ask::default() };
        let captured = match pass(self.site, self.io, owner, &ask).await {
            Ok(first) => capture(self.site, self.io, owner, &first, &order.wanted(&first), &ask).await,
            Err(error) => Err(error),
        };
        match captured {
            Ok(mut capture) => {
                let sent = self.send_capture(&capture).await;
                let folders = core::mem::take(&mut capture.pass.folders);
                capture.finish(self.io).await;
                self.last = Some((owner.clone(), folders));
                sent
            }
            Err(error) => self.fail(&error).await,
        }
    }

    async fn send_capture(&mut self, capture: &Capture) -> Result<(), Error> {
        let mut lines = String::from("OK\n");
        native::emit_pass(&mut lines, &capture.pass);
        for (name, young) in &capture.same {
            let mut line = Line::new(&mut lines, "SAME");
            line.text("name", name);
            if *young {
                line.show("young", 1);
            }
        }
        capture.failed.iter().for_each(|(name, error)| native::emit_failed(&mut lines, "FAILED", name, error));
        capture.failed_states.iter().for_each(|(name, error)| native::emit_failed(&mut lines, "FAILEDFILE", name, error));
        let mut line = Line::new(&mut lines, "HELD");
        line.show("ns", capture.longest_hold.0);
        if capture.unsettled {
            line.show("unsettled", 1);
        }
        drop(line);
        self.say(&lines).await?;
        for name in capture.folders.keys() {
            self.send_folder(capture, name).await?;
        }
        for (name, (bytes, tuple)) in &capture.states {
            let mut lines = String::new();
            let mut line = Line::new(&mut lines, "CONTENT");
            line.text("name", name);
            if let Some(tuple) = tuple {
                line.tuple(tuple);
            }
            drop(line);
            self.say(&lines).await?;
            let tuple = tuple.unwrap_or_default();
            let size = bytes.len() as u64;
            let block = Block { name: b"content".to_vec(), size, mtime: tuple.mtime, ino: tuple.ino };
            self.stream.send_block(&block, bytes).await?;
        }
        self.say("DONE CAPTURE\n").await
    }

    async fn send_folder(&mut self, capture: &Capture, name: &[u8]) -> Result<(), Error> {
        let Some(captured) = capture.folders.get(name) else { return Ok(()) };
        let folder = Folder { id: Some(captured.id.clone()), ..captured.folder.clone() };
        let mut lines = String::new();
        native::emit_folder(&mut lines, "CAPTURED", &folder, |line| {
            if let Some(root) = &captured.quota_root {
                line.text("quotaroot", root);
            }
            if captured.young {
                line.show("young", 1);
            }
        });
        self.say(&lines).await?;
        for file in captured.files() {
            let Some(bytes) = capture.load(self.io, name, file).await? else { continue };
            let tuple = folder.tuples[file as usize].unwrap_or_default();
            self.send_file(file.name(), &bytes, tuple.mtime, tuple.ino).await?;
        }
        if !captured.annotations.is_empty() {
            self.send_file(MAILBOX_ANNOTATIONS, &captured.annotations, crate::time::Time::ZERO, 0).await?;
        }
        Ok(())
    }

    async fn send_file(&mut self, name: &str, bytes: &[u8], mtime: crate::time::Time, ino: u64) -> Result<(), Error> {
        let block = Block { name: name.as_bytes().to_vec(), size: bytes.len() as u64, mtime, ino };
        self.stream.send_block(&block, bytes).await
    }

    async fn records(&mut self, owner: &Owner) -> Result<(), Error> {
        let found = match self.site.folders(self.io, owner).await {
            Ok(pass) => self.site.id_records(self.io, &pass.folders).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(records) => {
                let mut answer = String::from("OK\n");
                for (key, entry) in records {
                    let mut line = Line::new(&mut answer, "RECORD");
                    line.text("key", &key);
                    line.text("entry", &entry);
                }
                answer.push_str("DONE RECORDS\n");
                self.say(&answer).await
            }
            Err(error) => self.fail(&error).await,
        }
    }

    /// Sends messages. One that cannot be had is a line in its place; the rest goes on.
    async fn bodies(&mut self, owner: &Owner, wishes: &Wishes) -> Result<(), Error> {
        let folder = match self.find(owner, &wishes.folder).await {
            Ok(folder) => folder,
            Err(error) => return self.fail(&error).await,
        };
        self.say("OK\n").await?;
        let mut buffer = Vec::new();
        for wish in &wishes.messages {
            let name = wish.uid.to_string();
            let places = folder.as_ref().map(|f| message::candidates(&f.paths, wish.uid, wish.archived));
            let places = places.unwrap_or_default();
            self.body(&name, &places, *wish, &mut buffer).await?;
        }
        if !wishes.guids.is_empty() {
            self.by_guid(folder.as_ref(), &wishes.guids, &mut buffer).await?;
        }
        self.say("DONE BODIES\n").await
    }

    /// The folder of this name, as it was when the owner was asked about last.
    async fn find(&mut self, owner: &Owner, name: &[u8]) -> Result<Option<Folder>, Error> {
        let cached = self.last.as_ref().is_some_and(|(last, _)| last == owner);
        if !cached {
            let folders = self.site.folders(self.io, owner).await?.folders;
            self.last = Some((owner.clone(), folders));
        }
        let folders = self.last.as_ref().map_or(&[][..], |(_, folders)| folders);
        Ok(folders.binary_search_by(|f| f.name[..].cmp(name)).ok().map(|at| folders[at].clone()))
    }

    async fn body(&mut self, name: &str, places: &[Place], wish: Wish, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let mut lack = Lack { absent: true, path: String::new(), why: String::from("there is no such folder or place") };
        let mut first = true;
        for place in places.iter().skip(usize::from(wish.second)) {
            match message::read(self.io, place, core::mem::take(buffer)).await {
                Ok(Found::Whole(content, stat)) => {
                    let block = block(name, &stat);
                    self.stream.send_block(&Block { size: content.len() as u64, ..block }, &content).await?;
                    *buffer = content;
                    return Ok(());
                }
                Ok(Found::Large(file, stat)) => {
                    let sent = self.large(&block(name, &stat), file).await;
                    close(self.io, file).await;
                    return sent;
                }
                // What was found first says more than that the other place has nothing.
                Err(_) if !core::mem::take(&mut first) => {}
                Err(why) => {
                    let (absent, why) = match why {
                        Lacking::Absent => (true, Fault::NotFound.to_string()),
                        Lacking::Unreadable(error) => (false, error.to_string()),
                    };
                    lack = Lack { absent, path: place.shown(), why };
                }
            }
        }
        let mut line = String::new();
        lack.emit(&mut line, name);
        self.say(&line).await
    }

    /// A large file in pieces. One that ends early is filled up, for its size was said, and marked.
    pub(super) async fn large(&mut self, block: &Block, file: FileId) -> Result<(), Error> {
        self.stream.begin_block(block).await?;
        let (mut at, mut hash, mut whole) = (0, Sha1::new(), true);
        let mut piece = Vec::new();
        while at < block.size {
            let want = (block.size - at).min(PIECE as u64) as usize;
            piece = match self.io.read_at(file, at, want, piece).await {
                Ok(piece) if !piece.is_empty() => piece,
                _ => {
                    whole = false;
                    alloc::vec![0; want]
                }
            };
            hash.update(&piece);
            at += piece.len() as u64;
            self.stream.send(&piece).await?;
        }
        self.stream.end_block(block, whole.then(|| hash.finish())).await
    }

    /// Messages by GUID, through the folder's index; those that it does not have are lacking.
    async fn by_guid(&mut self, folder: Option<&Folder>, guids: &BTreeSet<Guid>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let mut found: BTreeMap<Guid, (u32, bool)> = BTreeMap::new();
        if let Some(folder) = folder
            && let Ok((bytes, _)) = self.io.read_whole(&folder.paths.meta[MetaFile::Index as usize], META_MAX, Vec::new()).await
            && let Ok(index) = Index::parse(&bytes)
        {
            for record in index.records().flatten().filter(|r| !r.is_unlinked() && guids.contains(&r.guid)) {
                found.insert(record.guid, (record.uid.0, record.is_archived()));
            }
        }
        for guid in guids {
            let at = found.get(guid).copied();
            let places = match (folder, at) {
                (Some(folder), Some((uid, archived))) => message::candidates(&folder.paths, uid, archived),
                _ => Vec::new(),
            };
            let wish = Wish { uid: at.map_or(0, |(uid, _)| uid), archived: false, second: false };
            self.body(&guid.to_hex(), &places, wish, buffer).await?;
        }
        Ok(())
    }
}

fn block(name: &str, stat: &Stat) -> Block {
    Block { name: name.as_bytes().to_vec(), size: stat.size, mtime: stat.mtime, ino: stat.ino }
}
