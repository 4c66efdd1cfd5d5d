//! Enums whose members have a stable name for programs each, and the list of all of them.

macro_rules! codes { ($(#[$doc:meta])* $Enum:ident { $($(#[$what:meta])* $Code:ident = $name:literal,)* }) => {
    $(#[$doc])*
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    #[non_exhaustive]
    pub enum $Enum { $($(#[$what])* $Code,)* }

    impl $Enum {
        /// All of them.
        pub const ALL: &[Self] = &[$(Self::$Code,)*];

        /// As it is written in answers.
        pub const fn name(self) -> &'static str {
            match self { $(Self::$Code => $name,)* }
        }
    }

    impl serde::Serialize for $Enum {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(self.name())
        }
    }
} }

pub(crate) use codes;
