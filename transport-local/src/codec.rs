//! The compressor of this build: libdeflate with the feature `fast`, else the core's portable one.
//!
//! Both write the same format; they do not write the same bytes.

#[cfg(feature = "fast")]
pub use fast::Fast as Fastest;

#[cfg(not(feature = "fast"))]
pub use cylinder_core::codec::Portable as Fastest;

#[cfg(feature = "fast")]
mod fast {
    use cylinder_core::codec::{Codec, Portable};
    use libdeflate_sys::{
        libdeflate_alloc_decompressor, libdeflate_deflate_decompress_ex, libdeflate_free_decompressor,
        libdeflate_result_LIBDEFLATE_SUCCESS,
    };
    use libdeflater::{CompressionLvl, Compressor};
    use std::ptr::{NonNull, null_mut};

    /// libdeflate. What it has allocated for a level is kept.
    #[derive(Default)]
    pub struct Fast {
        compressors: [Option<Compressor>; 13],
        inflater: Option<Inflater>,
    }

    impl Codec for Fast {
        fn deflate(&mut self, level: u8, raw: &[u8], out: &mut Vec<u8>) {
            let level = level.min(12);
            let start = out.len();
            if let Ok(known) = CompressionLvl::new(i32::from(level)) {
                let compressor = self.compressors[usize::from(level)].get_or_insert_with(|| Compressor::new(known));
                out.resize(start + compressor.deflate_compress_bound(raw.len()), 0);
                if let Ok(made) = compressor.deflate_compress(raw, &mut out[start..]) {
                    out.truncate(start + made);
                    return;
                }
            }
            // libdeflate promises that neither can fail; it costs nothing to be right if one does.
            out.truncate(start);
            Portable.deflate(level, raw, out);
        }

        fn inflate(&mut self, deflated: &[u8], out: &mut [u8]) -> Option<usize> {
            if self.inflater.is_none() {
                self.inflater = Inflater::new();
            }
            match &mut self.inflater {
                Some(inflater) => inflater.inflate(deflated, out),
                None => Portable.inflate(deflated, out),
            }
        }

        fn crc32(&mut self, b: &[u8]) -> u32 {
            libdeflater::crc32(b)
        }
    }

    /// A decompressor that tells how many bytes a stream took, which libdeflater's does not.
    struct Inflater(NonNull<libdeflate_sys::libdeflate_decompressor>);

    // SAFETY: a decompressor has no tie to the thread that allocated it; it is used through `&mut` only.
    #[expect(unsafe_code, reason = "a pointer of C's is not Send by itself")]
    unsafe impl Send for Inflater {}

    impl Inflater {
        #[expect(unsafe_code, reason = "C")]
        fn new() -> Option<Inflater> {
            // SAFETY: takes nothing; gives null or a decompressor, which `drop` frees.
            NonNull::new(unsafe { libdeflate_alloc_decompressor() }).map(Inflater)
        }

        /// Fills all of `out` with the stream at the start of `deflated` and returns its length. None if it is not just that
        /// long.
        #[expect(unsafe_code, reason = "C")]
        fn inflate(&mut self, deflated: &[u8], out: &mut [u8]) -> Option<usize> {
            let mut used = 0;
            // SAFETY: the decompressor is live and ours alone; both buffers are given with their lengths, and `used` outlives
            // the call. A null pointer for the length of the output asks for exactly `out.len()` bytes.
            let result = unsafe {
                libdeflate_deflate_decompress_ex(
                    self.0.as_ptr(),
                    deflated.as_ptr().cast(),
                    deflated.len(),
                    out.as_mut_ptr().cast(),
                    out.len(),
                    &raw mut used,
                    null_mut(),
                )
            };
            (result == libdeflate_result_LIBDEFLATE_SUCCESS).then_some(used)
        }
    }

    impl Drop for Inflater {
        #[expect(unsafe_code, reason = "C")]
        fn drop(&mut self) {
            // SAFETY: it was allocated by `new`, and nothing uses it after this.
            unsafe { libdeflate_free_decompressor(self.0.as_ptr()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cylinder_core::codec::{Codec, Portable};

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|n| b"to be or not to be, that is the question\n"[n * n / 7 % 41]).collect()
    }

    #[test]
    fn the_fastest_and_the_portable_codec_read_each_other() {
        let mut fastest: Fastest = Default::default();
        for level in [0, 1, 6, 9, 12, 200] {
            for len in [0, 1, 1000, 70_000, 1 << 20] {
                let raw = text(len);
                let (mut ours, mut theirs, mut back) = (b"kept".to_vec(), Vec::new(), vec![0; len]);
                fastest.deflate(level, &raw, &mut ours);
                Portable.deflate(level, &raw, &mut theirs);
                assert_eq!(Portable.inflate(&ours[4..], &mut back), Some(ours.len() - 4));
                assert_eq!(back, raw);
                back.fill(1);
                assert_eq!(fastest.inflate(&theirs, &mut back), Some(theirs.len()));
                assert_eq!(back, raw);
            }
        }
    }

    #[test]
    fn the_fastest_codec_is_as_strict_as_the_portable_one() {
        let (raw, mut z) = (text(5000), Vec::new());
        let mut fastest: Fastest = Default::default();
        fastest.deflate(6, &raw, &mut z);
        let full = z.len();
        z.extend_from_slice(b"tail");
        let mut out = vec![0; raw.len()];
        assert_eq!(fastest.inflate(&z, &mut out), Some(full));
        assert_eq!(out, raw);
        for bad_len in [0, raw.len() - 1, raw.len() + 1] {
            assert_eq!(fastest.inflate(&z, &mut vec![0; bad_len]), None);
        }
        for cut in 0..full {
            assert_eq!(fastest.inflate(&z[..cut], &mut out), None);
        }
        assert_eq!(fastest.crc32(b"123456789"), 0xCBF4_3926);
    }
}
