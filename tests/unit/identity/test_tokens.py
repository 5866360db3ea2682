import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identity.worlds import mode

from fedagg_edge.errors import IdentityError
from fedagg_edge.identity import folder, tokens
from fedagg_edge.records import Tier


def kept(place, expires=100.0):
    token = tokens.make(b"\1" * 32)
    grant = tokens.Grant(digest=tokens.digest(token).hex(), id=token.id, node="d", role=Tier.DEVICE, expires=expires)
    tokens.put_grant(place, grant)
    return token, grant


@given(st.binary(min_size=32, max_size=32))
def test_a_token_is_read_back(authority):
    token = tokens.make(authority)
    assert len(token.text) == tokens.LENGTH
    assert tokens.parse(f" {token.text}\n") == token
    assert token.authority == authority
    assert tokens.digest(token.text) == tokens.digest(token)


def test_two_tokens_differ_and_show_no_secret():
    one, two = tokens.make(b"\1" * 32), tokens.make(b"\1" * 32)
    assert one.text.split(".")[2] != two.text.split(".")[2]
    assert one.text.split(".")[2] not in repr(one)
    with pytest.raises(IdentityError, match="32"):
        tokens.make(b"short")


def test_a_tampered_token_is_refused_or_another(tmp_path):
    token, _ = kept(tmp_path)
    for i in range(len(token.text)):
        changed = token.text[:i] + ("A" if token.text[i] != "A" else "B") + token.text[i + 1 :]
        with pytest.raises(IdentityError):
            tokens.find_grant(tmp_path, tokens.parse(changed).text, 1.0)


@given(st.text(max_size=200))
def test_no_other_text_is_a_token_and_none_is_repeated(text):
    with pytest.raises(IdentityError) as error:
        tokens.parse(text)
    if len(text) > 30:
        assert text not in str(error.value)


def test_at_rest_there_is_a_digest(tmp_path):
    token, grant = kept(tmp_path)
    (path,) = (tmp_path / folder.TOKENS).iterdir()
    assert mode(path) == 0o600
    assert token.text.split(".")[2].encode() not in path.read_bytes()
    assert hashlib.sha256(b"fedagg/token/1\n" + token.text.encode()).hexdigest() == grant.digest == path.stem


def test_a_grant_expires(tmp_path):
    token, grant = kept(tmp_path)
    assert tokens.find_grant(tmp_path, token.text, 99.9) == grant
    with pytest.raises(IdentityError, match="not known here, or expired"):
        tokens.find_grant(tmp_path, token.text, 100.0)
    with pytest.raises(IdentityError, match="not known here, or expired"):
        tokens.find_grant(tmp_path, "../../x\ud800", 1.0)


def test_expired_grants_are_removed(tmp_path):
    kept(tmp_path, 10.0)
    token, _ = kept(tmp_path, 100.0)
    (tmp_path / folder.TOKENS / "odd.json").write_text("{")
    (tmp_path / folder.TOKENS / "bits.json").write_bytes(b'{"digest": "\xff"}')
    assert tokens.remove_expired(tmp_path, 50.0) == 1
    assert tokens.find_grant(tmp_path, token.text, 50.0)
    assert tokens.remove_expired(tmp_path / "nowhere", 50.0) == 0


def test_a_damaged_grant_is_named(tmp_path):
    token, grant = kept(tmp_path)
    for content in (b"{}", b'{"digest": "\xff"}'):
        (tmp_path / folder.TOKENS / f"{grant.digest}.json").write_bytes(content)
        with pytest.raises(IdentityError, match="damaged"):
            tokens.find_grant(tmp_path, token.text, 1.0)
