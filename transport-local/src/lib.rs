//! Runs the operations of the core on this host: files, fcntl locks, worker threads.
