import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.errors import IdentityError, PermissionDenied
from fedagg_edge.identity.facts import IssuerKind, facts_of, federation_name, may_issue, uri_of
from fedagg_edge.records import Tier

ORG, OU, CN, S = "organizationName", "organizationalUnitName", "commonName", "serialNumber"


def read(role="device", kind="edge-issuer", node="d", above="fed", **words):
    given = {
        "subject": [(ORG, "fed"), (OU, role), (CN, node)],
        "issuer": [(ORG, above), (OU, kind), (CN, "e"), (S, "1f")],
        "uris": [f"fedagg://fed/{role}/{node}"],
        "serial": "ab",
        "not_before": 1.0,
        "not_after": 2.0,
    }
    return facts_of(**given | words)


def test_a_certificate_is_read():
    found = read()
    assert (found.node, found.role, found.federation, found.serial) == ("d", Tier.DEVICE, "fed", "ab")
    assert (found.issuer.kind, found.issuer.node, found.issuer.serial) == (IssuerKind.EDGE, "e", "1f")


@pytest.mark.parametrize("kind", list(IssuerKind))
@pytest.mark.parametrize("role", list(Tier))
def test_an_edge_signs_for_devices_only(kind, role):
    assert may_issue(kind, role) == (kind is not IssuerKind.EDGE or role is Tier.DEVICE)
    if may_issue(kind, role):
        assert read(role=role.value, kind=kind.value).role is role
    else:
        with pytest.raises(PermissionDenied, match="which may only sign device"):
            read(role=role.value, kind=kind.value)


@pytest.mark.parametrize(
    "words",
    [
        {"role": "king"}, {"role": "Device"}, {"kind": "device"}, {"node": "A b"}, {"above": "other"}, {"uris": []},
        {"uris": ["fedagg://fed/device/x"]}, {"uris": ["fedagg://fed/device/d"] * 2}, {"serial": "AB"}, {"serial": ""},
        {"subject": [(ORG, "fed"), (CN, "d"), (OU, "device")]}, {"issuer": [(ORG, "fed"), (OU, "root"), (CN, "fed")]},
    ],
)  # fmt: skip
def test_anything_else_is_refused(words):
    with pytest.raises(PermissionDenied):
        read(**words)


@given(st.text(max_size=80), st.sampled_from([ORG, OU, CN]))
def test_no_text_in_a_subject_does_more_than_be_refused(text, where):
    subject = [(name, text if name == where else value) for name, value in [(ORG, "fed"), (OU, "device"), (CN, "d")]]
    try:
        found = read(subject=subject)
    except PermissionDenied:
        return
    assert uri_of(found.federation, found.role, found.node) == "fedagg://fed/device/d"


def test_federation_names_are_spelt_as_node_ids():
    assert federation_name("a.b-c_1") == "a.b-c_1"
    for wrong in ("", "A", "a/b", "a" * 65, "é"):
        with pytest.raises(IdentityError):
            federation_name(wrong)
