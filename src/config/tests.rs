//! Tests the meaning of settings, and how their errors are reported.

use std::num::NonZeroU32;

use super::*;
use crate::channels::browser_push::VapidKey;
use crate::users::KeySource;

fn config_of(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let home = ("HOME".to_owned(), "/home/someone".to_owned());
    Config::from_vars(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).chain([home]))
}

fn faults_of(variables: &[(&str, &str)]) -> Vec<String> {
    let errors = config_of(variables).unwrap_err();
    errors.faults().iter().map(|fault| format!("{} {}", fault.variable, fault.message)).collect()
}

const KEYS: (&str, &str) = ("FLAMETREE_ENCRYPTION_KEYS", "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");

#[test]
fn without_settings_the_embedded_server_and_the_defaults_are_used() {
    let config = config_of(&[]).unwrap();
    assert!(matches!(config.database, Database::Embedded { .. }));
    assert!(config.http.public_url.is_none());
    assert_eq!(config.queue.lease, Duration::from_secs(30));
    assert_eq!(config.channels.default_timeout, Duration::from_secs(5));
    assert_eq!(config.http.batch_body_bytes, 1024 * 1024);
    assert_eq!(config.log.format, logging::Format::ByTerminal);
}

#[test]
fn an_empty_value_counts_as_not_set() {
    let config = config_of(&[("DATABASE_URL", ""), ("FLAMETREE_LEASE_SECONDS", "")]).unwrap();
    assert!(matches!(config.database, Database::Embedded { .. }));
}

#[test]
fn a_database_url_selects_an_external_server() {
    let url = ("DATABASE_URL", "postgres://me:pa55word@db.internal:6432/notify");
    let config = config_of(&[url, KEYS]).unwrap();
    let Database::External { url, listen_url: None, max_connections: 20 } = &config.database else {
        panic!("{:?}", config.database)
    };
    assert_eq!(url.connect_options().get_host(), "db.internal");
    assert_eq!(url.connect_options().get_database(), Some("notify"));
}

#[test]
fn all_faults_of_settings_are_reported_at_once() {
    let faults = faults_of(&[
        ("FLAMETREE_LEASE_SECONDS", "10"),
        ("FLAMETREE_LISTEN_ADDR", "8080"),
        ("FLAMETREE_RETENTION_DAYS", "7"),
        ("FLAMETREE_ALLOWED_NETWORKS", "10.0.0.0/8, 10.0.0.1/33"),
        ("FLAMETREE_DENIED_NETWORKS", "10.0.0.1"),
        ("FLAMETREE_TRUSTED_PROXIES", "proxy.internal"),
        ("FLAMETREE_NAME_SERVERS", "dns.internal"),
        ("FLAMETREE_ALLOW_HTTP", "yes"),
        ("FLAMETREE_ROLLUP_SCHEDULE", "hourly"),
        ("FLAMETREE_LOG", "flametree_notify=loud"),
        ("FLAMETREE_LOG_FORMAT", "xml"),
        ("FLAMETREE_LISTEN_ADRR", "127.0.0.1:1"),
        ("FLAMETREE_CA_FILE", "/does/not/exist.pem"),
        ("FLAMETREE_OPERATOR_CA_FILE", "/does/not/exist.pem"),
        ("FLAMETREE_PUBLIC_URL", "https://example.com/path"),
    ]);
    let expected = [
        "FLAMETREE_LISTEN_ADRR is not a setting of flametree-notify",
        "FLAMETREE_LISTEN_ADDR must be an address and port like 127.0.0.1:8080, not \"8080\"",
        "FLAMETREE_PUBLIC_URL must be an origin like https://notify.example.com, not \"https://example.com/path\"",
        "FLAMETREE_TRUSTED_PROXIES must be CIDRs like 10.0.0.0/8,fd00::/8, not \"proxy.internal\"",
        "FLAMETREE_OPERATOR_CA_FILE names a file that cannot be read, \"/does/not/exist.pem\": No such file or directory (os error 2)",
        "FLAMETREE_ALLOWED_NETWORKS must be CIDRs like 10.0.0.0/8,fd00::/8, not \"10.0.0.0/8, 10.0.0.1/33\"",
        "FLAMETREE_DENIED_NETWORKS must be CIDRs like 10.0.0.0/8,fd00::/8, not \"10.0.0.1\"",
        "FLAMETREE_NAME_SERVERS must be addresses like 10.0.0.53,[fd00::53]:5353, not \"dns.internal\"",
        "FLAMETREE_ALLOW_HTTP must be true or false, not \"yes\"",
        "FLAMETREE_CA_FILE names a file that cannot be read, \"/does/not/exist.pem\": No such file or directory (os error 2)",
        "FLAMETREE_LEASE_SECONDS must be a whole number from 11 to 3600, not \"10\"",
        "FLAMETREE_RETENTION_DAYS must be a whole number from 8 to 3650, not \"7\"",
        "FLAMETREE_ROLLUP_SCHEDULE must be a cron expression like 20 3 * * MON-FRI, not \"hourly\"",
        "FLAMETREE_LOG must be a level or directives like info,flametree_notify::queue=debug, not \"flametree_notify=loud\"",
        "FLAMETREE_LOG_FORMAT must be text or json, not \"xml\"",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn rejects_settings_that_contradict_each_other() {
    for (variables, expected) in [
        (
            &[("FLAMETREE_MAX_IN_FLIGHT", "10"), ("FLAMETREE_ENDPOINT_MAX_IN_FLIGHT", "11")],
            "FLAMETREE_ENDPOINT_MAX_IN_FLIGHT must be at most FLAMETREE_MAX_IN_FLIGHT",
        ),
        (
            &[("FLAMETREE_EVENT_MAX_BYTES", "4096"), ("FLAMETREE_BATCH_MAX_BYTES", "2048")],
            "FLAMETREE_BATCH_MAX_BYTES must be at least FLAMETREE_EVENT_MAX_BYTES",
        ),
        (
            &[("FLAMETREE_INGEST_QUEUE_EVENTS", "100"), ("FLAMETREE_BATCH_MAX_EVENTS", "101")],
            "FLAMETREE_BATCH_MAX_EVENTS must be at most FLAMETREE_INGEST_QUEUE_EVENTS",
        ),
        (
            &[("FLAMETREE_LISTEN_ADDR", "127.0.0.1:80"), ("FLAMETREE_METRICS_ADDR", "127.0.0.1:80")],
            "FLAMETREE_METRICS_ADDR must not be the address of the API, FLAMETREE_LISTEN_ADDR",
        ),
    ] {
        assert_eq!(faults_of(variables), [expected]);
    }
    let wrong = faults_of(&[("FLAMETREE_MAX_IN_FLIGHT", "0"), ("FLAMETREE_ENDPOINT_MAX_IN_FLIGHT", "11")]);
    assert_eq!(wrong, ["FLAMETREE_MAX_IN_FLIGHT must be a whole number from 1 to 100000, not \"0\""]);
    let listen_only = faults_of(&[("DATABASE_LISTEN_URL", "postgres://db/notify")]);
    assert_eq!(listen_only, ["DATABASE_LISTEN_URL has no effect without DATABASE_URL"]);
    let no_keys = faults_of(&[("DATABASE_URL", "postgres://db/notify")]);
    assert_eq!(no_keys, ["FLAMETREE_ENCRYPTION_KEYS must be set together with DATABASE_URL"]);
}

#[test]
fn the_keys_of_portal_users_must_come_from_one_setting() {
    assert!(config_of(&[]).unwrap().users.is_none());
    let secret = ("FLAMETREE_JWT_SECRET", "a secret of 32 bytes, or of more");
    let url = ("FLAMETREE_JWKS_URL", "https://login.example/jwks?tenant=7");
    let users = config_of(&[secret, ("FLAMETREE_JWT_ISSUER", "me")]).unwrap().users.unwrap();
    assert!(matches!(users.keys, KeySource::One(_)) && users.issuer.as_deref() == Some("me"));
    assert!(!format!("{users:?}").contains(secret.1));
    let users = config_of(&[url, ("FLAMETREE_JWT_ISSUER", "me")]).unwrap().users.unwrap();
    assert!(matches!(users.keys, KeySource::Published { url: found, .. } if found.as_str() == url.1));

    let expected = "FLAMETREE_JWT_ISSUER must be set together with FLAMETREE_JWKS_URL: its keys may sign other customers' \
                    tokens too, and only the issuer identifies the customer";
    assert_eq!(faults_of(&[url]), [expected]);
    let one_of = "one of FLAMETREE_JWT_SECRET, FLAMETREE_JWT_PUBLIC_KEY_FILE, FLAMETREE_JWKS_URL";
    let needless = faults_of(&[("FLAMETREE_JWT_AUDIENCE", "flametree")]);
    assert_eq!(needless, [format!("FLAMETREE_JWT_AUDIENCE has no effect without {one_of}")]);
    let both = [secret, url, ("FLAMETREE_JWT_ISSUER", "me")];
    assert_eq!(faults_of(&both), ["FLAMETREE_JWKS_URL must not be set together with FLAMETREE_JWT_SECRET"]);
    let short = faults_of(&[("FLAMETREE_JWT_SECRET", "hunter2")]);
    assert_eq!(short, ["FLAMETREE_JWT_SECRET must have at least 32 bytes"]);
    let file = faults_of(&[("FLAMETREE_JWT_PUBLIC_KEY_FILE", "/dev/null")]);
    let expected = "names a file that does not contain a public key in PEM form (BEGIN PUBLIC KEY), \"/dev/null\"";
    assert_eq!(file, [format!("FLAMETREE_JWT_PUBLIC_KEY_FILE {expected}")]);
}

#[test]
fn a_jwks_url_must_use_https_or_a_loopback_host() {
    let is_good = |url| config_of(&[("FLAMETREE_JWKS_URL", url), ("FLAMETREE_JWT_ISSUER", "me")]).is_ok();
    for good in ["https://login.example/jwks", "http://127.0.0.1:8000/", "http://[::1]/", "http://localhost/"] {
        assert!(is_good(good), "{good}");
    }
    for wrong in ["http://login.example/", "http://10.0.0.1/", "https://me:pw@login.example/", "file:///keys", "keys"] {
        assert!(!is_good(wrong), "{wrong}");
    }
}

#[test]
fn a_smaller_limit_reduces_the_defaults_that_depend_on_it() {
    let config = config_of(&[("FLAMETREE_MAX_IN_FLIGHT", "10"), ("FLAMETREE_INGEST_QUEUE_EVENTS", "5")]).unwrap();
    assert_eq!((config.queue.endpoint_max_in_flight, config.http.batch_events), (None, 5));
}

#[test]
fn tenants_have_an_event_rate_limit_unless_it_is_set_to_0() {
    let rate = |value| {
        let config = config_of(&[("FLAMETREE_TENANT_EVENTS_PER_SECOND", value)]).unwrap();
        config.http.tenant_events_per_second.map(NonZeroU32::get)
    };
    assert_eq!((rate(""), rate("0"), rate("5")), (Some(1_000), None, Some(5)));
}

#[test]
fn a_secret_is_never_printed() {
    let url = ("DATABASE_URL", "postgres://me:pa55word@db.internal/notify");
    let debug = format!("{:?}", config_of(&[url, KEYS]).unwrap());
    assert!(!debug.contains("pa55word") && !debug.contains("AAECAwQ"), "{debug}");

    let wrong = [("DATABASE_URL", "mysql://me:pa55word@db.internal/notify"), ("FLAMETREE_ALLOW_HTTP", "1")];
    let errors = config_of(&wrong).unwrap_err();
    assert!(!format!("{errors} {errors:?}").contains("pa55word"));
    assert_eq!(errors.faults().len(), 3, "also the keys are missing: {errors}");
}

#[test]
fn the_api_and_the_metrics_can_use_any_free_ports() {
    let any_port = "127.0.0.1:0";
    assert!(config_of(&[("FLAMETREE_LISTEN_ADDR", any_port), ("FLAMETREE_METRICS_ADDR", any_port)]).is_ok());
}

#[test]
fn parses_encryption_keys_and_certificate_authorities() {
    let keys = |keys| faults_of(&[("FLAMETREE_ENCRYPTION_KEYS", keys)]);
    let good = KEYS.1;
    assert_eq!(keys("hunter2"), ["FLAMETREE_ENCRYPTION_KEYS is not a keyring: entry 1 is not of the form `id:base64`"]);
    let short = "FLAMETREE_ENCRYPTION_KEYS is not a keyring: entry 2 has a key that is not 32 bytes long";
    assert_eq!(keys(&format!("{good},k2:aHVudGVyMg==")), [short]);
    let keyring = config_of(&[KEYS]).unwrap().encryption_keys.unwrap();
    assert_eq!(keyring.active_id(), "k1");

    let file = std::env::temp_dir().join(format!("flametree-authorities-{}.pem", std::process::id()));
    let read = |pem: &str| {
        std::fs::write(&file, pem).unwrap();
        config_of(&[("FLAMETREE_CA_FILE", file.to_str().unwrap())])
    };
    let faults = |pem: &str| read(pem).unwrap_err().faults()[0].message.replace(&format!(", {file:?}"), "");
    let authority = rcgen::generate_simple_self_signed(["authority.test".to_owned()]).unwrap().cert.pem();
    let config = read(&authority.repeat(2)).unwrap();
    assert_eq!((config.channels.extra_roots.len(), config.operator_ca_certificates.len()), (2, 0));
    let config = config_of(&[("FLAMETREE_OPERATOR_CA_FILE", file.to_str().unwrap())]).unwrap();
    assert_eq!((config.channels.extra_roots.len(), config.operator_ca_certificates.len()), (0, 2));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(
        faults(&format!("{authority}{broken}")),
        "names a file in which certificate 2 is not a certificate authority"
    );
    assert_eq!(faults("no certificate"), "names a file without a certificate in PEM form");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn browser_push_needs_a_key_and_a_subject() {
    assert!(config_of(&[]).unwrap().browser_push.is_none());
    let key = ("FLAMETREE_VAPID_PRIVATE_KEY", "IQ9Ur0ykXoHS9gzfYX0aBjy9lvdrjx_PFUXmie9YRcY");
    let subject = ("FLAMETREE_VAPID_SUBJECT", "mailto:push@flametree.dev");
    let second = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94";
    let [first_id, second_id] = [key.1, second].map(|key| VapidKey::from_base64(key).unwrap().id().to_owned());
    let push = config_of(&[key, subject]).unwrap().browser_push.unwrap();
    assert!(push.keys.current().id() == first_id && push.keys.find(&second_id).is_none());
    let host = "https://push.flametree.dev/x".parse().unwrap();
    assert!(!push.hosts.allow(&host) && push.ttl == Duration::from_hours(1));
    assert!(!format!("{push:?}").contains(key.1));
    let both = format!("{}, {second}", key.1);
    let hosts = ("FLAMETREE_PUSH_HOSTS", "*.flametree.dev");
    let push = config_of(&[(key.0, &both), subject, hosts]).unwrap().browser_push.unwrap();
    assert!(push.keys.current().id() == first_id && push.keys.find(&second_id).is_some() && push.hosts.allow(&host));

    let alone = faults_of(&[key]);
    assert_eq!(alone, ["FLAMETREE_VAPID_SUBJECT must be set together with FLAMETREE_VAPID_PRIVATE_KEY"]);
    let needless = faults_of(&[subject]);
    assert_eq!(needless, ["FLAMETREE_VAPID_SUBJECT has no effect without FLAMETREE_VAPID_PRIVATE_KEY"]);
    for wrong in ["hunter2-hunter2", "/does/not/exist.pem", "/dev/null", &format!("{0},{0}", key.1)] {
        let faults = faults_of(&[(key.0, wrong), subject]);
        assert!(faults.len() == 1 && faults[0].starts_with("FLAMETREE_VAPID_PRIVATE_KEY has an entry "), "{faults:?}");
        assert!(!faults[0].contains("hunter2") && !faults[0].contains(key.1), "{faults:?}");
    }
    let local = [("FLAMETREE_VAPID_SUBJECT", "mailto:me@localhost"), ("FLAMETREE_PUSH_HOSTS", "https://x/")];
    let more = [key, local[0], local[1], ("FLAMETREE_PUSH_TTL_SECONDS", "0")];
    assert_eq!(faults_of(&more).len(), 3, "{:?}", faults_of(&more));
}
