"""A contract for the wire servers: every mutation is an event that says what went in and what came out."""

from __future__ import annotations

from tests.support.node_client import Transformer

SAYING_THAT_THEY_RAN = (
    "voidMut", "nullMut", "falseMut", "echoMut", "richMut", "failMut", "throwMut", "slowMut", "gatedMut", "cookies",
    "post.comment.add", "generatorMut", "failingGeneratorMut", "deferredMut", "failingDeferredMut",
    "formMut", "octetMut",
)  # fmt: skip

HEAD = """
[legacy]
base_path = "/trpc"
transformer = "{transformer}"
max_request = "5s"

[phase.wire]
entities = ["thing"]
procedures = [{procedures}]

[entity.thing]
key = "item.id"
fields = ["title", "count"]

[mutation."validMut"]
entity = "thing"
key = "output.id"
effect = "put"
event = "thing-made"
channel = "'thing:' + key"
data = "{{'id': key}}"
set = "{{'title': output.title, 'count': output.count}}"
"""

RULE = """
[mutation."{procedure}"]
event = "ran"
channel = "'wire:all'"
data = "{{'procedure': '{procedure}', 'input': input, 'output': output}}"
"""

TAPS = """
[tap."ticks"]
event = "ticked"
when = "'count' in input"
channel = "'wire:ticks'"
data = "{{'n': item.n}}"
"""


def wire_contract(transformer: Transformer) -> str:
    """Return the contract of a wire server that speaks `transformer`."""
    procedures = ", ".join(f'"{procedure}"' for procedure in (*SAYING_THAT_THEY_RAN, "ticks"))
    rules = (RULE.format(procedure=procedure) for procedure in SAYING_THAT_THEY_RAN)
    return HEAD.format(transformer=transformer, procedures=procedures) + "".join(rules) + TAPS.format()
