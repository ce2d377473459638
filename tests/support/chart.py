"""The chart's place, and manifests by what they are called."""

from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "levada"

Manifests = dict[tuple[str, str, str], dict[str, Any]]


def by_name(text: str) -> Manifests:
    """Manifests by kind, namespace and name."""
    return {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each
        for each in yaml.safe_load_all(text)
        if each
    }
