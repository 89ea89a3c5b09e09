//! Writes a request as a `curl` command for a POSIX shell. The user first sets a shell variable for each secret.

use std::collections::HashSet;

/// A header of the command.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CurlHeader<'a> {
    Plain {
        name: &'a str,
        value: &'a str,
    },
    /// The header's value is a shell variable.
    Secret {
        name: &'a str,
    },
}

/// The command, one line per argument. If a variable is not set, the shell aborts before it sends the request.
pub(crate) fn curl(url: &str, headers: &[CurlHeader<'_>], body: &str, timeout_seconds: f64) -> String {
    // --globoff: brackets in a URL are literal.
    let mut lines =
        vec![format!("curl --globoff --include --max-time {timeout_seconds} --request POST {}", quoted(url))];
    let mut variables = HashSet::new();
    for header in headers {
        let argument = match header {
            CurlHeader::Plain { name, value } => quoted(&format!("{name}: {value}")),
            CurlHeader::Secret { name } => {
                let variable = variable(name, &mut variables);
                format!("{}\"${{{variable}:?}}\"", quoted(&format!("{name}: ")))
            }
        };
        lines.push(format!("--header {argument}"));
    }
    lines.push(format!("--data-raw {}", quoted(body)));
    lines.join(" \\\n  ")
}

/// Quotes a text as one shell word. Single quotes protect every character except the single quote.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The shell variable for a header, such as `SECRET_AUTHORIZATION`. The prefix avoids clashes with other variables. A number
/// distinguishes header names that differ only in punctuation.
fn variable(name: &str, taken: &mut HashSet<String>) -> String {
    let upper = name
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character.to_ascii_uppercase() } else { '_' });
    let base = format!("SECRET_{}", upper.collect::<String>());
    let mut variable = base.clone();
    let mut number = 1;
    while !taken.insert(variable.clone()) {
        number += 1;
        variable = format!("{base}_{number}");
    }
    variable
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn writes_one_line_per_curl_argument() {
        let headers = [
            CurlHeader::Plain { name: "x-env", value: "it's" },
            CurlHeader::Secret { name: "x-key" },
            CurlHeader::Secret { name: "x_key" },
        ];
        let expected = r#"curl --globoff --include --max-time 2.5 --request POST 'https://hooks.test/a' \
  --header 'x-env: it'\''s' \
  --header 'x-key: '"${SECRET_X_KEY:?}" \
  --header 'x_key: '"${SECRET_X_KEY_2:?}" \
  --data-raw '{}'"#;
        assert_eq!(curl("https://hooks.test/a", &headers, "{}", 2.5), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_shell_reads_a_quoted_text_as_one_word(text in "[^\\x00]{0,40}") {
            let script = format!("printf '%s.' {}", quoted(&text));
            let output = std::process::Command::new("bash").arg("-c").arg(script).output().unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{text}."));
        }
    }
}
