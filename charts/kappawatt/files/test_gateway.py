"""`helm test`: the gateway is ready, has found every service of the release, and each of them is ready."""

import json
import os
import sys
import time
import urllib.error
import urllib.request

GATEWAY = os.environ["KAPPAWATT_GATEWAY_URL"]
KEY = os.environ.get("KAPPAWATT_API_KEY", "")
EXPECTED = set(filter(None, os.environ["KAPPAWATT_EXPECTED"].split(",")))
SECONDS = 60.0


def get(path: str) -> bytes:
    headers = {"Authorization": f"Bearer {KEY}"} if KEY else {}
    request = urllib.request.Request(GATEWAY + path, headers=headers)  # noqa: S310 an http address of the chart
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return answer.read()


def why_not() -> str:
    """What is amiss; empty if nothing is."""
    try:
        get("/readyz")
        rows = {row["name"]: row for row in json.loads(get("/api/services"))["services"]}
    except urllib.error.HTTPError as error:
        if error.code == 401 and not KEY:
            print("no key to ask with: only readiness was looked at")
            return ""
        return str(error)
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    missing = EXPECTED - rows.keys()
    if missing:
        return f"not found: {', '.join(sorted(missing))}"
    return "; ".join(f"{name}: {rows[name]['reason']}" for name in sorted(EXPECTED) if not rows[name]["ready"])


end = time.monotonic() + SECONDS
while (reason := why_not()) and time.monotonic() < end:
    time.sleep(1)
print(reason or f"ready: {', '.join(sorted(EXPECTED))}")
sys.exit(1 if reason else 0)
