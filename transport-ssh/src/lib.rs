//! Connections to other hosts: the system's `ssh`, unix sockets, TCP sockets.
//!
//! Empty until the wire protocol exists. What must not come in: anything that knows Cyrus, archives or backup rules.
