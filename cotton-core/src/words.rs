//! How counts are written in messages for people.

/// `1 transaction`, `5 transactions`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted<'a>(pub(crate) u64, pub(crate) &'a str);

impl std::fmt::Display for Counted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(count, what) = self;
        write!(f, "{count} {what}{}", if *count == 1 { "" } else { "s" })
    }
}

/// That many transactions.
pub(crate) const fn transactions(count: u64) -> Counted<'static> {
    Counted(count, "transaction")
}
