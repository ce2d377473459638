"""What a field's type cannot say: rules that the API server checks, each with a message that tells the fix.

The rules of a kind stand by the path of the schema that they belong to ("" is the whole object), in the terms of CEL:
`self` is the value there, `oldSelf` what it was before. The run's transitions come from the table in phases.py.
"""

from collections.abc import Iterable
from typing import Any, Final

from levada.resources.names import MAX_NAME_LENGTH
from levada.resources.phases import ACTIVE_PHASES, RUN_TRANSITIONS, TERMINAL_PHASES, RunPhase

Rule = dict[str, str]

DNS_LABEL: Final = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


def rule(expression: str, message: str, **more: str) -> Rule:
    """A rule with a message of fixed words."""
    return {"rule": expression, "message": message, **more}


def _cel_list(values: Iterable[str]) -> str:
    return "[" + ", ".join(f"'{value}'" for value in values) + "]"


def _in_table_order(phases: Iterable[RunPhase]) -> list[str]:
    wanted = frozenset(phases)
    return [phase.value for phase in RunPhase if phase in wanted]


def name_rules(kind: str) -> list[Rule]:
    """What an object of the kind may be called: Jobs, Pods and labels take their names from it."""
    return [
        rule(
            f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
            f"the name of a {kind} has at most {MAX_NAME_LENGTH} characters, because Jobs, Pods and labels are named after it: choose a shorter metadata.name",
            fieldPath=".metadata.name",
        ),
        rule(
            "!self.metadata.name.contains('.')",
            f"the name of a {kind} has no dots, because Pods are named after it: use lower-case letters, digits and '-' in metadata.name",
            fieldPath=".metadata.name",
        ),
    ]


def fixed(field: str, fix: str) -> Rule:
    """An optional field of `self` that keeps its value, or its absence."""
    return rule(
        f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        f"{field} cannot change: {fix}",
    )


def set_once(field: str, message: str) -> Rule:
    """An optional field of a run's status that keeps its value once the run has ended."""
    terminal = _cel_list(_in_table_order(TERMINAL_PHASES))
    return rule(
        f"!has(oldSelf.phase) || !(oldSelf.phase in {terminal}) || !has(oldSelf.{field}) "
        f"|| (has(self.{field}) && self.{field} == oldSelf.{field})",
        message,
    )


def exactly_one(fields: tuple[str, ...], message: str) -> Rule:
    """One of the optional fields of `self` is set, and only one."""
    present = ", ".join(f"has(self.{field})" for field in fields)
    return rule(f"[{present}].exists_one(given, given)", message)


def transition_rules() -> list[Rule]:
    """What a run's phase may become, from the table; a terminal phase stays.

    One rule for each phase, so that the message can list what would have been legal.
    """
    rules = []
    for phase in RunPhase:
        if phase not in ACTIVE_PHASES:
            continue
        allowed = _in_table_order(RUN_TRANSITIONS[phase])
        rules.append(
            rule(
                f"oldSelf != '{phase}' || self == '{phase}' || self in {_cel_list(allowed)}",
                f"a run in phase {phase} can only become one of: {', '.join(allowed)}",
                messageExpression=f"'a run in phase {phase} cannot become ' + self + ', only one of: {', '.join(allowed)}'",
            )
        )
    rules.append(
        rule(
            f"!(oldSelf in {_cel_list(_in_table_order(TERMINAL_PHASES))}) || self == oldSelf",
            "the run has ended, and a terminal phase is final: to run it again, create a new FlowRun with spec.retryOf",
            messageExpression="'the run has ended as ' + oldSelf + ' and cannot become ' + self + ': to run it again, create a new FlowRun with spec.retryOf'",
        )
    )
    return rules


NEW_BACKFILL: Final = "create another Backfill"
NEW_RUN: Final = "create a new FlowRun instead"
ENDED: Final = "the run has ended, and what it ended with is final"

DELAYS: Final = rule(
    "self.delaySeconds <= self.maxDelaySeconds",
    "delaySeconds is at most maxDelaySeconds: raise maxDelaySeconds too",
)

RULES: Final[dict[str, dict[str, list[Rule]]]] = {
    "Flow": {
        "": name_rules("Flow"),
        "spec": [
            rule(
                r"self.entrypoint.matches('^[^:]+[.]py:[A-Za-z_][A-Za-z0-9_]*$')",
                "entrypoint is a Python file and a function in it, as path.py:function, for example flow.py:main",
                fieldPath=".entrypoint",
            ),
            rule(
                "has(self.source.image) || has(self.source.s3) || has(self.source.git) || !self.entrypoint.matches('[^-._a-zA-Z0-9:]')",
                "inline code and a ConfigMap hold bare files: the entrypoint's file is a name of letters, digits, '-', '_' and '.', for example flow.py:main, in no folder",
                fieldPath=".entrypoint",
            ),
            rule(
                "!has(self.requirementsFile) || !has(self.source.inline)",
                "inline code is one file and has no requirementsFile beside it: list the packages in requirements",
                fieldPath=".requirementsFile",
            ),
        ],
        "spec.source": [
            exactly_one(
                ("inline", "configMap", "image", "s3", "git"),
                "a Flow has exactly one source: inline (the code itself), configMap (its keys are files), image (a path in it), s3 (a folder or an archive in a bucket) or git (a repository)",
            )
        ],
        "spec.source.s3": [
            rule(
                "!has(self.sha256) || (has(self.path) && self.path.matches('[.](zip|tar|tar[.]gz|tgz|tar[.]bz2|tar[.]xz)$'))",
                "sha256 is that of an archive: let path end in .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz",
                fieldPath=".sha256",
            )
        ],
        "spec.source.git": [
            rule(
                "[has(self.branch), has(self.tag), has(self.commit)].filter(given, given).size() <= 1",
                "a state of the repository is named by one of branch, tag and commit; by none it is the newest commit of its main branch",
            ),
            rule(
                "!self.url.matches('^https?://[^/]*@') && !self.url.matches('^ssh://[^/]*:[^/]*@')",
                "url is public: put user name and password into a Secret and name it in secretRef",
                fieldPath=".url",
            ),
            rule(
                "!has(self.path) || !self.path.matches('(^/|(^|/)[.][.](/|$))')",
                "path is a folder inside the repository, for example pipelines/etl",
                fieldPath=".path",
            ),
        ],
        "spec.requirements": [
            rule(
                "!self.exists(each, each.matches('://[^/]*@') && !each.matches('ssh://[^/:]*@'))",
                "requirements are public: give an index with a password by PIP_INDEX_URL in the Deployment's envFrom, never in a requirement",
            )
        ],
        "spec.requirementsFile": [
            rule("!self.matches('(^|/)[.][.](/|$)')", "requirementsFile is a path inside the source")
        ],
    },
    "Deployment": {
        "": name_rules("Deployment"),
        "spec.workQueue": [
            rule(
                f"self.matches('{DNS_LABEL}')",
                "workQueue is the name of a WorkQueue: lower-case letters, digits and '-', for example default",
            )
        ],
        "spec.storage": [
            rule(
                r"self.matches('^[a-z][a-z0-9+.-]*://[^ ]+$')",
                "storage is a URL, for example s3://bucket/prefix or file:///mnt/levada",
            ),
            rule(
                "!self.matches('://[^/]*:[^/]*@')",
                "storage is public: give a password by the environment or a role, never in the URL",
            ),
        ],
        "spec.retries": [DELAYS],
        "spec.infrastructureRetries": [DELAYS],
        "spec.notifications[]": [
            rule(
                f"self.name.matches('{DNS_LABEL}')",
                "the name of a notification has lower-case letters, digits and '-', for example team-slack",
                fieldPath=".name",
            )
        ],
        "spec.notifications[].to": [
            exactly_one(
                ("block", "slack", "webhook", "email"),
                "a notification goes to exactly one of block (a saved one), slack, webhook and email",
            )
        ],
        "spec.notifications[].to.slack": [
            exactly_one(
                ("url", "urlFrom"), "slack has exactly one of url and urlFrom (Secret and key that hold the URL)"
            )
        ],
        "spec.notifications[].to.webhook": [
            exactly_one(
                ("url", "urlFrom"), "a webhook has exactly one of url and urlFrom (Secret and key that hold the URL)"
            )
        ],
        "spec.failurePolicy.rules[]": [
            rule(
                "has(self.onExitCodes) || (has(self.onReasons) && size(self.onReasons) > 0)",
                "a rule of failurePolicy says what it is for: give onExitCodes, onReasons or both (then both must fit)",
            )
        ],
        "spec.infrastructure.env[]": [
            rule(
                "!has(self.value) || !has(self.valueFrom)",
                "an environment variable has a value or a valueFrom, not both",
            ),
            rule(
                "!self.name.contains('=')",
                "the name of an environment variable has no '=': give name and value as two fields",
                fieldPath=".name",
            ),
            rule(
                "!self.name.startsWith('LEVADA_')",
                "names that start with LEVADA_ are how the operator talks to the run: choose another name",
                fieldPath=".name",
            ),
        ],
        "spec.infrastructure.envFrom[]": [
            exactly_one(
                ("configMapRef", "secretRef"), "an entry of envFrom names exactly one of configMapRef and secretRef"
            )
        ],
    },
    "Schedule": {
        "": name_rules("Schedule"),
        "spec": [
            exactly_one(
                ("cron", "intervalSeconds", "rrule"),
                "a Schedule has exactly one of cron, intervalSeconds and rrule: keep one and remove the others",
            ),
            rule(
                "!has(self.anchor) || has(self.intervalSeconds)",
                "anchor goes with intervalSeconds: remove it, or use intervalSeconds",
            ),
            rule(
                "!has(self.startTime) || !has(self.endTime) || self.startTime < self.endTime",
                "startTime is before endTime: with this pair the schedule would never run",
            ),
        ],
    },
    "FlowRun": {
        "": [
            *name_rules("FlowRun"),
            rule(
                "!has(oldSelf.status) || !has(oldSelf.status.phase) || (has(self.status) && has(self.status.phase))",
                "a run keeps its phase: change it, never remove it",
            ),
        ],
        "spec": [
            # Parameters can be compared only as part of the whole: see RunParameters. So they could change in the one
            # request that cancels, where they no longer matter, or suspends: the operator compares their digest then.
            rule(
                "self.cancel != oldSelf.cancel || self.suspend != oldSelf.suspend || self == oldSelf",
                f"a FlowRun is an order: of its spec only cancel and suspend can change. For other parameters, {NEW_RUN}",
            ),
            rule(
                "!self.fromScratch || has(self.retryOf)",
                "fromScratch goes with retryOf: a run that repeats none starts from scratch anyway",
                fieldPath=".fromScratch",
            ),
            rule(
                "self.fromScratch == oldSelf.fromScratch",
                f"fromScratch cannot change: {NEW_RUN}",
                fieldPath=".fromScratch",
            ),
            fixed("priority", NEW_RUN),
            fixed("overrides", NEW_RUN),
            fixed("scheduledTime", NEW_RUN),
            fixed("delaySeconds", NEW_RUN),
            fixed("prestartSeconds", NEW_RUN),
            fixed("retryOf", NEW_RUN),
        ],
        "spec.overrides.retries": [DELAYS],
        "spec.overrides.env[]": [
            rule(
                "!self.name.startsWith('LEVADA_')",
                "variables that begin with LEVADA_ are Levada's own: no run can override them",
                fieldPath=".name",
            )
        ],
        "spec.deploymentRef": [rule("self == oldSelf", f"deploymentRef cannot change: {NEW_RUN}")],
        "spec.cancel": [
            rule(
                "self || !oldSelf", "cancel cannot be taken back: to run again, create a new FlowRun with spec.retryOf"
            )
        ],
        "status": [
            set_once("reason", f"{ENDED}: its reason cannot change"),
            set_once("completionTime", f"{ENDED}: its completionTime cannot change"),
        ],
        "status.phase": transition_rules(),
        "status.attempt": [
            rule("self >= oldSelf", "attempt never goes down: an older attempt has nothing more to say about the run")
        ],
    },
    "WorkQueue": {
        "": name_rules("WorkQueue"),
        "spec": [
            rule(
                "!has(self.workloadPriorityClass) || has(self.localQueue)",
                "workloadPriorityClass is for Kueue: name a localQueue too, or remove it",
            )
        ],
    },
    "ConcurrencyLimit": {"": name_rules("ConcurrencyLimit")},
    "Backfill": {
        "": name_rules("Backfill"),
        "spec": [
            exactly_one(
                ("scheduleRef", "cron", "intervalSeconds", "rrule"),
                "a Backfill has exactly one of scheduleRef, cron, intervalSeconds and rrule: keep one and remove the others",
            ),
            rule(
                "!has(self.anchor) || has(self.intervalSeconds)",
                "anchor goes with intervalSeconds: remove it, or use intervalSeconds",
            ),
            rule(
                "self.startTime <= self.endTime",
                "startTime is not after endTime: exchange them",
            ),
            *(fixed(field, NEW_BACKFILL) for field in ("scheduleRef", "cron", "intervalSeconds", "rrule", "anchor")),
            rule(
                "self.deploymentRef == oldSelf.deploymentRef && self.timeZone == oldSelf.timeZone && self.startTime == oldSelf.startTime"
                " && self.endTime == oldSelf.endTime && self.reverse == oldSelf.reverse && self.reprocess == oldSelf.reprocess",
                f"of a Backfill only paused, cancel, dryRun, maxActive and parameters can change: {NEW_BACKFILL}",
            ),
        ],
        "spec.cancel": [rule("self || !oldSelf", f"cancel cannot be taken back: {NEW_BACKFILL}")],
        "spec.dryRun": [
            rule("!self || oldSelf", f"a backfill that has started cannot become a dry run: {NEW_BACKFILL}")
        ],
        "status.phase": [
            rule(
                "!(oldSelf in ['Completed', 'Failed', 'Cancelled']) || self == oldSelf",
                f"the backfill has ended, and how it ended is final: {NEW_BACKFILL}",
            )
        ],
    },
    "Block": {"": name_rules("Block")},
}


def apply_rules(kind: str, schema: dict[str, Any]) -> None:
    """Put the kind's rules into its schema.

    Raises:
        KeyError: a rule's path does not exist in the schema.
    """
    for path, rules in RULES[kind].items():
        find(schema, path)["x-kubernetes-validations"] = [dict(each) for each in rules]


def find(schema: dict[str, Any], path: str) -> dict[str, Any]:
    """The part of a structural schema that a path such as `spec.env[]` names."""
    for step in path.split(".") if path else ():
        schema = schema["properties"][step.removesuffix("[]")]
        if step.endswith("[]"):
            schema = schema["items"]
    return schema
