//! The loop in which all connections are, and the handles on it.
//!
//! What must not come in: what is said on a connection.

use crate::channel::{Channel, Ends};
use crate::peer::{Peer, Ssh};
use crate::session::{Security, Sessions};
use cylinder_core::error::Fault;
use cylinder_core::io::{Op, Reply, StreamId};
use cylinder_transport_local::{Answer, Connections};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use crate::channel::HIGH;

/// How long a socket may take to be connected.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// How long what was sent last may take to leave, when a connection is closed here.
const LINGER: Duration = Duration::from_secs(5);
/// How long a process may take to end after it was told to.
const DYING_MAX: Duration = Duration::from_secs(2);
/// Events that are taken from the kernel at once.
const EVENTS: usize = 256;
/// The token of the waker; those of connections are smaller.
const WAKE: Token = Token(usize::MAX);
/// What a client hears for whom there is no room.
const FULL: &[u8] = b"NO busy too many connections\n";

/// Where a server waits for clients.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket.
    Unix(std::os::unix::net::UnixListener),
    /// A TCP socket.
    Tcp(std::net::TcpListener),
}

/// A client that has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Incoming {
    /// Its stream.
    pub stream: StreamId,
    /// Who it is, as far as the socket tells.
    pub peer: String,
}

enum Command {
    Open(StreamId, Box<Ends>),
    Receive(StreamId, usize, Vec<u8>, Answer),
    Send(StreamId, Vec<u8>, Answer),
    Secure(StreamId, Answer),
    Complaint(StreamId, Answer),
    Shut(StreamId, Option<Answer>),
    Listen(Listener, usize, Sender<Incoming>),
    HangUp,
    Stop,
}

/// The loop. Dropping it closes all connections and ends their processes.
pub struct Hub {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    numbers: Arc<std::sync::atomic::AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    /// Starts the loop.
    pub fn new() -> io::Result<Hub> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (commands, todo) = channel();
        let numbers = Arc::new(std::sync::atomic::AtomicU32::new(1));
        let state =
            Loop { poll, todo, channels: BTreeMap::new(), listeners: Vec::new(), dying: Vec::new(), numbers: numbers.clone() };
        let thread = std::thread::Builder::new().name("cylinder-net".into()).spawn(move || state.run())?;
        Ok(Hub { commands, waker, numbers, thread: Some(thread) })
    }

    /// A handle for the driver of one machine.
    pub fn streams(&self, ssh: Ssh) -> Streams {
        let (commands, waker, numbers) = (self.commands.clone(), self.waker.clone(), self.numbers.clone());
        Streams { commands, waker, numbers, ssh, sessions: None, open: Vec::new() }
    }

    /// Waits for clients; at most `max` at a time are let in.
    pub fn listen(&self, listener: Listener, max: usize) -> io::Result<Receiver<Incoming>> {
        match &listener {
            Listener::Unix(listener) => listener.set_nonblocking(true)?,
            Listener::Tcp(listener) => listener.set_nonblocking(true)?,
        }
        let (tell, incoming) = channel();
        tell_loop(&self.commands, &self.waker, Command::Listen(listener, max, tell));
        Ok(incoming)
    }

    /// Ends all connections at once. Whoever waits for one of them hears that it is gone.
    pub fn hang_up(&self) {
        tell_loop(&self.commands, &self.waker, Command::HangUp);
    }

    /// Standard input and output as a stream.
    pub fn standard_streams(&self) -> io::Result<StreamId> {
        let input = rustix::io::dup(rustix::stdio::stdin())?;
        let output = rustix::io::dup(rustix::stdio::stdout())?;
        let ends = Ends { output: Some(output), ..socket_ends(input) };
        Ok(open(&self.commands, &self.waker, &self.numbers, ends))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        tell_loop(&self.commands, &self.waker, Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tell_loop(commands: &Sender<Command>, waker: &Waker, command: Command) {
    // Without the loop everything that waits for it has been answered.
    if commands.send(command).is_ok() {
        let _ = waker.wake();
    }
}

fn open(commands: &Sender<Command>, waker: &Waker, numbers: &std::sync::atomic::AtomicU32, ends: Ends) -> StreamId {
    let id = StreamId(numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    tell_loop(commands, waker, Command::Open(id, Box::new(ends)));
    id
}

/// The hub as the driver of one machine sees it. What the machine leaves open is shut when it has ended.
pub struct Streams {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    numbers: Arc<std::sync::atomic::AtomicU32>,
    ssh: Ssh,
    sessions: Option<Arc<dyn Sessions>>,
    open: Vec<StreamId>,
}

impl Streams {
    /// Lets connections be encrypted.
    pub fn with_sessions(mut self, sessions: Arc<dyn Sessions>) -> Streams {
        self.sessions = Some(sessions);
        self
    }

    /// Makes this handle responsible for a stream that was opened elsewhere.
    pub fn adopt(&mut self, stream: StreamId) {
        self.open.push(stream);
    }

    fn connect(&mut self, peer: &str) -> Result<StreamId, Fault> {
        let peer = Peer::parse(peer).map_err(|_| Fault::NotFound)?;
        let ends = connect(&peer, &self.ssh, self.sessions.as_deref()).map_err(|error| fault(&error))?;
        let id = open(&self.commands, &self.waker, &self.numbers, ends);
        self.open.push(id);
        Ok(id)
    }
}

impl Connections for Streams {
    fn submit(&mut self, op: Op, answer: Answer) {
        let command = match op {
            Op::Connect(peer) => return answer(self.connect(&peer).map(Reply::Stream)),
            Op::Receive { stream, max, buffer } => Command::Receive(stream, max, buffer, answer),
            Op::Send { stream, data } => Command::Send(stream, data, answer),
            Op::Secure(stream) => Command::Secure(stream, answer),
            Op::Complaint(stream) => Command::Complaint(stream, answer),
            Op::Shut(stream) => {
                self.open.retain(|open| *open != stream);
                Command::Shut(stream, Some(answer))
            }
            _ => return answer(Err(Fault::Driver)),
        };
        tell_loop(&self.commands, &self.waker, command);
    }

    fn close_all(&mut self) {
        for stream in self.open.drain(..) {
            tell_loop(&self.commands, &self.waker, Command::Shut(stream, None));
        }
    }
}

fn fault(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound => Fault::NotFound,
        io::ErrorKind::PermissionDenied => Fault::Denied,
        _ => Fault::Os(error.raw_os_error().unwrap_or(0)),
    }
}

/// Connects, or starts a process, on the calling thread.
fn connect(peer: &Peer, ssh: &Ssh, sessions: Option<&dyn Sessions>) -> io::Result<Ends> {
    let mut ends = match peer {
        Peer::Unix(path) => socket_ends(UnixStream::connect(path)?.into()),
        Peer::Tcp(address) => tcp_ends(&[*address])?,
        Peer::Tls(secured) | Peer::StartTls(secured) => {
            let session = sessions.ok_or(io::ErrorKind::PermissionDenied)?.with(secured)?;
            let mut ends = tcp_ends(&secured.addresses().map_err(|_| io::ErrorKind::NotFound)?)?;
            let at_once = matches!(peer, Peer::Tls(_));
            ends.security = if at_once { Security::AtOnce(session) } else { Security::OnRequest(session) };
            ends
        }
        _ => start(peer, ssh)?,
    };
    if let Some(sessions) = sessions.filter(|_| peer.is_private()) {
        ends.security = Security::OnRequest(sessions.within()?);
    }
    Ok(ends)
}

/// A connection to the first of these addresses that takes one.
fn tcp_ends(addresses: &[SocketAddr]) -> io::Result<Ends> {
    let mut failed = io::ErrorKind::NotFound.into();
    for address in addresses {
        match TcpStream::connect_timeout(address, CONNECT_MAX) {
            Ok(socket) => {
                // Requests are small, and somebody waits for each answer.
                socket.set_nodelay(true)?;
                return Ok(socket_ends(socket.into()));
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn socket_ends(socket: OwnedFd) -> Ends {
    Ends { input: socket, output: None, stderr: None, child: None, directory: None, security: Security::Never }
}

fn start(peer: &Peer, ssh: &Ssh) -> io::Result<Ends> {
    let directory = if peer.is_tunnel() { Some(tempfile::tempdir()?) } else { None };
    let socket = directory.as_ref().map(|d| d.path().join("socket")).unwrap_or_default();
    let mut command = peer.command(ssh, &socket).ok_or(io::ErrorKind::NotFound)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let stderr = child.stderr.take().map(OwnedFd::from);
    if directory.is_some() {
        let socket = wait_for_tunnel(&mut child, &socket)?;
        return Ok(Ends { stderr, child: Some(child), directory, ..socket_ends(socket.into()) });
    }
    let (Some(input), Some(output)) = (child.stdout.take(), child.stdin.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    Ok(Ends { output: Some(output.into()), stderr, child: Some(child), directory, ..socket_ends(input.into()) })
}

/// ssh makes the socket once it is connected.
fn wait_for_tunnel(child: &mut Child, socket: &Path) -> io::Result<UnixStream> {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if begun.elapsed() > CONNECT_MAX => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
            Err(_) if child.try_wait()?.is_some() => return Err(io::ErrorKind::ConnectionRefused.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The state of the loop.
struct Loop {
    poll: Poll,
    todo: Receiver<Command>,
    channels: BTreeMap<u32, Channel>,
    listeners: Vec<(Listener, usize, Sender<Incoming>)>,
    /// Processes that were told to end, connections whose last bytes are leaving.
    dying: Vec<(Instant, Dying)>,
    numbers: Arc<std::sync::atomic::AtomicU32>,
}

enum Dying {
    Process(Child),
    Channel(u32),
}

/// What an event is about.
#[derive(Clone, Copy)]
enum End {
    Input,
    Output,
    Stderr,
    Listener,
}

fn token(id: u32, end: End) -> Token {
    Token(id as usize * 4 + end as usize)
}

impl Loop {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = (!self.dying.is_empty()).then_some(Duration::from_millis(50));
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            }
            for event in &events {
                if event.token() != WAKE {
                    self.event(event.token(), event.is_readable() || event.is_read_closed(), event.is_writable());
                }
            }
            loop {
                match self.todo.try_recv() {
                    Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return self.stop(),
                    Ok(command) => self.command(command),
                    Err(TryRecvError::Empty) => break,
                }
            }
            self.bury();
        }
        self.stop();
    }

    fn event(&mut self, token: Token, readable: bool, writable: bool) {
        let id = (token.0 / 4) as u32;
        if token.0 % 4 == End::Listener as usize {
            return self.accept(id as usize);
        }
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if token.0 % 4 == End::Stderr as usize {
            return channel.pump_stderr();
        }
        channel.readable |= readable && token.0 % 4 == End::Input as usize;
        channel.writable |= writable;
        channel.pump_in();
        channel.pump_out();
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Open(id, ends) => self.open(id, *ends),
            Command::Receive(id, max, buffer, answer) => match self.channels.get_mut(&id.0) {
                Some(channel) => channel.receive(max, buffer, answer),
                None => answer(Err(Fault::Gone)),
            },
            Command::Send(id, data, answer) => match self.channels.get_mut(&id.0) {
                Some(channel) => channel.send(data, answer),
                None => answer(Err(Fault::Gone)),
            },
            Command::Secure(id, answer) => match self.channels.get_mut(&id.0) {
                Some(channel) => channel.secure(answer),
                None => answer(Err(Fault::Gone)),
            },
            Command::Complaint(id, answer) => {
                let said = self.channels.get_mut(&id.0).and_then(|channel| {
                    wait_for_last_words(channel);
                    channel.complaint()
                });
                answer(Ok(Reply::Complaint(said)));
            }
            Command::Shut(id, answer) => {
                self.shut(id.0);
                if let Some(answer) = answer {
                    answer(Ok(Reply::Unit));
                }
            }
            Command::Listen(listener, max, tell) => self.listen(listener, max, tell),
            Command::HangUp => self.channels.keys().copied().collect::<Vec<_>>().into_iter().for_each(|id| self.end(id)),
            // Handled by whoever reads the commands.
            Command::Stop => {}
        }
    }

    fn open(&mut self, id: StreamId, ends: Ends) {
        let mut channel = Channel::new(ends);
        let Ends { input, output, stderr, .. } = &channel.ends;
        let both = if output.is_some() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        channel.always_readable = !self.register(input.as_fd(), token(id.0, End::Input), both);
        if let Some(output) = output {
            channel.always_writable = !self.register(output.as_fd(), token(id.0, End::Output), Interest::WRITABLE);
        }
        if let Some(stderr) = stderr {
            self.register(stderr.as_fd(), token(id.0, End::Stderr), Interest::READABLE);
        }
        self.channels.insert(id.0, channel);
    }

    /// False if the descriptor cannot be waited for: a file, which is always ready.
    fn register(&self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> bool {
        let nonblocking = rustix::fs::fcntl_getfl(fd).and_then(|flags| {
            let flags = flags | rustix::fs::OFlags::NONBLOCK;
            rustix::fs::fcntl_setfl(fd, flags)
        });
        let registered = self.poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), token, interest);
        nonblocking.is_ok() && registered.is_ok()
    }

    fn shut(&mut self, id: u32) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        channel.pump_out();
        if !channel.is_flushed() && !channel.is_ended() {
            self.dying.push((Instant::now() + LINGER, Dying::Channel(id)));
            return;
        }
        self.end(id);
    }

    fn end(&mut self, id: u32) {
        let Some(mut channel) = self.channels.remove(&id) else { return };
        channel.abandon();
        let Ends { input, output, stderr, .. } = &channel.ends;
        for fd in [Some(input), output.as_ref(), stderr.as_ref()].into_iter().flatten() {
            // One that was duplicated stays registered after it is closed.
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
        }
        if let Some(child) = channel.ends.child.take() {
            // Its standard input is closed with the channel, which is what makes ssh end.
            drop(channel);
            self.dying.push((Instant::now() + DYING_MAX, Dying::Process(child)));
        }
    }

    /// Looks after what is to end.
    fn bury(&mut self) {
        let now = Instant::now();
        for (until, dying) in std::mem::take(&mut self.dying) {
            match dying {
                Dying::Process(mut child) => match child.try_wait() {
                    Ok(None) if now < until => self.dying.push((until, Dying::Process(child))),
                    Ok(None) => {
                        let _ = child.kill();
                        let _ = child.wait();
                    }
                    _ => {}
                },
                Dying::Channel(id) => {
                    let done = self.channels.get(&id).is_none_or(|c| c.is_flushed() || c.is_ended());
                    if done || now >= until {
                        self.end(id);
                    } else {
                        self.dying.push((until, Dying::Channel(id)));
                    }
                }
            }
        }
    }

    fn stop(mut self) {
        let begun = Instant::now();
        for id in self.channels.keys().copied().collect::<Vec<_>>() {
            self.shut(id);
        }
        while !self.dying.is_empty() && begun.elapsed() < LINGER {
            for channel in self.channels.values_mut() {
                channel.writable = true;
                channel.pump_out();
            }
            self.bury();
            std::thread::sleep(Duration::from_millis(5));
        }
        for channel in self.channels.values_mut() {
            channel.abandon();
        }
        // Commands that came too late are answered, too.
        while let Ok(command) = self.todo.try_recv() {
            match command {
                Command::Receive(_, _, _, answer)
                | Command::Send(_, _, answer)
                | Command::Secure(_, answer)
                | Command::Complaint(_, answer) => {
                    answer(Err(Fault::Gone));
                }
                Command::Shut(_, Some(answer)) => answer(Ok(Reply::Unit)),
                _ => {}
            }
        }
    }

    fn listen(&mut self, listener: Listener, max: usize, tell: Sender<Incoming>) {
        let fd = match &listener {
            Listener::Unix(listener) => listener.as_fd(),
            Listener::Tcp(listener) => listener.as_fd(),
        };
        self.register(fd, token(self.listeners.len() as u32, End::Listener), Interest::READABLE);
        self.listeners.push((listener, max, tell));
    }

    fn accept(&mut self, at: usize) {
        loop {
            let Some((listener, max, tell)) = self.listeners.get(at) else { return };
            let accepted = match listener {
                Listener::Unix(listener) => listener.accept().map(|(socket, _)| (credentials(&socket), OwnedFd::from(socket))),
                Listener::Tcp(listener) => listener.accept().map(|(socket, from)| {
                    let _ = socket.set_nodelay(true);
                    (from.to_string(), OwnedFd::from(socket))
                }),
            };
            let (peer, socket) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            if self.channels.len() >= *max {
                // If even that does not fit into the socket, the end says enough.
                let _ = rustix::io::write(&socket, FULL);
                continue;
            }
            let id = StreamId(self.numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
            let gone = tell.send(Incoming { stream: id, peer }).is_err();
            if gone {
                return;
            }
            self.open(id, socket_ends(socket));
        }
    }
}

/// Who is at the other end of a unix socket.
fn credentials(socket: &UnixStream) -> String {
    match rustix::net::sockopt::socket_peercred(socket) {
        Ok(peer) => format!("process {} of user {}", peer.pid.as_raw_nonzero(), peer.uid.as_raw()),
        Err(_) => String::from("a process"),
    }
}

/// A process whose output has ended is about to say why, or has.
fn wait_for_last_words(channel: &mut Channel) {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        match channel.ends.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) if channel.is_ended() => std::thread::sleep(Duration::from_millis(2)),
            _ => return,
        }
    }
}
