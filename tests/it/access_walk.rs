//! Requests every route with invalid credentials, and with service and user tokens of each role. The tokens belong to the tenant
//! ACME or to another tenant. The declared access of each route and the table of roles give the expected results.

use ::http::{Method, Request};
use flametree_notify::domain::ids::{OperationId, PushSubscriptionId, TokenId};
use flametree_notify::domain::role::{Permission, Role};
use flametree_notify::domain::token::TokenSecret;
use flametree_notify::http::{self, Access};
use hyper::body::Bytes;
use serde_json::{Value, json};
use sqlx::Row;

use crate::support::app::{ACME, Answer, Options, TestApp};
use crate::support::jwt::{self, Signer, claims, in_seconds, with};
use crate::support::seed::{self, SeededDelivery, SeededEvent, yesterday_noon};

/// Texts that occur only in ACME's data.
const MARKS: [&str; 5] = ["a secret text", "acme.example", "agent of acme", "a browser of acme", ACME];

/// A documented route. The parameters in its path name resources of the tenant ACME.
struct Route {
    method: Method,
    template: String,
    path: String,
    access: Access,
}

impl Route {
    async fn ask(&self, api: &TestApp, token: &str) -> Answer {
        // No route accepts this body, so the test creates no resources.
        let body = (self.method != Method::GET).then(|| json!({"no": "such field"}));
        api.request(self.method.clone(), &self.path, token, body.as_ref()).await
    }

    /// True if the path names one resource of ACME by its id.
    fn names_a_thing(&self) -> bool {
        self.template.contains("{id}")
    }

    /// True if the route returns or changes data of the calling user. A service token of any role cannot use such a route.
    fn is_for_users(&self) -> bool {
        self.template.starts_with("/v1/me/")
    }
}

/// Starts a service with data of ACME, and lists the documented routes.
async fn walked() -> (TestApp, Vec<Route>) {
    let mut options = Options { users: Some(jwt::by_secret()), push_hosts: Some(Vec::new()), ..Options::default() };
    options.http.wrong_credentials = u32::MAX;
    let api = TestApp::with(options).await;
    let seeded = SeededEvent { agent: "agent of acme", ..SeededEvent::default() };
    let event = seed::event(&api.db, yesterday_noon(&api.db).await, &seeded).await;
    let delivery = seed::delivery(&api.db, ACME, event, 1, &SeededDelivery::default()).await;
    let endpoint = uuid::Uuid::from_u128(7);
    seed::push_config(&api.db, ACME, "agent-1", endpoint, "https://acme.example/hook").await;
    let operation = OperationId::from_uuid(uuid::Uuid::from_u128(11));
    let replay = format!(
        "INSERT INTO flametree.operations (id, kind, tenant_id, agent_id, requested_by, state, due_at, created_at)
         VALUES ('{}', 'replay', '{ACME}', 'agent of acme', 'tok', 'waiting', now(), now())",
        operation.uuid()
    );
    seed::run(&api.db, replay).await;
    seed::push_subscription(&api.db, ACME, "user-7", endpoint).await;
    let subscription = PushSubscriptionId::from_uuid(endpoint);
    let (token, _) = api.token_with_id(Role::Viewer, Some(ACME)).await;

    let names = |template: &str| {
        let things = [
            ("/v1/events/", event.to_string()),
            ("/v1/deliveries/", delivery.to_string()),
            ("/v1/operations/", operation.to_string()),
            ("/v1/me/push-subscriptions/", subscription.to_string()),
            ("/v1/users/", subscription.to_string()),
        ];
        let thing = things.into_iter().find(|(path, _)| template.starts_with(path));
        template
            .replace("{id}", &thing.map_or_else(|| token.to_string(), |(_, id)| id))
            .replace("{agent_id}", "agent-1")
            .replace("{user_id}", "user-7")
            .replace("{folder}/{file}", "notifications/state.js")
            .replace("{file}", "index.html")
    };
    let document = api.get("/v1/openapi.json", "").await.expect(200);
    let mut routes = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let declared =
                http::routes().into_iter().find(|route| route.method == method && route.template == *template);
            let access = declared.unwrap_or_else(|| panic!("{method} {template} declares no access")).access;
            let mut path = names(template);
            if path.ends_with("/stream") {
                // The invalid parameter makes the stream end with an error. A valid stream would never end.
                path += "?no=such";
            }
            assert!(!path.contains('{'), "this test has no value for a parameter of {template}");
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            routes.push(Route { method, template: template.clone(), path, access });
        }
    }
    (api, routes)
}

/// Creates a service token and a user token with this role and tenant.
async fn credentials(api: &TestApp, role: Role, tenant: &str) -> [String; 2] {
    [api.token(role, Some(tenant)).await, jwt::person(role, tenant)]
}

#[tokio::test]
async fn every_route_admits_exactly_the_roles_in_the_table() {
    let (api, routes) = walked().await;
    for role in Role::ALL {
        let [service, person] = credentials(&api, role, ACME).await;
        for token in [&service, &person] {
            for route in &routes {
                let answer = route.ask(&api, token).await;
                if route.is_for_users() && *token == service {
                    answer.problem(403, "forbidden");
                    continue;
                }
                let what = format!("{} {} as {role:?}: {answer:?}", route.method, route.template);
                if route.access.allows(role) {
                    let status = answer.status;
                    assert!(
                        status < 500 && ![401, 403, 404, 405].contains(&status) || is_gone(route, status),
                        "{what}"
                    );
                } else {
                    assert!(answer.problem(403, "forbidden")["detail"].as_str().unwrap().contains(role.as_str()));
                }
            }
        }
    }
}

/// True if the response is 404 because an earlier `DELETE` request of this test removed the resource.
fn is_gone(route: &Route, status: u16) -> bool {
    let is_removed = route.template.starts_with("/v1/agents/") || route.template.starts_with("/v1/users/");
    status == 404 && (is_removed || route.is_for_users())
}

#[tokio::test]
async fn no_route_shows_or_changes_data_of_another_tenant() {
    let (api, routes) = walked().await;
    let before = everything_of_acme(&api).await;
    for role in Role::ALL {
        let [service, person] = credentials(&api, role, "other").await;
        for token in [&service, &person] {
            for route in routes.iter().filter(|route| route.access != Access::Anyone) {
                let answer = route.ask(&api, token).await;
                if !route.access.allows(role) || (route.is_for_users() && *token == service) {
                    answer.problem(403, "forbidden");
                } else if route.names_a_thing() {
                    answer.problem(404, "not_found");
                }
                let text = String::from_utf8_lossy(&answer.body);
                let seen: Vec<_> = MARKS.iter().filter(|mark| text.contains(**mark)).collect();
                assert!(seen.is_empty(), "{} {} shows {seen:?}: {text}", route.method, route.template);
            }
        }
    }
    assert_eq!(everything_of_acme(&api).await, before);
    assert!(
        before.contains("acme.example") && before.contains("a secret text"),
        "ACME has no data, so this test could not detect a leak"
    );
}

async fn everything_of_acme(api: &TestApp) -> String {
    let query = "SELECT string_agg(row, E'\\n' ORDER BY row) FROM (
        SELECT e::text FROM flametree.events AS e WHERE tenant_id = 'acme'
        UNION ALL SELECT d::text FROM flametree.deliveries AS d WHERE tenant_id = 'acme'
        UNION ALL SELECT c::text FROM flametree.push_configs AS c WHERE tenant_id = 'acme'
        UNION ALL SELECT h::text FROM flametree.push_config_changes AS h WHERE tenant_id = 'acme'
        UNION ALL SELECT o::text FROM flametree.operations AS o WHERE tenant_id = 'acme'
        UNION ALL SELECT s::text FROM flametree.signing_secrets AS s WHERE tenant_id = 'acme'
        UNION ALL SELECT p::text FROM flametree.push_subscriptions AS p WHERE tenant_id = 'acme'
        UNION ALL SELECT t::text FROM flametree.tokens AS t WHERE tenant_id = 'acme') AS rows (row)";
    sqlx::raw_sql(query).fetch_one(&api.db.pool).await.unwrap().get(0)
}

#[tokio::test]
async fn no_route_accepts_invalid_credentials() {
    let (api, routes) = walked().await;
    let admin = api.token(Role::Admin, Some(ACME)).await;
    let made = api.request(Method::POST, "/v1/workspace/stream-tickets", &admin, None).await.expect(201);
    let ticket = made["ticket"].as_str().unwrap();
    let mut wrong = wrong_credentials(&api).await;
    wrong.push(("a ticket instead of a token", ticket.to_owned()));
    for route in &routes {
        let uri = match route.access {
            Access::AnyRole | Access::With(_) => format!("{}?ticket={ticket}", route.path),
            Access::Anyone | Access::BySecret | Access::ByTicket(_) => route.path.clone(),
        };
        let request = Request::builder().method(&route.method).uri(uri);
        let stranger = api.send(request.body(Bytes::new()).unwrap()).await;
        if route.access == Access::Anyone {
            assert!([200, 303].contains(&stranger.status), "{} {stranger:?}", route.template);
            continue;
        }
        if route.access == Access::BySecret {
            // The API rejects the body before it checks the secret. tests/it/push_renewals.rs tests wrong secrets.
            stranger.problem(415, "unsupported_media_type");
            continue;
        }
        stranger.problem(401, "unauthorized");
        assert_eq!(stranger.header("www-authenticate"), Some("Bearer"));
        for (what, token) in &wrong {
            let answer = route.ask(&api, token).await;
            assert_eq!(answer.status, 401, "{what} opens {} {}", route.method, route.template);
            answer.problem(401, "unauthorized");
        }
    }
}

/// Invalid tokens. Each token would have the role admin if it were valid.
async fn wrong_credentials(api: &TestApp) -> Vec<(&'static str, String)> {
    let (expired_id, expired) = api.token_with_id(Role::Admin, Some(ACME)).await;
    let (revoked_id, revoked) = api.token_with_id(Role::Admin, Some(ACME)).await;
    let set = |id: TokenId, column| format!("UPDATE flametree.tokens SET {column} = now() WHERE id = '{}'", id.uuid());
    seed::run(&api.db, set(expired_id, "expires_at")).await;
    seed::run(&api.db, set(revoked_id, "revoked_at")).await;
    let (signer, admin) = (Signer::secret(jwt::SECRET), claims(Role::Admin, ACME));
    let none = |alg: &str| format!("{}.", jwt::unsigned(&json!({"alg": alg}), &admin));
    vec![
        ("an unknown token", TokenSecret::from_random([1; 32]).expose()),
        ("an expired token", expired),
        ("a revoked token", revoked),
        ("an expired person", signer.token(&with(admin.clone(), "exp", json!(in_seconds(-90))))),
        ("another secret", Signer::secret("another secret, which is as long as the first").token(&admin)),
        ("another algorithm", Signer::ed25519().token(&admin)),
        ("another algorithm by name", signer.token_with(&json!({"alg": "HS512"}), &admin)),
        ("no signature", none("HS256")),
        ("alg none", none("none")),
        ("alg None", none("None")),
        ("no token at all", "nonsense".into()),
    ]
}

/// This test states the expected permissions, and does not read them from the table of roles.
#[test]
fn the_service_role_only_posts_events_and_the_viewer_role_changes_nothing() {
    for http::Route { method, template, access } in http::routes() {
        let posts_events = template.starts_with("/v1/events") && method == "POST";
        if let Access::With(_) | Access::ByTicket(_) = access {
            assert_eq!(access.allows(Role::Service), posts_events, "{method} {template}");
            assert!(access.allows(Role::Admin), "{method} {template}");
        }
        // Some routes check a secret (`Access::BySecret`) and not the caller's role.
        let is_harmless = method == "GET" || access == Access::BySecret;
        assert!(is_harmless || !access.allows(Role::Viewer), "{method} {template}");
    }
}

#[tokio::test]
async fn the_declared_routes_and_the_document_have_the_same_permissions() {
    let (api, routes) = walked().await;
    for http::Route { method, template, .. } in http::routes() {
        let is_there = routes.iter().any(|route| route.method.as_str() == method && route.template == template);
        assert!(is_there, "the API declares {method} {template}, but its document has no such route");
    }
    // No route requires the permission `ReadBodies`, because this permission determines which fields a response contains.
    let used = |permission: Permission| {
        permission == Permission::ReadBodies || routes.iter().any(|route| route.access == Access::With(permission))
    };
    let unused: Vec<_> = Permission::ALL.iter().filter(|permission| !used(**permission)).collect();
    assert!(unused.is_empty(), "no route needs {unused:?}");

    let document = api.get("/v1/openapi.json", "").await.expect(200);
    for route in &routes {
        let operation = &document["paths"][&route.template][route.method.as_str().to_lowercase()];
        let roles: Vec<&str> =
            Role::ALL.into_iter().filter(|role| route.access.allows(*role)).map(Role::as_str).collect();
        let mut noted: Vec<&str> =
            operation["security"][0]["token"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        noted.sort_by_key(|name| Role::ALL.iter().position(|role| role.as_str() == *name));
        let needs_no_token = [Access::Anyone, Access::BySecret].contains(&route.access);
        let expected = if needs_no_token { Vec::new() } else { roles };
        assert_eq!(noted, expected, "{} {}", route.method, route.template);
    }
}
