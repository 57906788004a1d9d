//! Connections to other hosts: the system's `ssh`, unix sockets, TCP sockets, TLS over any of them, and standard input and
//! output.
//!
//! [`Hub`] is one thread with one mio loop, in which all connections are. Machines run elsewhere, each with a driver that
//! hands the stream operations of the core to a [`Streams`] of the hub and gets the results back. A connection holds at most
//! [`HIGH`] bytes that nobody has asked for yet; then it is not read any more until a machine has taken them, and the other
//! side has to wait. So memory does not grow with what is queued, however fast the other side is.
//!
//! What must not come in: anything that knows Cyrus, archives or backup rules.

mod channel;
mod hub;
mod peer;
mod session;
#[cfg(feature = "tls")]
mod tls;

pub use hub::{HIGH, Hub, Incoming, Listener, Streams};
pub use peer::{Peer, Secured, Ssh};
pub use session::Sessions;
#[cfg(feature = "tls")]
pub use tls::Trust;
