"""Look up known faults of the packages that requirements.txt pins: python -m tests.audit"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.bench.common import TOP, environment


def told(packages: list[dict[str, Any]]) -> tuple[str, int]:
    """What to say of a report of pip-audit, and the exit code.

    Args:
        packages: each with its name, and either why it was skipped or its faults.
    """
    skipped = [package for package in packages if "skip_reason" in package]
    faults = [
        f"{package['name']} {package['version']}: {fault['id']}, mended in"
        f" {', '.join(fault['fix_versions']) or 'no version yet'}"
        for package in packages
        for fault in package.get("vulns", [])
    ]
    known = len(packages) - len(skipped)
    if not known:
        return "no database of known faults can be reached from here; nothing was looked up", 0
    lines = [*faults, f"{known} packages looked up, {len(skipped)} not found, {len(faults)} faults"]
    return "\n".join(lines), int(bool(faults))


def main() -> None:
    command = ["-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner=off"]
    done = subprocess.run(
        [environment("audit"), *command, "--format=json", "--requirement=requirements.txt"],
        cwd=TOP,
        capture_output=True,
        text=True,
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise SystemExit(f"error: pip-audit could not look anything up: {last[0]}") from None
    said, code = told(packages)
    print(said)
    sys.exit(code)


if __name__ == "__main__":
    main()
