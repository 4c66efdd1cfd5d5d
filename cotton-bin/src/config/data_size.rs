//! Amounts of data as Apache Cotton writes them: `[integer][k|kb|m|mb|g|gb|t|tb]`.

/// Not an amount of data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("data size must be a whole number and one of the units k, kb, m, mb, g, gb, t, tb (such as 512mb), not '{0}'")]
pub struct DataSizeError(String);

/// Reads an amount of data into bytes: any case, spaces around it are ignored, powers of 1024, bytes without a unit.
///
/// ```
/// use cotton_bin::config::data_size;
/// assert_eq!(data_size::parse(" 512MB "), Ok(512 << 20));
/// assert!(data_size::parse("1.5g").is_err());
/// ```
///
/// # Errors
/// When it is anything else, or too much for 64 bits of bytes.
pub fn parse(text: &str) -> Result<u64, DataSizeError> {
    let refused = || DataSizeError(text.chars().take(60).collect());
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let shift = match trimmed[digits..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        _ => return Err(refused()),
    };
    let number: u64 = trimmed[..digits].parse().map_err(|_| refused())?;
    number.checked_mul(1 << shift).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("1k", 1 << 10),
            ("1KB", 1 << 10),
            ("512mb", 512 << 20),
            (" 512Mb\n", 512 << 20),
            ("2g", 2 << 30),
            ("2GB", 2 << 30),
            ("3t", 3 << 40),
            ("3tB", 3 << 40),
            ("16777215t", 16_777_215 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            " ",
            "mb",
            "1.5g",
            "-1m",
            "+1m",
            "1 mb",
            "1b",
            "1bytes",
            "1mib",
            "1p",
            "1m1",
            "é",
            "1é",
            "16777216t",
            "99999999999999999999",
        ] {
            assert_eq!(parse(text), Err(DataSizeError(text.to_owned())), "{text:?}");
        }
    }
}
