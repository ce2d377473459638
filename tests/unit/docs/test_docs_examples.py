"""Code in README.md and docs/: Python compiles, and our objects fit the definitions, with no field that these do not know."""

import re
from pathlib import Path

import pytest
import yaml

from levada.resources.crds import generate
from levada.resources.models import MODELS

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES.remove(ROOT / "docs" / "reference" / "sdk.md")  # signatures, no code
FENCE = re.compile(r"^( *)```(python|yaml)([^\n]*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
SCHEMAS = {
    each["spec"]["names"]["kind"]: each["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for each in generate().values()
}


def blocks(language):
    for page in PAGES:
        for number, found in enumerate(FENCE.finditer(page.read_text() if page.exists() else "")):
            if found[2] == language:
                text = "\n".join(line.removeprefix(found[1]) for line in found[4].splitlines()) + "\n"
                yield pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")


def unknown(value, schema, path=""):
    """Fields that the schema does not know: the API server would drop them."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    if isinstance(value, dict):
        open_map = schema.get("additionalProperties")
        for name, below in value.items():
            known = schema.get("properties", {}).get(name, open_map if isinstance(open_map, dict) else None)
            if known is None and not (path == "" and name in {"apiVersion", "kind", "metadata"}):
                yield f"{path}.{name}"
            elif known is not None and path + name != "metadata":
                yield from unknown(below, known, f"{path}.{name}")
    elif isinstance(value, list):
        for below in value:
            yield from unknown(below, schema.get("items", {}), f"{path}[]")


@pytest.mark.parametrize("code", list(blocks("python")))
def test_python_compiles(code):
    compile(code, "page", "exec")


@pytest.mark.parametrize("text", list(blocks("yaml")))
def test_objects_fit_the_definitions(text):
    for each in yaml.safe_load_all(text):
        ours = (
            isinstance(each, dict)
            and each.get("kind") in SCHEMAS
            and "levada.dev" in each.get("apiVersion", "levada.dev")
        )
        if not ours:
            continue
        kind = each["kind"]
        assert list(unknown(each, SCHEMAS[kind])) == []
        if "apiVersion" in each and "status" not in each:  # a whole object, not a part of one
            MODELS[kind].model_validate(each)


def test_the_check_would_find_a_field_that_does_not_exist():
    wrong = {"kind": "Schedule", "spec": {"deploymentRef": {"name": "a", "nome": "b"}, "crom": "* * * * *"}}
    assert sorted(unknown(wrong, SCHEMAS["Schedule"])) == [".spec.crom", ".spec.deploymentRef.nome"]
