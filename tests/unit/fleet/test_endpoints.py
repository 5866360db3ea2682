import pytest

from fedagg_edge.errors import ConfigError
from fedagg_edge.fleet.endpoints import Endpoints, parse_endpoint


def test_addresses() -> None:
    assert parse_endpoint("https://edge.example:8443") == ("edge.example", 8443)
    assert parse_endpoint("https://[::1]/") == ("::1", 443)
    assert parse_endpoint("https://bücher.example") == ("bücher.example", 443)


@pytest.mark.parametrize(
    "url",
    [
        *("http://a", "a:1", "https://", "https://a/x", "https://a:99999", "https://u@a"),
        *("https://ü..a", "https://" + "ü" * 64),  # no names: a connection to one would raise UnicodeError
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="expected https://host:port"):
        parse_endpoint(url)


def test_the_next_address_after_too_long_without_contact() -> None:
    endpoints = Endpoints(["https://a", "https://b"], 100, 0)
    assert not endpoints.failed(99)
    endpoints.contact(99)
    assert not endpoints.failed(198)
    assert endpoints.failed(199)
    assert endpoints.current == "https://b"
    assert not endpoints.failed(298)
    assert endpoints.failed(299)
    assert endpoints.current == "https://a"


def test_a_single_address_is_kept_and_an_empty_list_refused() -> None:
    endpoints = Endpoints(["https://a"], 1, 0)
    assert not endpoints.failed(1000)
    with pytest.raises(ConfigError, match="empty"):
        endpoints.replace([], 0)
