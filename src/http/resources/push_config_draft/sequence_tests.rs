//! Applies random sequences of changes, and compares the stored values with a model that implements the rules a second time.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { allow_http: false };

const URLS: [Option<&str>; 4] =
    [None, Some("https://a.example/"), Some("https://a.example/other"), Some("https://b.example/")];
const NAMES: [&str; 4] = ["Authorization", "X-Key", "X-Other", "x-kEY-2"];

/// One header of a draft: the index of its name, its `secret` flag, and its value if the draft has one.
type DraftHeader = (usize, Option<bool>, Option<u16>);

#[derive(Debug, Clone)]
enum Step {
    Replace { url: usize, headers: Vec<DraftHeader> },
    Patch { url: Option<usize>, headers: Option<Vec<DraftHeader>> },
}

fn draft_headers() -> impl Strategy<Value = Vec<DraftHeader>> {
    let header = (0..NAMES.len(), any::<Option<bool>>(), proptest::option::of(0..1_000_u16));
    proptest::collection::vec(header, 0..4).prop_map(|mut headers| {
        headers.sort_by_key(|header| header.0);
        headers.dedup_by_key(|header| header.0);
        headers
    })
}

fn step() -> impl Strategy<Value = Step> {
    let url = 0..URLS.len();
    prop_oneof![
        (url.clone(), draft_headers()).prop_map(|(url, headers)| Step::Replace { url, headers }),
        (proptest::option::of(url), proptest::option::of(draft_headers()))
            .prop_map(|(url, headers)| Step::Patch { url, headers }),
    ]
}

/// The text of a header value. The text starts with "hunter", so that tests find it in any output.
fn entered(number: u16) -> String {
    format!("hunter-{number:04}")
}

fn json_of(headers: &[DraftHeader]) -> Value {
    headers
        .iter()
        .map(|(name, secret, value)| json!({"name": NAMES[*name], "secret": secret, "value": value.map(entered)}))
        .collect()
}

/// A simple model of the rules: the URL's host, and each header's value and secrecy.
#[derive(Debug, Clone, Default)]
struct Model {
    url: usize,
    headers: HashMap<usize, (String, bool)>,
}

impl Model {
    fn replace(&self, url: usize, drafts: &[DraftHeader]) -> Option<Self> {
        let origin = |url: usize| ["", "a", "a", "b"][url];
        let may_keep = url == 0 || origin(url) == origin(self.url);
        let mut headers = HashMap::new();
        for (name, secret, value) in drafts {
            let before = self.headers.get(name);
            let secret = *name == 0 || secret.unwrap_or(before.is_some_and(|(_, secret)| *secret));
            let value = match (value, before) {
                (Some(number), _) => entered(*number),
                (None, Some((value, _))) if secret && may_keep => value.clone(),
                (None, _) => return None,
            };
            headers.insert(*name, (value, secret));
        }
        Some(Self { url, headers })
    }

    /// The headers that a client reads and sends back unchanged.
    fn read_back(&self) -> Vec<(usize, bool, Option<String>)> {
        self.headers.iter().map(|(name, (value, secret))| (*name, *secret, (!secret).then(|| value.clone()))).collect()
    }

    fn patch(&self, url: Option<usize>, drafts: Option<&[DraftHeader]>) -> Option<Self> {
        let url = url.unwrap_or(self.url);
        if let Some(drafts) = drafts {
            return self.replace(url, drafts);
        }
        let secrets: Vec<_> = self
            .read_back()
            .iter()
            .filter(|(_, secret, _)| *secret)
            .map(|(name, ..)| (*name, Some(true), None))
            .collect();
        self.replace(url, &secrets).map(|_| Self { url, headers: self.headers.clone() })
    }
}

proptest! {
    #[test]
    fn no_sequence_of_changes_shows_or_loses_a_secret(steps in proptest::collection::vec(step(), 1..12)) {
        let mut model = Model::default();
        let mut config: Option<PushConfig> = None;
        for step in steps {
            let (draft, expected) = match &step {
                Step::Replace { url, headers } => (
                    Draft::Replacement(json!({"url": URLS[*url], "headers": json_of(headers)})),
                    model.replace(*url, headers),
                ),
                Step::Patch { url, headers } => {
                    let mut patch = json!({});
                    if let Some(url) = url {
                        patch["url"] = json!(URLS[*url]);
                    }
                    if let Some(headers) = headers {
                        patch["headers"] = json_of(headers);
                    }
                    (Draft::MergePatch(patch), model.patch(*url, headers.as_deref()))
                }
            };
            match (apply(config.as_ref(), draft, RULES), expected) {
                (Ok(change), Some(next)) => {
                    check_same(&change.config, &next)?;
                    config = Some(change.config);
                    model = next;
                }
                (Err(faults), None) => prop_assert!(!json!(faults).to_string().contains("hunter")),
                (result, expected) => prop_assert!(false, "{result:?} where the model says {expected:?}"),
            }
        }
    }
}

fn check_same(config: &PushConfig, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(config.url.as_ref().map(WebhookUrl::as_str), URLS[model.url]);
    prop_assert_eq!(config.headers.len(), model.headers.len());
    let shown = json!(PushConfigDocument::from(config));
    for (header, shown) in config.headers.iter().zip(shown["headers"].as_array().unwrap()) {
        let name = NAMES.iter().position(|name| *name == header.name.as_str()).unwrap();
        let (value, secret) = &model.headers[&name];
        prop_assert_eq!(header.value.text().expose(), value);
        let expected = json!({
            "name": NAMES[name], "secret": secret, "value": (!secret).then_some(value), "value_set": true,
        });
        prop_assert_eq!(shown, &expected);
        let debug = format!("{config:?}");
        prop_assert!(!debug.contains("hunter"), "a value in {}", debug);
    }
    Ok(())
}
