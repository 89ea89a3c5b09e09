"""Checks that each container of docker/compose.yaml, alone and with compose.scale.yaml, gets only the secrets that it needs."""

import json
import pathlib
import re

from ruamel.yaml import YAML

DOCKER = pathlib.Path("docker")
SETTINGS = pathlib.Path("src/config/settings.rs").read_text()
# Build arguments, not secrets.
PUBLIC = {"REVISION", "SOURCE_DATE_EPOCH"}
DATABASE = {"POSTGRES_PASSWORD"}
SERVICE = DATABASE | {"FLAMETREE_ENCRYPTION_KEYS", "FLAMETREE_VAPID_PRIVATE_KEY", "OTEL_EXPORTER_OTLP_HEADERS"}
NEEDED = {
    "postgres": DATABASE,
    "pgbouncer": DATABASE,
    # The container `migrate` does not use the encryption keys, but it checks all settings.
    "migrate": DATABASE | {"FLAMETREE_ENCRYPTION_KEYS"},
    "notify": SERVICE | {"FLAMETREE_JWT_SECRET"},
    "api": SERVICE | {"FLAMETREE_JWT_SECRET"},
    "worker": SERVICE,
    "prometheus": set(),
    "grafana": {"GRAFANA_PASSWORD"},
    "receiver": {"SIGNING_SECRET"},
}
# These containers read a secret from a file, so that the command `docker inspect` does not show the secret.
BY_FILE = {"postgres": "postgres_password", "grafana": "grafana_password"}

# Settings in settings.env that are invalid unless the secret is set.
DEPENDENT = {
    "FLAMETREE_JWT_SECRET": {
        "FLAMETREE_JWT_PUBLIC_KEY_FILE", "FLAMETREE_JWKS_URL", "FLAMETREE_JWT_ISSUER", "FLAMETREE_JWT_AUDIENCE"
    },
    "FLAMETREE_VAPID_PRIVATE_KEY": {"FLAMETREE_VAPID_SUBJECT"},
}


def read(name):
    return YAML(typ="safe").load((DOCKER / name).read_text())


def variables(value):
    return set(re.findall(r"(?<!\$)\$\{?([A-Z_]+)", json.dumps(value)))


base, scale = read("compose.yaml"), read("compose.scale.yaml")
sources = {name: secret["environment"] for name, secret in base["secrets"].items()}
seen = set()
for file in (base, scale):
    for name, service in file["services"].items():
        seen.add(name)
        if service.keys() == {"deploy"}:
            continue
        files = [sources[secret] for secret in service.get("secrets", [])]
        got = variables(service) - PUBLIC | set(files)
        assert got == NEEDED[name], (name, got ^ NEEDED[name])
        given = [entry["path"] for entry in service.get("env_file", [])]
        assert given == (["settings.env"] if name in {"migrate", "notify", "api", "worker"} else []), (name, given)
        for secret, settings in DEPENDENT.items():
            emptied = {setting for setting in settings if service.get("environment", {}).get(setting) == ""}
            assert not given or secret in got or emptied == settings, (name, settings - emptied)
        if secret := BY_FILE.get(name):
            assert not variables(service) & set(sources.values()), f"{name} has a secret in its environment"
            assert f"/run/secrets/{secret}" in json.dumps(service["environment"]), name
            # Compose copies the secret's file into the container, so the container's file system must be writable.
            assert not service.get("read_only"), name
assert seen == NEEDED.keys(), seen ^ NEEDED.keys()

# Each secret setting of the service gets its value from the variable of the same name in .env.
secret_settings = set(re.findall(r'= secret\("(\w+)"', SETTINGS))
for file, name in ((base, "notify"), (scale, "api")):
    assert secret_settings <= file["services"][name]["environment"].keys(), name
ignored = pathlib.Path(".gitignore").read_text().splitlines()
assert {"/docker/.env", "/docker/settings.env"} <= set(ignored), ignored
print(f"{len(NEEDED)} services get only the secrets that they need")
