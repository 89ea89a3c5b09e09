"""Checks that docker/kubernetes/network.yaml allows what each pod needs, but no address that is forbidden for webhooks."""

import ipaddress
import pathlib
import re

from ruamel.yaml import YAML

KUBERNETES = pathlib.Path("docker/kubernetes")
RULES = pathlib.Path("src/channels/address.rs").read_text()
# The destinations that each role may reach in addition to the public internet: namespace, port, protocol.
NAMES = {("kube-system", 53, "UDP"), ("kube-system", 53, "TCP")}
DATABASE = {("postgres", 5432, "TCP")}
TRACES = {("monitoring", 4318, "TCP")}
METRICS = {("monitoring", 9464, "TCP")}
EGRESS = {"api": NAMES | DATABASE | TRACES, "worker": NAMES | DATABASE | TRACES, "migrate": NAMES | DATABASE}
INGRESS = {"api": {("ingress-nginx", 8080, "TCP")} | METRICS, "worker": METRICS, "migrate": set()}
SENDS = {"api", "worker"}


def read(path):
    return [document for document in YAML(typ="safe").load_all(path.read_text()) if document]


def matches(selector, labels):
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions), expressions
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def rust_networks(name):
    """The networks that a constant in src/channels/address.rs lists."""
    body = re.search(rf"const {name}: [^=]*= \[?(.*?)\]?;\n", RULES, re.DOTALL)[1]
    found = [f"{'.'.join(four)}/{prefix}" for *four, prefix in re.findall(r"\bv4\((\d+), (\d+), (\d+), (\d+), (\d+)\)", body)]
    groups = [(re.findall(r"\w+", network), prefix) for network, prefix in re.findall(r"\bv6\(\[(.*?)\], (\d+)\)", body)]
    found += [":".join(f"{int(group, 0):x}" for group in four) + f"::/{prefix}" for four, prefix in groups]
    assert len(found) == body.count("v4(") + body.count("v6("), name
    return {ipaddress.ip_network(network) for network in found}


def allowed(policies, labels, direction, peers):
    """Returns a pod's rules for this direction: (namespace, port) pairs, and address blocks with their ports."""
    namespaces, blocks = set(), []
    for policy in policies:
        if direction not in policy["spec"]["policyTypes"] or not matches(policy["spec"]["podSelector"], labels):
            continue
        for rule in policy["spec"].get(direction.lower(), []):
            assert rule.get(peers) and rule.get("ports"), f"{policy['metadata']['name']} allows all peers or all ports"
            ports = {(port["port"], port["protocol"]) for port in rule["ports"]}
            for peer in rule[peers]:
                if "ipBlock" in peer:
                    blocks.append((peer["ipBlock"], ports))
                else:
                    namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
                    namespaces |= {(namespace, *port) for port in ports}
    return namespaces, blocks


policies = read(KUBERNETES / "network.yaml")
nothing = policies[0]["spec"]
assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, "the first policy must deny everything"

pods = {}
for path in KUBERNETES.glob("*.yaml"):
    for document in read(path):
        if document["kind"] in ("Deployment", "Job"):
            labels = document["spec"]["template"]["metadata"]["labels"]
            pods[labels["role"]] = labels
assert pods.keys() == EGRESS.keys(), pods

forbidden = {4: rust_networks("FORBIDDEN_V4") | rust_networks("METADATA_V4"), 6: rust_networks("FORBIDDEN_V6")}
(public_v6,) = rust_networks("GLOBAL_UNICAST")
public = {4: ipaddress.ip_network("0.0.0.0/0"), 6: public_v6}
for role, labels in pods.items():
    namespaces, blocks = allowed(policies, labels, "Egress", "to")
    assert namespaces == EGRESS[role], (role, namespaces)
    assert len(blocks) == (2 if role in SENDS else 0), (role, blocks)
    for block, ports in blocks:
        network = ipaddress.ip_network(block["cidr"])
        exceptions = set(map(ipaddress.ip_network, block["except"]))
        assert network == public[network.version], network
        assert all(exception.subnet_of(network) for exception in exceptions), exceptions
        wanted = set(ipaddress.collapse_addresses(forbidden[network.version]))
        assert set(ipaddress.collapse_addresses(exceptions)) == wanted, wanted.symmetric_difference(exceptions)
        assert ports == {(443, "TCP")}, ports
    namespaces, blocks = allowed(policies, labels, "Ingress", "from")
    assert (namespaces, blocks) == (INGRESS[role], []), (role, namespaces, blocks)
counts = " and ".join(f"{len(networks)} of IPv{version}" for version, networks in forbidden.items())
print(f"{len(policies)} policies for {len(pods)} roles; {counts} are blocked")
