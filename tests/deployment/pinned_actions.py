"""Whether the workflows use each action of others by the digest of one commit, with its version beside it."""

import pathlib
import re

# A tag can be moved to another commit by who takes over the action; a digest cannot.
PINNED = re.compile(r"(?P<action>[\w.-]+/[\w./-]+)@(?P<digest>[0-9a-f]{40}) # (?P<version>v\d+\.\d+\.\d+)")

files = [*pathlib.Path(".github").rglob("*.yml"), *pathlib.Path(".github").rglob("*.yaml")]
pins = {}
for path in files:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if "uses:" not in line:
            continue
        used = line.split("uses:", 1)[1].strip()
        # Our own actions are part of the commit.
        if used.startswith("./"):
            continue
        pinned = PINNED.fullmatch(used)
        assert pinned, f"{path}:{number}: write {used} as owner/name@digest # v1.2.3"
        pin = (pinned["digest"], pinned["version"])
        assert pins.setdefault(pinned["action"], pin) == pin, f"{path}:{number}: another {pinned['action']} than elsewhere"
assert pins, files
print(f"{len(pins)} actions are pinned")
