//! Lengths of time as Apache Cotton writes them: `XdYhZmWs`.

use std::time::Duration;

/// Not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("time must be in the form XdYhZmWs (such as 90s or 1h30m), not '{0}'")]
pub struct DurationError(String);

/// Reads whole numbers of days, hours, minutes and seconds, each optional, in that order, in upper or lower case.
///
/// ```
/// use cotton_bin::config::duration;
/// assert_eq!(duration::parse("1m30s"), Ok(std::time::Duration::from_secs(90)));
/// assert!(duration::parse("30s1m").is_err());
/// ```
///
/// # Errors
/// When it is anything else, or too long for 64 bits of seconds.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let refused = || DurationError(text.chars().take(60).collect());
    let (mut rest, mut total) = (text, None::<u64>);
    for (unit, seconds) in [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)] {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let Some(found) = rest[digits..].chars().next() else { break };
        if !found.eq_ignore_ascii_case(&unit) {
            continue;
        }
        let number: u64 = rest[..digits].parse().map_err(|_| refused())?;
        let part = number.checked_mul(seconds).ok_or_else(refused)?;
        total = Some(total.unwrap_or(0).checked_add(part).ok_or_else(refused)?);
        rest = &rest[digits + 1..];
    }
    total.filter(|_| rest.is_empty()).map(Duration::from_secs).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (text, seconds) in [
            ("60s", 60),
            ("0s", 0),
            ("14d", 14 * 86_400),
            ("1d2h3m4s", 93_784),
            ("1D2H3M4S", 93_784),
            ("1h30m", 5400),
            ("2d5s", 172_805),
            ("90m", 5400),
            ("007s", 7),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "60",
            "s",
            "60s ",
            " 60s",
            "1s1m",
            "1m1m",
            "1.5h",
            "-1s",
            "+1s",
            "1 m",
            "1w",
            "1ms",
            "ſ",
            "1é",
            "1h30",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert_eq!(parse(text), Err(DurationError(text.to_owned())), "{text:?}");
        }
    }
}
