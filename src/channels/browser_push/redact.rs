//! Removes the endpoint and our token from responses, because a push service can echo both, and users can read the stored
//! responses.

use crate::channels::Redactor;
use crate::domain::push_subscription::PushSubscription;
use crate::domain::secret_text::SecretText;

const REDACTED: &str = "[redacted]";
/// Path segments with fewer bytes are common words, not secrets.
const SHORTEST: usize = 8;

/// Finds every part of the endpoint that identifies the browser, and the secret parts of the token in `Authorization`.
pub(super) fn redactor(subscription: &PushSubscription, authorization: &str) -> Redactor {
    let url = subscription.endpoint.url();
    let whole = [url.as_str(), url.path()];
    let parts = url.path_segments().into_iter().flatten().flat_map(|segment| segment.split(':'));
    let pairs = url.query().into_iter().flat_map(|query| query.split(['&', '=']));
    let token = authorization.split([' ', ',']).find_map(|part| part.strip_prefix("t=")).unwrap_or_default();
    let signature = token.rsplit('.').next();
    let secrets = whole.into_iter().chain(url.query()).chain(parts).chain(pairs).chain([token]).chain(signature);
    Redactor::new(REDACTED, secrets.filter(|secret| secret.len() >= SHORTEST).map(SecretText::new))
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::domain::push_endpoint::PushEndpoint;
    use crate::domain::push_hosts::PushHosts;
    use crate::domain::push_subscription::BrowserKeys;

    #[test]
    fn removes_the_token_and_every_part_of_an_endpoint() {
        let hosts = PushHosts::new(Vec::new(), false);
        let text = "https://fcm.googleapis.com/fcm/send/dQw4w9WgXcQ:APA91bHsecret?token=aB%2fsecret2";
        let keys = BrowserKeys { p256dh: [4; 65], auth: Zeroizing::new([1; 16]) };
        let subscription = PushSubscription { endpoint: PushEndpoint::parse(text, &hosts).unwrap(), keys };
        let echoed = format!(
            "no {text} for send: APA91bHsecret, dQw4w9WgXcQ, /fcm/send/dQw4w9WgXcQ:APA91bHsecret, \
                              aB%2fsecret2 at fcm.googleapis.com by eyJ0eXAi.eyJhdWQi.i3CYb7t4xf and i3CYb7t4xf"
        );
        let redacted = redactor(&subscription, "vapid t=eyJ0eXAi.eyJhdWQi.i3CYb7t4xf, k=BA1Hxzyi").apply(echoed);
        assert_eq!(
            redacted,
            "no [redacted] for send: [redacted], [redacted], [redacted], [redacted] at fcm.googleapis.com by [redacted] and \
             [redacted]"
        );
    }
}
