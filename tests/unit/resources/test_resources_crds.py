"""The definitions: fresh files, and rules that say what the tables say."""

from pathlib import Path

import pytest
import yaml

from levada.resources import rules
from levada.resources.crds import FACES, file_name, generate, schema_of, to_yaml
from levada.resources.kinds import FLOW_RUNS, LEVADA_KINDS
from levada.resources.phases import RUN_TRANSITIONS, TERMINAL_PHASES, RunPhase, TaskState, may_become
from levada.resources.rules import find, fixed

CRDS = Path(__file__).parents[3] / "crds"
MAX_FILE_BYTES = 100_000


def validations(kind):
    return {
        (path, each["rule"]): each
        for path in rules.RULES[kind]
        for each in find(schema_of(next(k for k in LEVADA_KINDS if k.kind == kind)), path)["x-kubernetes-validations"]
    }


@pytest.mark.parametrize("kind", LEVADA_KINDS, ids=lambda kind: kind.kind)
def test_the_file_in_crds_is_what_the_models_say(kind):
    name = file_name(kind)
    text = (CRDS / name).read_text(encoding="utf-8")
    assert text == to_yaml(generate()[name]), "run `levada crds` and commit what it writes"
    assert yaml.safe_load(text) == generate()[name]
    assert len(text.encode()) < MAX_FILE_BYTES


def test_no_other_file_lies_in_crds():
    assert {path.name for path in CRDS.glob("*.yaml")} == set(generate())


def test_generating_twice_gives_the_same_text():
    first, second = ({name: to_yaml(crd) for name, crd in generate().items()} for _ in range(2))
    assert first == second


@pytest.mark.parametrize("kind", LEVADA_KINDS, ids=lambda kind: kind.kind)
def test_each_kind_has_status_category_and_columns(kind):
    spec = generate()[file_name(kind)]["spec"]
    version = spec["versions"][0]
    assert spec["names"]["categories"] == ["levada"]
    assert version["subresources"] == {"status": {}}
    assert version["additionalPrinterColumns"][-1]["name"] in {"Age", "Message"}
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    assert {"observedGeneration", "conditions"} <= set(status)


@pytest.mark.parametrize(
    ("plural", "short"),
    [("deployments", "fdep"), ("schedules", "fsched"), ("flowruns", "fr"), ("workqueues", "wq")],
)
def test_short_names(plural, short):
    assert generate()[f"levada.dev_{plural}.yaml"]["spec"]["names"]["shortNames"] == [short]


def test_runs_show_where_they_stand_and_are_selected_by_it():
    version = generate()[file_name(FLOW_RUNS)]["spec"]["versions"][0]
    shown = [column["name"].upper() for column in version["additionalPrinterColumns"] if "priority" not in column]
    assert shown == ["PHASE", "TASKS", "NOW", "REASON", "DEPLOYMENT", "AGE"]
    assert version["selectableFields"] == [
        {"jsonPath": ".status.phase"},
        {"jsonPath": ".spec.deploymentRef.name"},
        {"jsonPath": ".status.notified"},
    ]


@pytest.mark.parametrize("kind", LEVADA_KINDS, ids=lambda kind: kind.kind)
def test_each_column_and_selectable_field_exists(kind):
    schema = schema_of(kind)
    face = FACES[kind]
    for path in [*face.selectable, *(column.path for column in face.columns)]:
        if path.startswith((".metadata", ".status.conditions")):
            continue
        find(schema, path.removeprefix(".").replace("[0]", "[]"))


@pytest.mark.parametrize("old", list(RunPhase))
def test_the_transition_rules_allow_what_the_table_allows(old):
    """The rule of a phase is read back and compared with the table, phase by phase."""
    listed = [each for each in rules.transition_rules() if each["rule"].startswith(f"oldSelf != '{old}'")]
    if old in TERMINAL_PHASES:
        assert listed == []
        final = rules.transition_rules()[-1]["rule"]
        assert f"'{old}'" in final
        assert final.endswith("|| self == oldSelf")
        return
    [found] = listed
    named = found["rule"].rsplit("[", 1)[1].rstrip("]").replace("'", "").split(", ")
    for new in RunPhase:
        assert (new in named or new == old) == may_become(old, new)
    assert set(named) == set(RUN_TRANSITIONS[old])


def test_the_enums_of_the_schema_are_those_of_the_tables():
    schema = schema_of(FLOW_RUNS)
    assert find(schema, "status.phase")["enum"] == [phase.value for phase in RunPhase]
    rows = find(schema, "status.tasks")["additionalProperties"]["properties"]
    assert rows["state"]["enum"] == [state.value for state in TaskState]


@pytest.mark.parametrize("kind", sorted(rules.RULES))
def test_each_rule_says_something_to_do_in_plain_words(kind):
    for each in validations(kind).values():
        assert len(each["message"]) > 25
        assert len(each["message"]) < 250
        assert "\n" not in each["message"]


@pytest.mark.parametrize("kind", sorted(rules.RULES))
def test_the_name_of_each_kind_is_bounded(kind):
    assert ("", "size(self.metadata.name) <= 50") in validations(kind)


def test_a_rule_on_a_field_that_does_not_exist_is_noticed():
    with pytest.raises(KeyError):
        find(schema_of(FLOW_RUNS), "spec.deploymentReff")


def test_fixed_speaks_of_absence_too():
    assert fixed("a", "x")["rule"] == "has(self.a) == has(oldSelf.a) && (!has(self.a) || self.a == oldSelf.a)"
