//! The one normal form of a path, used for matching and for forwarding (PROTOCOL section 3).

/// A path in normal form: starts with `/`, only unreserved characters decoded, other escapes
/// upper case, no dot segments, no `//`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NormalPath(String);

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path does not start with /")]
    NotAbsolute,
    #[error("a percent sign is not followed by two hex digits")]
    BadEscape,
    #[error("the path escapes a separator, a backslash or NUL")]
    EscapedSeparator,
    #[error("the path's bytes are not UTF-8")]
    NotUtf8,
}

impl NormalPath {
    /// `encoded_slashes` keeps `%2F` as it stands instead of refusing it (opt-in per host).
    pub fn parse(raw: &str, encoded_slashes: bool) -> Result<Self, PathError> {
        let _ = (raw, encoded_slashes);
        todo!()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}
