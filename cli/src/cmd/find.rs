//! `cylinder find`

use super::archive::{at, moment, open};
use crate::args::Find as Args;
use crate::exit::Exit;
use crate::fleet::plan::bytes;
use crate::headers::{self, Term, Top};
use crate::host::{self, Outcome, Trouble, owner_shown};
use crate::output::{self, OutputError, count};
use crate::when::Edge;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::escape::{Shown, shown};
use cylinder_core::find::{Hit, Query, Scope, find};
use cylinder_core::guid::Guid;
use cylinder_core::io::Io;
use cylinder_core::store::archive_dir;
use cylinder_core::view::Locations;
use cylinder_transport_local::Local;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

/// What is looked for.
struct Search {
    scope: Scope,
    query: Query,
    terms: Vec<Term>,
}

/// What was found of one user.
#[derive(Default)]
struct Found {
    hits: Vec<Hit>,
    /// By SHA-1, if headers were looked at.
    tops: BTreeMap<Guid, Top>,
    records: u64,
    headers: u64,
    problems: Vec<Error>,
}

/// What was done in all.
#[derive(Default)]
struct Sum {
    users: u64,
    messages: u64,
    records: u64,
    headers: u64,
    problems: bool,
}

/// Looks for messages, and tells of them user by user.
pub fn run(args: &Args) -> Outcome {
    let search = Search::new(args)?;
    let store = host::store(&args.store)?;
    let owners = owners(args, &store)?;
    let threads = host::threads(args.threads).max(1);
    let mut sum = Sum::default();
    each_user(&store, &owners, threads, &search, &mut |owner, result| {
        sum.users += 1;
        tell(args, &owner_shown(owner), result, &mut sum)
    })?;
    if !args.json {
        output::line(&sum.text())?;
    }
    Ok(if sum.problems { Exit::Partial } else { Exit::Ok })
}

fn owners(args: &Args, store: &Path) -> Result<Vec<Owner>, Trouble> {
    match (args.all, args.users.is_empty()) {
        (true, false) => Err(Trouble::Usage(String::from("--all is everybody: name no users beside it"))),
        (false, true) => Err(Trouble::Usage(String::from("whose? name users, or give --all"))),
        (false, false) => Ok(args.users.iter().map(|word| host::owner(word)).collect()),
        (true, true) => host::everybody(&mut host::store_driver(store, 0)),
    }
}

impl Search {
    fn new(args: &Args) -> Result<Search, Trouble> {
        let scope = match (args.ever, &args.at) {
            (true, Some(_)) => return Err(Trouble::Usage(String::from("--ever is in all snapshots: give no --at beside it"))),
            (true, None) => Scope::Ever,
            (false, when) => Scope::At(at(when)?),
        };
        let time =
            |name: &str, option: &Option<String>| option.as_ref().map(|text| moment(name, text, Edge::Start)).transpose();
        let size = |option: &Option<String>| {
            let bad = |text| Trouble::Usage(format!("`{text}` is no number of bytes such as 1000, 500kB or 2MB"));
            option.as_ref().map(|text| bytes(text).ok_or_else(|| bad(text))).transpose()
        };
        let guid = |text: &String| {
            let bad = || Trouble::Usage(format!("`{text}` is not a SHA-1 of 40 hexadecimal digits"));
            Guid::from_hex(text.as_bytes()).ok_or_else(bad)
        };
        let query = Query {
            guid: args.guid.as_ref().map(guid).transpose()?,
            since: time("since", &args.since)?,
            before: time("before", &args.before)?,
            larger: size(&args.larger)?,
            smaller: size(&args.smaller)?,
            expunged: args.expunged,
        };
        Ok(Search { scope, query, terms: terms(args)? })
    }

    /// Opens the archive of a user and looks in it.
    async fn look(&self, io: &Io, owner: &Owner, ahead: usize) -> Result<Found, Error> {
        let reader = open(io, owner, &archive_dir(owner)?).await?;
        let result = async {
            let found = find(&reader, self.scope, &self.query).await?;
            let mut found = Found { hits: found.hits, records: found.records, problems: found.problems, ..Found::default() };
            if self.terms.is_empty() || found.hits.is_empty() {
                return Ok(found);
            }
            let locations = Locations::load(&reader).await?;
            let mut wanted: Vec<_> = found.hits.iter().filter_map(|hit| locations.find(&hit.guid)).collect();
            wanted.sort();
            wanted.dedup();
            found.headers = wanted.len() as u64;
            found.problems.extend(locations.damage.into_iter().map(Error::from));
            let Found { tops, problems, .. } = &mut found;
            headers::read(&reader, wanted, ahead, &mut |m, header| match header {
                Ok(header) if self.terms.iter().all(|term| term.is_in(header)) => {
                    tops.insert(m.guid, Top::of(Ok(header)));
                }
                Ok(_) => {}
                Err(error) => problems.push(error),
            })
            .await?;
            found.hits.retain(|hit| found.tops.contains_key(&hit.guid));
            Ok(found)
        };
        let result = result.await;
        reader.close().await;
        result
    }
}

fn terms(args: &Args) -> Result<Vec<Term>, Trouble> {
    let mut terms = Vec::new();
    let texts = [(&args.subject, &["Subject"][..]), (&args.from, &["From"]), (&args.to, &["To", "Cc", "Bcc"])];
    terms.extend(texts.into_iter().filter_map(|(text, names)| Some(Term::new(names, text.as_ref()?))));
    if let Some(id) = &args.message_id {
        let id = id.trim_start_matches('<').trim_end_matches('>');
        terms.push(Term::new(&["Message-ID"], &format!("<{id}>")));
    }
    for word in &args.header {
        let bad = || Trouble::Usage(format!("--header {word}: expected NAME:TEXT, such as List-Id:announce"));
        let (name, text) = word.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or_else(bad)?;
        terms.push(Term::new(&[name.trim()], text.trim()));
    }
    Ok(terms)
}

/// Takes what was found of one user.
type Tell<'a> = dyn FnMut(&Owner, Result<Found, Error>) -> Result<(), OutputError> + 'a;

/// Looks in the archives of these users, several at a time, and gives what was found to `tell` in their order.
fn each_user(store: &Path, owners: &[Owner], threads: usize, search: &Search, tell: &mut Tell<'_>) -> Result<(), OutputError> {
    let users = threads.min(owners.len());
    // Several users keep all threads busy; of one, members are inflated by all of them.
    let inflating = if users > 1 { 0 } else { threads };
    let (next, (sender, receiver)) = (AtomicUsize::new(0), sync_channel(2 * threads));
    std::thread::scope(|scope| {
        for _ in 0..users {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                let mut driver: Local = host::store_driver(store, inflating);
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(owner) = owners.get(n) else { return };
                    let ahead = if inflating > 0 { 2 * inflating + 1 } else { 0 };
                    let result = host::run(&mut driver, |io| async move { search.look(&io, owner, ahead).await });
                    // Nobody listens any more once the output is closed.
                    if sender.send((n, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        in_order(&receiver, &mut |n, result| tell(&owners[n], result))
    })
}

/// Gives what comes to `tell` in the order of its numbers.
fn in_order<T>(
    receiver: &Receiver<(usize, T)>,
    tell: &mut dyn FnMut(usize, T) -> Result<(), OutputError>,
) -> Result<(), OutputError> {
    let (mut early, mut next) = (BTreeMap::new(), 0);
    for (n, item) in receiver {
        early.insert(n, item);
        while let Some(item) = early.remove(&next) {
            tell(next, item)?;
            next += 1;
        }
    }
    Ok(())
}

fn tell(args: &Args, who: &str, result: Result<Found, Error>, sum: &mut Sum) -> Result<(), OutputError> {
    let found = result.unwrap_or_else(|error| Found { problems: vec![error], ..Found::default() });
    sum.messages += found.hits.len() as u64;
    sum.records += found.records;
    sum.headers += found.headers;
    sum.problems |= !found.problems.is_empty();
    for hit in &found.hits {
        let top = found.tops.get(&hit.guid);
        if args.json { output::json(&to_json(who, hit, top))? } else { output::line(&text(who, hit, top))? }
    }
    for problem in &found.problems {
        output::complain!("cylinder: {who}: {problem}");
    }
    Ok(())
}

fn text(who: &str, hit: &Hit, top: Option<&Top>) -> String {
    let (place, date) = (format!("{}/{}", Shown(&hit.folder), hit.uid), output::time(hit.date));
    let expunged = if hit.is_expunged { " (expunged)" } else { "" };
    let top =
        top.map_or_else(String::new, |top| format!("  {}: {}", shown(top.from.as_bytes()), shown(top.subject.as_bytes())));
    format!("{who}  {:>6}  {place}{expunged}  {date}  {:>9}  {}{top}", hit.snapshot, hit.size, hit.guid)
}

fn to_json(who: &str, hit: &Hit, top: Option<&Top>) -> serde_json::Value {
    json!({
        "user": who, "snapshot": hit.snapshot, "folder": shown(&hit.folder), "uid": hit.uid, "guid": hit.guid.to_hex(),
        "size": hit.size, "internaldate": output::rfc3339(hit.date), "expunged": hit.is_expunged,
        "subject": top.map(|top| &top.subject), "from": top.map(|top| &top.from),
    })
}

impl Sum {
    /// What was found, and what it cost.
    fn text(&self) -> String {
        let (messages, users, records) =
            (count(self.messages, "message"), count(self.users, "user"), count(self.records, "index record"));
        let headers = if self.headers == 0 { String::from("no header") } else { count(self.headers, "header") };
        format!("{messages} found; {users}, {records} and {headers} read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_early_waits_for_its_turn() {
        let (sender, receiver) = sync_channel(9);
        for n in [2, 0, 3, 1] {
            sender.send((n, n * 10)).unwrap();
        }
        drop(sender);
        let mut told = Vec::new();
        in_order(&receiver, &mut |n, item| {
            told.push((n, item));
            Ok(())
        })
        .unwrap();
        assert_eq!(told, [(0, 0), (1, 10), (2, 20), (3, 30)]);
    }
}
