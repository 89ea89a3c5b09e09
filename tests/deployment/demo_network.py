"""Checks that docker/compose.yaml, alone and with compose.scale.yaml, has an address for each container in the network `demo`."""

import ipaddress
import pathlib

from ruamel.yaml import YAML

DOCKER = pathlib.Path("docker")
# These containers connect to the receiver, for deliveries and endpoint tests.
REACH_IT = {"compose.yaml": {"notify"}, "compose.scale.yaml": {"api", "worker"}}


def read(name):
    return YAML(typ="safe").load((DOCKER / name).read_text())


def replicas(service):
    return service.get("deploy", {}).get("replicas", 1)


base, scale = read("compose.yaml"), read("compose.scale.yaml")
for name, wanted in REACH_IT.items():
    assert wanted <= {own for own, service in read(name)["services"].items() if "demo" in service.get("networks", {})}, name

(pool,) = base["networks"]["demo"]["ipam"]["config"]
subnet, given_out = ipaddress.ip_network(pool["subnet"]), ipaddress.ip_network(pool.get("ip_range", pool["subnet"]))
services = [{**base["services"].get(name, {}), **scale["services"].get(name, {})} for name in base["services"] | scale["services"]]
on_it = [(replicas(service), service["networks"]["demo"] or {}) for service in services if "demo" in service.get("networks", {})]
told = [ipaddress.ip_address(own["ipv4_address"]) for _, own in on_it if "ipv4_address" in own]
gateway = ipaddress.ip_address(pool["gateway"])
assert len({*told, gateway}) == len(told) + 1, told
assert all(address in subnet and address not in given_out for address in [*told, gateway]), told
free = [address for address in given_out if address in set(subnet.hosts()) - {gateway}]
needed = sum(count for count, own in on_it if "ipv4_address" not in own)
assert needed <= len(free), f"{needed} containers for {len(free)} addresses"
print(f"{len(told)} addresses are fixed, {needed} of {len(free)} are assigned")
