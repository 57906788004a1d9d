//! Members of an archive, as they come and with their CRCs made right; and members that are sealed here.
#![no_main]

use cylinder_core::archive::member::{Footer, Kind, RAW_MAX, find_header, is_whole, parse_header, seal, unseal};
use cylinder_core::codec::Portable;
use cylinder_fuzz::seal_member;
use libfuzzer_sys::fuzz_target;

fn read(bytes: &[u8]) {
    let mut raw = Vec::new();
    if let Ok(info) = unseal(&mut Portable, bytes, &mut raw) {
        assert_eq!(parse_header(bytes), Ok(info));
        assert!(is_whole(bytes) && raw.len() == info.raw_len as usize && raw.len() <= RAW_MAX);
    }
    if let Ok(footer) = Footer::parse(bytes) {
        assert_eq!(footer.emit(), bytes);
    }
    if let Some(at) = find_header(bytes, 0) {
        assert!(parse_header(&bytes[at..]).is_ok());
    }
}

fuzz_target!(|data: &[u8]| {
    read(data);
    let mut bytes = data.to_vec();
    seal_member(&mut bytes);
    read(&bytes);
    let (mut member, mut back) = (Vec::new(), Vec::new());
    seal(&mut Portable, Kind::Data, 0, data, 1, Some(&mut back), &mut member).expect("less than the limit");
    unseal(&mut Portable, &member, &mut back).expect("a member that was just sealed");
    assert_eq!(back, data);
});
