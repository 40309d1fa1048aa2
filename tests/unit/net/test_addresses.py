from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve_app.net.addresses import AllowedHosts, is_public
from serve_app.settings import NetSettings

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1",
          "169.253.1.1", "192.0.1.1", "198.17.1.1", "198.20.0.1", "223.255.255.255", "168.63.129.15",
          "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "2001:4860:4860::8888", "2a00::1", "::ffff:8.8.8.8",
          "64:ff9b::8.8.8.8"]  # fmt: skip
NOT_PUBLIC = ["0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "100.127.255.255", "127.0.0.1",
              "127.255.255.255", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1",
              "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255",
              "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
              "::", "::1", "::127.0.0.1", "::8.8.8.8", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0",
              "fec0::1", "ff02::1", "2001::1", "2001:0:7f00:1::", "2001:db8::1", "2002:7f00:1::", "2002:808:808::",
              "3fff::1", "4000::1", "5f00::1", "100::1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1",
              "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
              "::ffff:169.254.169.254"]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_that_everybody_can_reach_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_only_this_network_can_reach_is_not(address: str) -> None:
    assert not is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_however_it_is_written(address: IPv4Address) -> None:
    for prefix in ("::ffff:", "64:ff9b::"):
        assert is_public(IPv6Address(f"{prefix}{address}")) == is_public(address)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_what_the_standard_library_takes_for_private_is_not_public(address: IPv4Address | IPv6Address) -> None:
    stands_for_another = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
    if (address.is_private or address.is_multicast or address.is_link_local) and not stands_for_another:
        assert not is_public(address)


def test_hosts_are_allowed_by_name_address_and_network() -> None:
    allowed = AllowedHosts(["Files.Internal", "10.1.0.0/16", "192.168.7.7", "fd00::/8"])
    for host, address in (
        ("files.internal", "10.9.9.9"),
        ("FILES.internal", "127.0.0.1"),
        ("any.example", "10.1.2.3"),
        ("any.example", "::ffff:10.1.2.3"),
        ("192.168.7.7", "192.168.7.7"),
        ("any.example", "fd12::1"),
        ("any.example", "8.8.8.8"),
    ):
        assert allowed.address(host, ip_address(address)), (host, address)
    for host, address in (
        ("other.internal", "10.9.9.9"),
        ("files.internal.evil.example", "127.0.0.1"),
        ("any.example", "10.2.0.1"),
        ("any.example", "192.168.7.8"),
        ("any.example", "fe80::1"),
    ):
        assert not allowed.address(host, ip_address(address)), (host, address)


def test_nothing_is_allowed_by_default() -> None:
    allowed = AllowedHosts(NetSettings().allowed_hosts)
    assert not allowed.name("localhost") and not allowed.address("localhost", ip_address("127.0.0.1"))


@pytest.mark.parametrize("entry", ["10.0.0.0/99", "http://files.internal", "files.internal:8000", "10.0.0.1:80"])
def test_an_entry_that_could_never_match_is_refused(entry: str) -> None:
    with pytest.raises(ValidationError):
        NetSettings(allowed_hosts=[entry])
