"""Entries of API keys: how many, which faults are told, and which key is whose."""

from __future__ import annotations

import hashlib

import pytest

from gateway.auth.api_keys import (
    MAX_KEY_CHARS,
    ApiKey,
    Keyring,
    KeysInvalid,
    digest_of,
    entry_of,
    new_key,
    parse_entries,
    read_entries,
)


def entry(number: int, rest: str = "infer") -> str:
    return f"k:{number:064x}:{rest}"


def test_a_thousand_entries_are_read_and_one_more_is_refused() -> None:
    assert len(parse_entries("\n".join(entry(number) for number in range(1000)))) == 1000
    keys, faults = read_entries("\n".join(entry(number) for number in range(1001)))
    assert [key.digest for key in keys] == [number.to_bytes(32, "big") for number in range(1000)]
    assert faults == ("there are over 1000 entries",)


def test_every_fault_is_told_by_its_number_and_the_other_entries_are_read() -> None:
    text = f"{entry(1)} k:short:infer {entry(2)} {entry(1, 'read')} {entry(3, 'admin')} {entry(4)}"
    keys, faults = read_entries(text)
    assert [key.digest[-1] for key in keys] == [1, 2, 4]
    assert keys[0].roles == {"infer"}, "the first entry of a hash counts"
    assert faults == (
        "entry 2 has no SHA-256 of 64 hex digits; a key itself never stands in the configuration",
        "entry 4 has the hash of another entry",
        "entry 5 has roles other than infer, manage, metrics, read, review, joined by +",
    )
    with pytest.raises(KeysInvalid) as raised:
        parse_entries(text)
    assert str(raised.value) == "; ".join(faults)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("k", "is not name:sha256:roles or name:sha256:roles:rate; clip-gateway keys new makes one"),
        (
            f"seed:{'1' * 64}:infer",
            "has no usable name: 1 to 64 letters, digits, dots, hyphens and underscores, not anonymous or seed",
        ),
        (f"k:{hashlib.sha256().hexdigest()}:infer", "has the SHA-256 of nothing"),
        (f"k:{hashlib.sha256().hexdigest().upper()}:infer", "has the SHA-256 of nothing"),
        (entry(1, "infer:"), "has no usable rate: such as 120/minute; second, minute, hour or day"),
        (entry(1, "infer:1/week"), "has no usable rate: such as 120/minute; second, minute, hour or day"),
    ],
)
def test_what_is_said_of_an_entry(wrong: str, said: str) -> None:
    assert read_entries(wrong)[1] == (f"entry 1 {said}",)


def test_a_comment_goes_on_to_the_end_of_its_line_whatever_it_holds() -> None:
    keys = parse_entries(f"{entry(1)} # of ci # since May, {entry(2)}\n{entry(3)}")
    assert [key.digest[-1] for key in keys] == [1, 3]


def test_an_entry_names_the_roles_in_order_and_the_rate_only_where_there_is_one() -> None:
    key = ApiKey("ci", bytes(31) + b"\x0a", frozenset({"read", "infer"}))
    assert entry_of(key) == f"ci:{'0' * 62}0a:infer+read"
    limited = ApiKey("ci", key.digest, key.roles, "5/hour")
    assert entry_of(limited) == f"ci:{'0' * 62}0a:infer+read:5/hour"


def test_a_new_key_holds_256_random_bits() -> None:
    assert len(new_key()) == len("clipmod_") + 43  # 32 bytes in base64 without padding


def test_the_hash_of_a_key_is_that_of_its_utf8_and_bytes_that_are_none_stand_for_themselves() -> None:
    assert digest_of("schlüssel").hex() == hashlib.sha256(b"schl\xc3\xbcssel").hexdigest()
    assert digest_of("\udcff").hex() == hashlib.sha256(b"\xff").hexdigest()


def test_the_longest_key_is_looked_up_and_a_longer_one_is_not() -> None:
    longest, longer = "x" * MAX_KEY_CHARS, "x" * (MAX_KEY_CHARS + 1)
    ring = Keyring([ApiKey(name, digest_of(key), frozenset()) for name, key in (("a", longest), ("b", longer))])
    assert MAX_KEY_CHARS == 256
    found = ring.find(longest)
    assert found is not None
    assert found.name == "a"
    assert ring.find(longer) is None
    assert ring.find("clipmod_other") is None


def test_nobody_has_the_empty_key() -> None:
    assert Keyring([ApiKey("a", hashlib.sha256().digest(), frozenset())]).find("") is None


def test_a_key_may_have_every_role() -> None:
    assert parse_entries(entry(1, "infer+read+manage+metrics"))[0].roles == {"infer", "read", "manage", "metrics"}
