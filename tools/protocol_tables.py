"""The messages' tables of docs/protocol.md, from the structs that the code decodes with.

python tools/protocol_tables.py            print them
python tools/protocol_tables.py --write    put them into the page
"""

from __future__ import annotations

import sys
import typing
from pathlib import Path

import msgspec

from fedagg_edge.wire import limits, messages

PAGE = Path(__file__).parents[1] / "docs" / "protocol.md"
BEGIN, END = "<!-- messages -->\n", "<!-- /messages -->\n"
ORDER = tuple(
    """Hello Welcome Artefact Offered Append Appended Behind Entry Payload Exchange Exchanged WireKnowledge Notice
    Missing Enrol Enrolled Renew MoveTo Adopt Adopted Leave Left Problem""".split()  # noqa: SIM905 - or a line a name
)


def named(kind: object) -> str:
    """A type as the page says it."""
    info = msgspec.inspect
    match kind:
        case info.IntType(ge=low, le=high):
            text = f"int {low}..{high}" if high is not None else "int"
        case info.FloatType():
            text = "float"
        case info.BoolType():
            text = "bool"
        case info.StrType(max_length=most):
            text = "str" if most is None else f"str <= {most}"
        case info.BytesType(min_length=least, max_length=most):
            text = f"bytes {most}" if least == most else f"bytes <= {most}"
        case info.VarTupleType(item_type=item, max_length=most):
            text = f"array <= {most} of {named(item)}"
        case info.StructType(cls=cls):
            text = cls.__name__
        case info.NoneType():
            text = "nil"
        case info.UnionType(types=types):
            text = " or ".join(named(t) for t in types)
        case _:
            raise TypeError(kind)
    return text


def table(cls: type[msgspec.Struct]) -> str:
    """One message: position, name, type of each field."""
    info = typing.cast(msgspec.inspect.StructType, msgspec.inspect.type_info(cls))
    rows = [f"| {i} | `{f.name}` | {named(f.type)} |" for i, f in enumerate(info.fields)]
    says = (cls.__doc__ or "").splitlines()[0]
    return "\n".join([f"**{cls.__name__}** - {says}\n", "| # | field | type |", "|---|---|---|", *rows])


def tables() -> str:
    """All of them."""
    kinds = [getattr(messages, name) for name in ORDER]
    return "\n\n".join(table(kind) for kind in [*kinds, limits.Limits]) + "\n"


def page(text: str) -> str:
    """The page with its tables made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{tables()}{END}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(tables())
