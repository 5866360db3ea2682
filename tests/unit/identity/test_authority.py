import pytest
from cryptography import x509
from identity.worlds import NOW

from fedagg_edge.errors import IdentityError
from fedagg_edge.identity import authority, folder, keys
from fedagg_edge.identity.renewal import DAY, LIFETIME, LONGEST, SKEW
from fedagg_edge.records import Tier


def leaf(world, **words):
    signer = authority.load_signer(world.cloud)
    given = {"node": "d", "role": Tier.DEVICE, "public_key": signer.key.public_key(), "now": NOW}
    return authority.certify(signer, **given | words)


def test_a_leaf_is_short_lived_and_starts_a_little_earlier(world):
    made = leaf(world)
    assert made.not_valid_before_utc.timestamp() == int(NOW - SKEW)
    assert made.not_valid_after_utc.timestamp() == int(NOW + LIFETIME)
    assert made.serial_number != leaf(world).serial_number


def test_a_leaf_ends_with_its_issuer(world):
    end = authority.load_signer(world.cloud).certificate.not_valid_after_utc.timestamp()
    assert leaf(world, now=end - DAY).not_valid_after_utc.timestamp() == end
    with pytest.raises(IdentityError, match="make another"):
        leaf(world, now=end - 60)


@pytest.mark.parametrize(
    "words",
    [
        {"hosts": ["a"]}, {"role": Tier.EDGE}, {"lifetime": 0}, {"lifetime": LONGEST + 1},
        {"role": Tier.EDGE, "hosts": ["a"] * 33}, {"role": Tier.EDGE, "hosts": ["a b"]},
        {"role": Tier.EDGE, "hosts": [""]}, {"role": Tier.EDGE, "hosts": ["é"]},
        {"role": Tier.EDGE, "hosts": ["*.example"]},
    ],
)  # fmt: skip
def test_what_is_not_signed(world, words):
    with pytest.raises(IdentityError):
        leaf(world, **words)


def test_names_and_addresses_of_a_server(world):
    names = leaf(world, role=Tier.EDGE, hosts=["Edge.Example", "::1"]).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    ).value  # fmt: skip
    assert names.get_values_for_type(x509.DNSName) == ["edge.example"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["::1"]


def test_only_the_root_makes_issuers_and_only_for_servers(world):
    key = authority.load_signer(world.edge).key.public_key()
    for place, role in ((world.cloud, Tier.EDGE), (world.edge, Tier.EDGE), (world.root, Tier.DEVICE)):
        with pytest.raises(IdentityError):
            authority.certify_issuer(authority.load_signer(place), node="x", role=role, public_key=key, now=NOW)


def test_a_signer_shows_no_key_and_must_fit(world, tmp_path):
    assert "key" not in repr(authority.load_signer(world.edge))
    keys.make_key(world.edge / folder.ISSUER_KEY)
    with pytest.raises(IdentityError, match="is not the key of"):
        authority.load_signer(world.edge)
    with pytest.raises(IdentityError, match="no signing key"):
        authority.load_signer(tmp_path)
