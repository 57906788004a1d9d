//! CRC-32 as gzip and Cyrus use it (the IEEE 802.3 polynomial).

/// The CRC-32 of `b`.
pub fn crc32(b: &[u8]) -> u32 {
    crc32fast::hash(b)
}

/// A CRC-32 over bytes that come in pieces.
#[derive(Clone, Debug, Default)]
pub struct Crc32(crc32fast::Hasher);

impl Crc32 {
    /// The CRC of nothing yet.
    pub fn new() -> Crc32 {
        Crc32::default()
    }

    /// Takes in the next piece.
    pub fn update(&mut self, b: &[u8]) {
        self.0.update(b);
    }

    /// The CRC of all pieces so far.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn check_value_of_the_standard() {
        assert_eq!(super::crc32(b"123456789"), 0xCBF4_3926);
    }
}
