//! The settings as texts for operators. The test updates the documents of the repository.

use super::settings::{SETTINGS, Setting};

/// The settings as an env file: for each setting, the meaning and a commented line with the default.
pub fn example() -> String {
    let heading = "# All settings of flametree-notify. A line that is commented out shows the default.\n".to_owned();
    let entry = |setting: &Setting| {
        let meaning = setting.meaning();
        let (first, rest) = meaning.split_at(1);
        format!("\n# {}{rest}.\n#{}={}\n", first.to_uppercase(), setting.name, setting.default().unwrap_or(""))
    };
    std::iter::once(heading).chain(SETTINGS.iter().map(entry)).collect()
}

/// The settings as a table in Markdown.
pub fn table() -> String {
    let heading = "| setting | default | meaning |\n|---|---|---|\n".to_owned();
    let row = |setting: &Setting| {
        let default = setting.default().map_or("unset".to_owned(), |default| format!("`{default}`"));
        format!("| `{}` | {default} | {} |\n", setting.name, setting.meaning())
    };
    std::iter::once(heading).chain(SETTINGS.iter().map(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_contain_the_declared_settings() {
        let mut updated = Vec::new();
        for (document, start, settings) in
            [("docker/.env.example", "# All settings", example()), ("docs/settings.md", "| setting |", table())]
        {
            let path = format!("{}/{document}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).unwrap();
            let expected = text[..text.find(start).unwrap()].to_owned() + &settings;
            if text != expected {
                std::fs::write(&path, expected).unwrap();
                updated.push(document);
            }
        }
        assert!(updated.is_empty(), "{updated:?} did not contain the declared settings; this test has updated them");
    }
}
