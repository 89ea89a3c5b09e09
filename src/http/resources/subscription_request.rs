//! The bodies with which browsers register and renew their push subscriptions.

use serde_json::{Value, json};
use utoipa::PartialSchema;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use zeroize::Zeroizing;

use crate::channels::browser_push::is_public_key;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::push_endpoint::{MAX_ENDPOINT_BYTES, PushEndpoint};
use crate::domain::push_hosts::PushHosts;
use crate::domain::push_subscription::{
    BrowserKeys, Label, NewSubscription, PublicPoint, PushSubscription, Renewal, decode,
};
use crate::http::request::fields::{At, read_and};
use crate::http::request::request_body::request_body;
use crate::http::request::values::{Required, texts};

request_body! {
    /// The browser's subscription (`PushSubscription.toJSON()`) and a label.
    #[example = json!({
        "endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gAAAAA", "expirationTime": null,
        "keys": {
            "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            "auth": "BTBZMqHH6r4Tts7J_aSIgg",
        },
        "label": "Firefox at work",
    })]
    pub(crate) struct SubscriptionRequest {
        /// The URL at which the push service accepts messages for this browser. The URL's host must be a known push service.
        endpoint: PushEndpoint,
        #[name = "expirationTime"]
        _expiration_time: Option<f64>,
        /// The user's name for the browser.
        label: Option<Label>,
        keys: Required<SubscriptionKeys>,
    }
}

request_body! {
    /// The keys that encrypt messages to the browser.
    #[other_fields = ignored]
    pub(crate) struct SubscriptionKeys {
        /// An uncompressed P-256 point as base64url.
        p256dh: Point,
        /// 16 bytes as base64url.
        auth: Auth,
    }
}

request_body! {
    /// The old and the new subscription, each in the JSON form of the browser's `PushSubscription`.
    #[example = json!({
        "old": {
            "endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gAAAAA",
            "keys": {
                "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
                "auth": "BTBZMqHH6r4Tts7J_aSIgg",
            },
        },
        "new": {
            "endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gBBBBB",
            "keys": {
                "p256dh": "BMjQIp55pdbU8pfCBKyXcZjlmER_mXt5LqNrN1hrXbdBS5EnhIbMu3Au-RV53iIpztzNXkGI56BFB1udQ8Bq_H4",
                "auth": "8eDyX_uCN0XRhSbY5hs7Hg",
            },
        },
    })]
    pub(crate) struct RenewalRequest {
        /// The subscription that was registered.
        old: Required<SubscriptionRequest>,
        /// The browser's current subscription.
        new: Required<SubscriptionRequest>,
    }
}

/// The browser's public key, which is on the curve.
pub(crate) struct Point(PublicPoint);

/// The secret that only the browser and this service know.
pub(crate) struct Auth(Zeroizing<[u8; 16]>);

texts! {
    Auth, String::schema() =>
        |text: String| decode(&text).map(|auth| Auth(Zeroizing::new(auth))).ok_or("must be 16 bytes as base64url");
    Point, String::schema() => |text: String| {
        let point = decode(&text).filter(|point: &PublicPoint| is_public_key(point));
        point.map(Point).ok_or("must be an uncompressed point of P-256, 65 bytes as base64url")
    };
    PushEndpoint, ObjectBuilder::new().schema_type(Type::String).max_length(Some(MAX_ENDPOINT_BYTES)).into() =>
        |text: String| PushEndpoint::read(&text);
}

impl SubscriptionRequest {
    /// Reads a subscription whose host the operator allows.
    pub(crate) fn parse(body: Value, hosts: &PushHosts) -> Result<NewSubscription, Vec<Fault>> {
        read_and(body, "", |body: Self, at| body.checked(hosts, at))
    }

    fn checked(self, hosts: &PushHosts, mut at: At<'_>) -> Option<NewSubscription> {
        let endpoint = self.endpoint.allowed(hosts);
        let endpoint =
            endpoint.map_err(|error| at.name("endpoint").fault::<()>(FaultCode::InvalidValue, error.to_string()));
        let SubscriptionKeys { p256dh: Point(p256dh), auth: Auth(auth) } = self.keys.0?;
        let subscription = PushSubscription { endpoint: endpoint.ok()?, keys: BrowserKeys { p256dh, auth } };
        Some(NewSubscription { subscription, label: self.label.map(Label::into_string) })
    }
}

impl RenewalRequest {
    /// Reads two subscriptions whose hosts the operator allows.
    pub(crate) fn parse(body: Value, hosts: &PushHosts) -> Result<Renewal, Vec<Fault>> {
        read_and(body, "", |body: Self, mut at| {
            let old = body.old.0.and_then(|old| old.checked(hosts, at.name("old")));
            let new = body.new.0.and_then(|new| new.checked(hosts, at.name("new")));
            Some(Renewal { old: old?.subscription, new: new?.subscription })
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;
    use crate::domain::secret_text::SecretText;

    const ENDPOINT: &str = "https://fcm.googleapis.com/fcm/send/abc%2Fdef:APA91bH-_x?token=a%2bb";
    /// The base point of P-256. In the standard alphabet of base64, it contains the characters + and /.
    const POINT: &str = "BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU";

    fn hosts() -> PushHosts {
        PushHosts::new(Vec::new(), false)
    }

    fn body() -> Value {
        let keys = json!({"p256dh": POINT, "auth": URL_SAFE_NO_PAD.encode([7; 16])});
        json!({"endpoint": ENDPOINT, "expirationTime": null, "keys": keys, "label": "Firefox at work"})
    }

    fn faults(body: Value) -> Vec<(String, FaultCode)> {
        let faults = SubscriptionRequest::parse(body, &hosts()).unwrap_err();
        faults.into_iter().map(|fault| (fault.pointer, fault.code)).collect()
    }

    #[test]
    fn a_browsers_subscription_round_trips_byte_for_byte() {
        let new = SubscriptionRequest::parse(body(), &hosts()).unwrap();
        assert_eq!(new.subscription.endpoint.url().as_str(), ENDPOINT);
        assert_eq!(new.label.as_deref(), Some("Firefox at work"));
        assert_eq!(PushSubscription::from_text(&new.subscription.to_text()), Some(new.subscription.clone()));
        assert_eq!(PushSubscription::from_text(&SecretText::new("{}")), None);
        let shown = format!("{new:?}");
        assert!(!shown.contains("APA91") && shown.contains("fcm.googleapis.com/"), "{shown}");
    }

    #[test]
    fn accepts_padded_keys_in_both_base64_alphabets() {
        let mut padded = body();
        let (point, auth) = (URL_SAFE_NO_PAD.decode(POINT).unwrap(), [0xff; 16]);
        padded["keys"]["p256dh"] = json!(STANDARD.encode(&point));
        padded["keys"]["auth"] = json!(STANDARD.encode(auth));
        let new = SubscriptionRequest::parse(padded, &hosts()).unwrap();
        assert_eq!((new.subscription.keys.p256dh.to_vec(), *new.subscription.keys.auth), (point, auth));
    }

    #[test]
    fn every_fault_is_found() {
        assert_eq!(
            faults(json!({"label": "", "expirationTime": "soon", "more": 1})),
            [
                ("/endpoint".into(), FaultCode::Required),
                ("/expirationTime".into(), FaultCode::InvalidType),
                ("/label".into(), FaultCode::InvalidValue),
                ("/keys".into(), FaultCode::Required),
                ("/more".into(), FaultCode::UnknownField),
            ]
        );
        let mut wrong = body();
        wrong["keys"] = json!({"p256dh": URL_SAFE_NO_PAD.encode([4; 64]), "auth": URL_SAFE_NO_PAD.encode([7; 17])});
        let expected = ["/keys/p256dh", "/keys/auth"].map(|place| (place.to_owned(), FaultCode::InvalidValue));
        assert_eq!(faults(wrong), expected);
        let mut off_curve = body();
        off_curve["keys"]["p256dh"] = json!(URL_SAFE_NO_PAD.encode([4; 65]));
        assert_eq!(faults(off_curve), [("/keys/p256dh".into(), FaultCode::InvalidValue)]);
    }

    #[test]
    fn reports_the_location_of_every_fault_in_both_subscriptions() {
        let pointers = |body| {
            let faults = RenewalRequest::parse(body, &hosts()).unwrap_err();
            faults.into_iter().map(|fault| fault.pointer).collect::<Vec<_>>()
        };
        assert_eq!(pointers(json!({"new": 1, "more": 2})), ["/old", "/new", "/more"]);
        let old = json!({"endpoint": "https://example.net/x", "keys": {}});
        assert_eq!(
            pointers(json!({"old": old, "new": {"endpoint": 1}})),
            ["/old/endpoint", "/old/keys/p256dh", "/old/keys/auth", "/new/endpoint", "/new/keys"]
        );
        assert_eq!(pointers(json!([])), [""]);
    }
}
