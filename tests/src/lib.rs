//! What the tests share: simulated disk, generators, checks.
