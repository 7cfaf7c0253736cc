"""Looks for known vulnerabilities of the locked dependencies. Fails if there is one; says so if nobody could be asked.

pip-audit by itself calls it a success when the service knows none of the packages, as an index without one does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def audit(lock: Path) -> list[dict[str, Any]] | None:
    """Return what is known of each package of a lock file, or None if the service cannot be reached."""
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--format=json"]
    found = subprocess.run([*command, f"--requirement={lock}"], capture_output=True, text=True, check=False)
    if not found.stdout and "ConnectionError" in found.stderr:
        return None
    if not found.stdout:
        sys.exit(found.stderr)
    dependencies: list[dict[str, Any]] = json.loads(found.stdout)["dependencies"]
    return dependencies


def main() -> None:
    """Audit every lock file."""
    holes = []
    for lock in sorted(CONFIGS.glob("*.lock")):
        dependencies = audit(lock) or []
        known = [one for one in dependencies if "skip_reason" not in one]
        holes += [f"{one['name']} {one['version']}: {hole['id']}" for one in known for hole in one["vulns"]]
        asked = f"{len(known)} of {len(dependencies)} packages looked up"
        print(f"{lock.name}: {asked}" if known else f"{lock.name}: NOT AUDITED, no vulnerability service was reached")
    if holes:
        sys.exit("\n".join(holes))


if __name__ == "__main__":
    main()
