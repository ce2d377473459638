"""A Flow is judged, and each version of its inline code kept as long as a run needs it."""

import pytest

from levada.decide.flow import FlowFacts, Revision, decide_flow, revision_name, split_entrypoint
from support.facts import T0, a_flow, s

CODE = "def main(a): ..."


def flow(**fields):
    return a_flow(**{"inline": CODE, "status": {}, **fields})


def decide(view, **fields):
    return decide_flow(FlowFacts(T0, view, **fields))


def condition(plan):
    return plan.status["conditions"][0]


def test_inline_code_goes_into_an_immutable_config_map_before_the_status_names_it():
    plan = decide(flow())
    manifest = plan.create_config_map
    assert manifest["immutable"] is True
    assert manifest["data"] == {"flow.py": CODE}
    assert manifest["metadata"]["ownerReferences"][0]["uid"] == "f-uid"
    assert plan.status["codeConfigMap"] == manifest["metadata"]["name"]
    assert (condition(plan)["status"], plan.status["observedGeneration"]) == ("True", 1)
    assert plan.code.signature.names == ("a",)


def test_nothing_is_done_twice():
    first = decide(flow())
    name = first.create_config_map["metadata"]["name"]
    again = decide(flow(status=first.status), revisions=(Revision(name, T0, "f-uid"),))
    assert (again.create_config_map, again.status, again.events, again.delete_config_maps) == (None, None, (), ())


def test_other_code_has_another_name_and_so_has_a_flow_made_anew():
    names = {revision_name(flow()), revision_name(flow(inline=CODE + "\n")), revision_name(flow(uid="other")),
             revision_name(flow(entrypoint="other.py:main"))}  # fmt: skip
    assert len(names) == 4
    assert all(name.startswith("f-code-") and len(name) == len("f-code-") + 8 for name in names)


@pytest.mark.parametrize(
    ("case", "view", "fields", "reason", "words"),
    [
        ("syntax error", flow(inline="def main(:"), {}, "InvalidCode", "line 1"),
        ("no such function", flow(inline="x = 1"), {}, "EntrypointNotFound", "'main'"),
        ("no function in the entrypoint", flow(entrypoint="flow.py"), {}, "InvalidEntrypoint", "path.py:function"),
        ("no file in the entrypoint", flow(entrypoint=":main"), {}, "InvalidEntrypoint", "flow.py:main"),
        ("function is no name", flow(entrypoint="flow.py:a-b"), {}, "InvalidEntrypoint", "a-b"),
        ("out of the folder", flow(entrypoint="../flow.py:main"), {}, "InvalidEntrypoint", ".."),
        ("no config map", flow(inline=None, config_map="c"), {}, "ConfigMapNotFound", "'c'"),
        (
            "no key",
            flow(inline=None, config_map="c"),
            {"files": {"b.py": "", "a.py": ""}},
            "CodeNotFound",
            "a.py, b.py",
        ),
        (
            "bad code in it",
            flow(inline=None, config_map="c"),
            {"files": {"flow.py": "def"}},
            "InvalidCode",
            "flow.py, line 1",
        ),
    ],
)
def test_what_is_wrong_is_said_once_with_an_event(case, view, fields, reason, words):
    plan = decide(view, **fields)
    assert (condition(plan)["status"], condition(plan)["reason"]) == ("False", reason)
    assert words in condition(plan)["message"]
    assert [event.reason for event in plan.events] == [reason]
    assert plan.create_config_map is None
    assert plan.status["codeConfigMap"] is None
    import dataclasses

    again = decide(dataclasses.replace(view, status=plan.status), **fields)
    assert (again.status, again.events) == (None, ())


def test_a_config_map_of_the_user_is_looked_at_again():
    good = decide(flow(inline=None, config_map="c"), files={"flow.py": CODE})
    assert (good.status["codeConfigMap"], good.requeue_after_s) == ("c", 300.0)
    assert decide(flow(inline=None, config_map="c")).requeue_after_s == 15.0


def test_code_in_an_image_cannot_be_judged_and_is_not():
    plan = decide(flow(inline=None, image_path="/opt"))
    assert (condition(plan)["status"], condition(plan)["reason"]) == ("True", "CodeInImage")


def test_versions_stay_while_a_run_needs_them_and_the_newest_five():
    old = tuple(Revision(f"f-code-{n}", T0 + s(n), "f-uid") for n in range(8))
    foreign = Revision("f-code-x", T0 - s(9), "another-flow")
    plan = decide(flow(), revisions=(*old, foreign), pinned=frozenset({"f-code-1"}))
    assert plan.delete_config_maps == ("f-code-3", "f-code-2", "f-code-0")


def test_a_flow_on_its_way_out_is_left_alone():
    plan = decide(flow(deleting=True))
    assert (plan.create_config_map, plan.status) == (None, None)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("flow.py:main", ("flow.py", "main")),
        ("a/b.py:f", ("a/b.py", "f")),
        (".py:f", ("", "")),
        ("flow.txt:f", ("", "")),
        ("", ("", "")),
    ],
)
def test_split_entrypoint(text, parts):
    assert split_entrypoint(text) == parts
