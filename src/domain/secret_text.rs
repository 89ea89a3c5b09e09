//! Text that must not be shown by accident: erased from memory when dropped, and hidden in debug output.

use std::fmt;

use zeroize::Zeroizing;

/// A confidential text. It cannot be displayed or serialized, so only the function `expose` reveals it.
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
