//! Text that must not appear where it is not asked for: wiped from memory when dropped, and hidden from `Debug`.

use std::fmt;

use zeroize::Zeroizing;

/// A text in confidence. It has no `Display` and no `Serialize`, so that only `expose` gives it away.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_the_text() {
        assert_eq!(format!("{:?}", Some(SecretText::new("hunter2"))), "Some(SecretText(..))");
    }
}
