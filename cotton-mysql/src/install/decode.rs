//! From the bytes of a file to those of a tar archive.

use std::io::{self, BufReader, Read};

/// Most memory that unpacking takes, in KiB: what the strongest ordinary settings of xz and zstd need.
const XZ_KIB_MAX: u32 = 160 * 1024;
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Where a tar header says that it is one.
const USTAR_AT: usize = 257;

/// Looks at how a file begins; `None` when it is nothing that we know.
pub(super) fn decoder<R: Read + 'static>(mut file: R) -> io::Result<Option<Box<dyn Read>>> {
    let mut head = Vec::new();
    file.by_ref().take(512).read_to_end(&mut head)?;
    let kind = head.clone();
    let whole = BufReader::with_capacity(64 * 1024, io::Cursor::new(head).chain(file));
    Ok(match kind.as_slice() {
        [0x1f, 0x8b, ..] => Some(Box::new(flate2::bufread::MultiGzDecoder::new(whole))),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Some(Box::new(lzma_rust2::XzReader::new_mem_limit(whole, true, XZ_KIB_MAX)))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Some(Box::new(decoder))
        }
        plain if plain.get(USTAR_AT..USTAR_AT + 5) == Some(b"ustar") => Some(Box::new(whole)),
        _ => None,
    })
}
