//! Replaces the expired subscription of a browser.

use serde_json::Value;

use super::fault::{Fault, FaultCode};
use super::fields::Fields;
use super::push_hosts::PushHosts;
use super::push_subscription::{NewSubscription, PublicPoint, PushSubscription};

/// The browser's old subscription, which only the browser and this service know, and the browser's new subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    pub old: PushSubscription,
    pub new: PushSubscription,
}

impl Renewal {
    /// Parses the old and the new subscription of a request, each in the JSON form that browsers use.
    pub fn parse(
        body: Value,
        hosts: &PushHosts,
        is_on_curve: impl Fn(&PublicPoint) -> bool,
    ) -> Result<Self, Vec<Fault>> {
        let mut fields = Fields::of(body, "").map_err(|fault| vec![fault])?;
        let mut read = |name: &str| {
            let Some(value) = fields.take(name) else {
                return fields.fault(name, FaultCode::Required, "is required");
            };
            match NewSubscription::parse_at(&format!("/{name}"), value, hosts, &is_on_curve) {
                Ok(read) => Some(read.subscription),
                Err(faults) => {
                    fields.faults(faults);
                    None
                }
            }
        };
        let (old, new) = (read("old"), read("new"));
        let faults = fields.finish();
        match (old, new) {
            (Some(old), Some(new)) if faults.is_empty() => Ok(Self { old, new }),
            _ => Err(faults),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reports_the_location_of_every_fault_in_both_subscriptions() {
        let hosts = PushHosts::new(Vec::new(), false);
        let pointers = |body| {
            let faults = Renewal::parse(body, &hosts, |_| true).unwrap_err();
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
