"""The two ends of a link without a wire: what the protocol would carry, carried by hand."""

from fedagg_edge.ledger._payload import OWN, dump_embeddings, load_embeddings
from fedagg_edge.ledger.log import Kind


def rows(embeddings):
    return dump_embeddings(embeddings)


def commit(parent, child, embeddings, key=None, by="child"):
    return parent.append(child, Kind.APPEND, rows(embeddings), key=key, by=by)


def meet(child, parent):
    """Send what waits, then learn what the parent has written: both ends agree afterwards."""
    for batch in child.pending(inline=1 << 30):
        missed = parent.entries(child.node, child.acknowledged().entry, inline=1 << 30)
        child.follow(missed)
        done = parent.append(child.node, batch.kind, batch.payload, key=batch.key, by="child")
        child.set_acknowledged(batch.key, done.entry, done.digest)
    child.follow(parent.entries(child.node, child.acknowledged().entry, inline=1 << 30))
    assert child.acknowledged() == parent.head(child.node)


def content(embeddings):
    """{(origin, counter): (code, label)}"""
    ids = [
        (o, int(c)) for o, cs in zip(embeddings.samples.origins, embeddings.samples.counters, strict=True) for c in cs
    ]
    return {i: (bytes(c), int(y)) for i, c, y in zip(ids, embeddings.code_NB, embeddings.label_N, strict=True)}


def loaded(payload):
    return load_embeddings(payload, OWN)
