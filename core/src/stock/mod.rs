//! What both ends of the stock dialect (PROTOCOL.md, section 2) must know: folder names as a stock server shows them, and the
//! JSON in which annotations of folders travel.
//!
//! Pure functions. What must not come in: connections, requests and answers (`serve::stock`, `pull::stock`).

pub mod annotations;
pub mod names;
