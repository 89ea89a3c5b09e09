"""Checks that the workflows pin each external action by its commit digest and state its version."""

import pathlib
import re

# An attacker who takes over an action can move a tag to another commit, but not a digest.
PINNED = re.compile(r"(?P<action>[\w.-]+/[\w./-]+)@(?P<digest>[0-9a-f]{40}) # (?P<version>v\d+\.\d+\.\d+)")

files = [*pathlib.Path(".github").rglob("*.yml"), *pathlib.Path(".github").rglob("*.yaml")]
pins = {}
for path in files:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if "uses:" not in line:
            continue
        used = line.split("uses:", 1)[1].strip()
        # An action in this repository belongs to the same commit as the workflow.
        if used.startswith("./"):
            continue
        pinned = PINNED.fullmatch(used)
        assert pinned, f"{path}:{number}: write {used} as owner/name@digest # v1.2.3"
        pin = (pinned["digest"], pinned["version"])
        assert pins.setdefault(pinned["action"], pin) == pin, f"{path}:{number}: another {pinned['action']} than elsewhere"
assert pins, files
print(f"{len(pins)} actions are pinned")
