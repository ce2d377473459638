"""The tables in docs/sdk/coming-from-prefect.md, made from levada/prefect.py. `python tests/support/prefect_guide.py` renews them."""

from pathlib import Path

from levada import prefect

GUIDE = Path(__file__).parents[2] / "docs" / "sdk" / "coming-from-prefect.md"


def homes():
    """Module by module: the names, and where they live."""
    for module, ours in prefect.HOMES.items():
        for home, names in ours.items():
            entries = (entry.partition("=") for entry in sorted(names.split(), key=str.lower))
            listed = ", ".join(f"`{old}` (here `{new}`)" if new else f"`{old}`" for old, _, new in entries)
            yield f"| `{module}` | {listed} | `{home}` |"


TABLES = {
    "homes": ("| Prefect | names | Levada |", homes),
    "twins": (
        "| Prefect | has the names of |",
        lambda: (f"| `{module}` | `{like}` |" for module, like in prefect.TWINS.items()),
    ),
    "absent": (
        "| Prefect | what to use instead |",
        lambda: (f"| `{name}` | {advice} |" for name, advice in prefect.ABSENT.items()),
    ),
}


def with_tables(text):
    """The page with the tables between its markers renewed."""
    for name, (head, rows) in TABLES.items():
        before, begin, rest = text.partition(f"<!-- {name}: made by tests/support/prefect_guide.py -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        assert begin and end, f"{GUIDE.name} has no place for the table {name!r}"
        rule = "|" + "---|" * (head.count("|") - 1)
        text = before + begin + "\n".join([head, rule, *rows()]) + "\n" + end + after
    return text


if __name__ == "__main__":
    GUIDE.write_text(with_tables(GUIDE.read_text()))
