//! Enums that are closed sets of names. `strum` derives the variants and their names; [`closed_set`] adds short functions.

/// Adds the list of all variants and the conversions to and from names in the API, in metrics and in the database.
macro_rules! closed_set {
    ($type:ty) => {
        impl $type {
            pub const ALL: [Self; <Self as strum::VariantArray>::VARIANTS.len()] = {
                let variants = <Self as strum::VariantArray>::VARIANTS;
                let mut all = [variants[0]; _];
                all.copy_from_slice(variants);
                all
            };

            pub fn as_str(self) -> &'static str {
                self.into()
            }

            pub fn from_name(name: &str) -> Option<Self> {
                name.parse().ok()
            }
        }
    };
}

pub(crate) use closed_set;
