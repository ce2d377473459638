"""`levada blocks set`: make a block, or change fields of one. What it says of secrets is where they are, never what they are.

A secret comes by reference to a Secret of the cluster, typed at a prompt that does not show it, or on standard input: what stands on a
command line stays in the shell's history and is seen by every user of the machine.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from levada.cli.connection import run
from levada.cli.options import Target, in_namespace
from levada.cli.output import error, note, usage_error, warn
from levada.resources.kinds import BLOCKS, SECRETS
from levada.resources.names import API_VERSION, FIELD_MANAGER_CLI, LABEL_MANAGED_BY, MANAGED_BY

if TYPE_CHECKING:
    from levada._fields import Field
    from levada.kube import Client

# As blocks.py has names, so that a block can move between files and clusters.
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?")
_KEY: Final = re.compile(r"[-._A-Za-z0-9]{1,253}")
# In a block of somebody's own type nobody can tell which fields are secrets: names like these are taken for it.
_SOUNDS_SECRET: Final = re.compile(
    r"passw(or)?d|passphrase|secret|token|api_?key|private_?key|credential|authorization|cookie", re.IGNORECASE
)


TRIES: Final = 5


class Place(NamedTuple):
    """Where a secret is."""

    secret: str
    key: str


class Change(NamedTuple):
    """What becomes of a block's fields. `asked`: secrets whose text is still to be read."""

    values: dict[str, Any]
    places: dict[str, Place]
    asked: list[str]
    unset: list[str]


@in_namespace
def set_block(
    address: Annotated[str, typer.Argument(metavar="TYPE/NAME", help="The block; NAME alone for one that is there.")],
    values: Annotated[
        list[str] | None, typer.Argument(metavar="FIELD=VALUE...", help="Plain fields; a value is read as YAML.")
    ] = None,
    *,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            "-s",
            metavar="FIELD[=SECRET/KEY]",
            help="A secret field: the Secret and key that hold it; without them its text is asked for, or read from standard input. Repeatable.",
        ),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="FIELD", help="A field to leave out. Repeatable.")
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(
            "--into", metavar="SECRET", help="Secret that is made for texts asked for.", show_default="the block's name"
        ),
    ] = None,
    target: Target,
) -> None:
    """Make a block, or change fields of one; the others stay. Secrets are kept in a Secret, and the block names it.

    Fields of Levada's own types are checked. Those of your own types are not: what sounds like a secret is taken for one.
    """
    block_type, slash, name = address.rpartition("/")
    for text in (name, block_type) if slash else (name,):
        if not _NAME.fullmatch(text):
            raise usage_error(
                f"{text!r} in {address!r} is no name", "up to 50 small letters, digits and '-': slack-webhook/alerts"
            )
    typed = read_fields(values or [], secret or [], unset or [])

    async def work(client: "Client", here: str) -> None:
        await _set(client, here, (block_type, name), typed, into or name)

    run(work, target)


def read_fields(values: Sequence[str], secrets: Sequence[str], unset: Sequence[str]) -> Change:
    """What was typed; plain values are still texts.

    Raises:
        typer.Exit: it cannot be read, or a field is named twice.
    """
    plain: dict[str, Any] = {}
    places: dict[str, Place] = {}
    asked: list[str] = []
    named = [each.partition("=")[0] for each in (*values, *secrets)] + list(unset)
    for field in named:
        if named.count(field) > 1:
            raise usage_error(f"field {field!r} is given twice")
    for each in values:
        field, equals, text = each.partition("=")
        if not field or not equals:
            raise usage_error(f"{each!r} is not FIELD=VALUE", "for a secret: --secret FIELD, which asks for its text")
        plain[field] = text
    for each in secrets:
        field, equals, text = each.partition("=")
        holder, slash, key = text.partition("/")
        if not _KEY.fullmatch(field):
            raise usage_error(f"--secret {each!r}: {field!r} is no name of a field")
        if not equals:
            asked.append(field)
        elif slash and _KEY.fullmatch(holder) and _KEY.fullmatch(key):
            places[field] = Place(holder, key)
        else:  # perhaps the secret itself: it is not said again
            raise usage_error(
                f"--secret {field}=… is no SECRET/KEY", f"--secret {field} asks for the text, or takes it from a pipe"
            )
    if not (named or unset):
        raise usage_error("nothing is to be set", "FIELD=VALUE, --secret FIELD or --unset FIELD")
    return Change(plain, places, asked, list(unset))


async def _set(client: "Client", namespace: str, address: tuple[str, str], typed: Change, secret: str) -> None:
    block_type, name = address
    found = await _block(client, name, namespace)
    spec: dict[str, Any] = found["spec"] if found else {}
    block_type = wanted_type(name, block_type, spec)
    change = checked(typed, block_type, spec)
    if found is None:
        _warn_of_a_type_of_your_own(block_type)
    if texts := _texts(change.asked):
        await _keep(client, namespace, secret, texts)
        change.places.update({field: Place(secret, field) for field in texts})
    await _write(client, namespace, (block_type, name), change, found)
    _announce(f"{block_type}/{name}", change, made=not found)


async def _block(client: "Client", name: str, namespace: str) -> dict[str, Any] | None:
    from levada.kube import NotFound

    try:
        return await client.get(BLOCKS, name, namespace)
    except NotFound:
        return None


async def _write(
    client: "Client", namespace: str, address: tuple[str, str], change: Change, found: dict[str, Any] | None
) -> None:
    """Write the block as it was seen, with the change; seen anew where somebody else was quicker."""
    from levada.kube import Conflict

    block_type, name = address
    metadata = {"name": name, "namespace": namespace}
    for left in reversed(range(TRIES)):
        body = found or {
            "apiVersion": API_VERSION,
            "kind": BLOCKS.kind,
            "metadata": metadata,
            "spec": {"type": block_type},
        }
        body["spec"] = spec_after(body["spec"], change)
        try:
            await (client.replace(BLOCKS, body, namespace) if found else client.create(BLOCKS, body, namespace))
        except Conflict:
            if not left:
                raise
            found = await _block(client, name, namespace)
        else:
            return


def wanted_type(name: str, block_type: str, spec: Mapping[str, Any]) -> str:
    """The type of the block.

    Raises:
        typer.Exit: it is new and nobody has said, or it is another one.
    """
    there = str(spec.get("type") or "")
    if not (there or block_type):
        raise usage_error(
            f"there is no block {name!r}, and a new one needs its type", f"`levada blocks set TYPE/{name} FIELD=VALUE`"
        )
    if there and block_type and there != block_type:
        raise error(
            f"block {name!r} is of type {there}, not {block_type}",
            f"name the other one {block_type}-{name}; or `levada blocks rm {name}` first",
        )
    return there or block_type


def checked(typed: Change, block_type: str, spec: Mapping[str, Any]) -> Change:
    """The change with its values as the type wants them.

    Raises:
        typer.Exit: a field is unknown, missing or a secret, or a value does not fit.
    """
    fields = _fields_of(block_type)
    if fields is None:
        plain_secrets = [field for field in typed.values if _SOUNDS_SECRET.search(field)]
    else:
        _refuse_unknown(typed, block_type, fields)
        plain_secrets = [field for field in typed.values if is_secret(fields[field].annotation)]
    if plain_secrets:
        field = plain_secrets[0]
        raise usage_error(
            f"{field} {'is' if fields else 'sounds like'} a secret: here everybody could read it, and the shell remembers it",
            f"--secret {field} asks for it; --secret {field}=SECRET/KEY names a Secret that has it"
            + ("" if fields else "; what is none in spite of its name: `kubectl edit block`"),
        )
    values = {field: _value(field, text, fields) for field, text in typed.values.items()}
    for field, value in values.items():
        _refuse_secrets_inside(field, value)
    change = typed._replace(values=values)
    _refuse_missing(change, block_type, fields or {}, spec)
    return change


def _fields_of(block_type: str) -> "Mapping[str, Field] | None":
    """The fields of one of Levada's own types; None of another."""
    from levada.blocks import fields_of, known_types

    found = known_types().get(block_type)
    return fields_of(found) if found else None


def _warn_of_a_type_of_your_own(block_type: str) -> None:
    """A type that is nearly one of ours may have been meant for it."""
    import difflib

    from levada.blocks import known_types

    known = known_types()
    if block_type not in known:
        close = difflib.get_close_matches(block_type, known, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        warn(
            f"{block_type} is none of Levada's own types: {meant}its fields are not checked; `levada blocks types` lists ours"
        )


def is_secret(annotation: Any) -> bool:
    """Whether a field of a block is shown to nobody."""
    from typing import get_args

    from levada.secrets import SecretStr

    return annotation is SecretStr or SecretStr in get_args(annotation)


def _refuse_secrets_inside(field: str, value: Any) -> None:
    """A map may hold a secret beside plain values, as headers do."""
    for key in value if isinstance(value, dict) else ():
        if _SOUNDS_SECRET.search(str(key)):
            raise usage_error(
                f"{field}.{key} sounds like a secret: here everybody could read it",
                f"--secret {field}.{key}, and {field} without it",
            )


def _refuse_unknown(typed: Change, block_type: str, fields: "Mapping[str, Field]") -> None:
    import difflib

    roots = [field.partition(".")[0] for field in (*typed.places, *typed.asked)]  # headers.Authorization
    for field in (*typed.values, *typed.unset, *roots):
        if field not in fields:
            close = difflib.get_close_matches(field, fields, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(fields)}"
            raise usage_error(f"{block_type} has no field {field!r}", hint)


def _refuse_missing(change: Change, block_type: str, fields: "Mapping[str, Field]", spec: Mapping[str, Any]) -> None:
    there = {*(spec.get("values") or {}), *(spec.get("secretRefs") or {})} - set(change.unset)
    there |= {*change.values, *change.places, *change.asked}
    missing = [name for name, field in fields.items() if field.required and name not in there]
    if missing:
        secret = [f"--secret {name}" for name in missing if is_secret(fields[name].annotation)]
        raise usage_error(f"{block_type} needs {' and '.join(missing)}", " ".join(secret) or f"{missing[0]}=VALUE")


def _value(field: str, text: str, fields: "Mapping[str, Field] | None") -> Any:
    from levada._fields import Misfit, fit
    from levada.cli.parameters import ParameterSyntaxError, fitting_value

    def takes(name: str, value: Any) -> bool | None:
        if fields is None:
            return None
        try:
            fit(fields[name].annotation, value)
        except Misfit:
            return False
        return True

    try:
        value = fitting_value(field, text, takes)
        if fields is not None:
            fit(fields[field].annotation, value)
    except ParameterSyntaxError:
        raise usage_error(f"{field}={text} cannot be read as YAML", "put the value in quotes of YAML's") from None
    except Misfit as misfit:
        raise usage_error(f"{field} {misfit}") from None
    return value


def _texts(asked: Sequence[str]) -> dict[str, str]:
    """The texts of secrets: typed without an echo, or all of standard input."""
    if not sys.stdin.isatty() and len(asked) > 1:
        raise usage_error(f"standard input is one secret, not {len(asked)}", "set them one after the other")
    found = {}
    for field in asked:
        if sys.stdin.isatty():
            import getpass

            text = getpass.getpass(f"{field}: ")
        else:
            text = sys.stdin.read().removesuffix("\n")
        if not text:
            raise usage_error(f"there is no text for {field}", "type it, or give it on standard input")
        found[field] = text
    return found


async def _keep(client: "Client", namespace: str, secret: str, texts: Mapping[str, str]) -> None:
    """Write texts into a Secret of ours, which is made if there is none. Nothing of it is read."""
    from levada.kube import AlreadyExists

    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret, "namespace": namespace, "labels": {LABEL_MANAGED_BY: MANAGED_BY}},
        "stringData": dict(texts),
    }
    try:
        await client.create(SECRETS, body, namespace)
    except AlreadyExists:
        rows = [each async for each in client.rows(SECRETS, namespace, field_selector=f"metadata.name={secret}")]
        if not any((each.metadata.get("labels") or {}).get(LABEL_MANAGED_BY) == MANAGED_BY for each in rows):
            first = next(iter(texts))
            raise error(
                f"Secret {secret} is there already, and not made by `levada blocks set`: it stays as it is",
                f"--into OTHER makes another one; --secret {first}={secret}/KEY uses what this one has",
            ) from None
        await client.patch(SECRETS, secret, {"stringData": dict(texts)}, namespace, field_manager=FIELD_MANAGER_CLI)


def spec_after(spec: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The Block's spec with the change. A field is plain or a secret, never both."""
    touched = {*change.values, *change.places, *change.unset}

    def kept(part: str) -> dict[str, Any]:
        return {field: value for field, value in (spec.get(part) or {}).items() if field not in touched}

    places = {field: {"name": place.secret, "key": place.key} for field, place in change.places.items()}
    parts = {"values": kept("values") | change.values, "secretRefs": kept("secretRefs") | places}
    return {"type": spec["type"], **{part: found for part, found in parts.items() if found}}


def _announce(address: str, change: Change, *, made: bool) -> None:
    typer.echo(f"block {address} is {'made' if made else 'changed'}")
    for field, place in sorted(change.places.items()):
        typer.echo(f"{field} is key {place.key} of Secret {place.secret}")
    if made and change.places:
        from levada.runner.blocks import deployment_lines

        secrets = sorted({place.secret for place in change.places.values()})
        note("Deployments whose flows load it give their runs the Secret:\n")
        note("\n\n".join(deployment_lines(each) for each in secrets))
