//! A backup run.
