"""Speech over Ray's own TLS: encoder, generator and decoder on one node, the ingress on another."""

import ipaddress
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import ray
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.test_scaling_cluster import is_ready, serve_config
from tests.support.ray_nodes import ray_cluster, until
from tests.support.ray_server import Server
from tests.support.stand_in_graph import Heard, expected_sound, speak

pytestmark = pytest.mark.fake_cluster

SECONDS = 4


async def test_streams_are_whole_and_who_has_no_certificate_gets_no_connection(tmp_path: Path) -> None:
    tls = certificates(tmp_path)
    args = {"model": "stand-in", "stand_in": {"step_ms_by_batch": {"1": 20.0}}}

    def on(resource: str) -> dict[str, object]:
        return {"ray_actor_options": {"num_cpus": 0.1, "resources": {resource: 0.01}}}

    computing = {name: on("computes") for name in ("TokenGenerator", "AudioDecoder", "ContextEncoder")}
    with ray_cluster(tmp_path, **tls) as cluster:
        cluster.start_head("--num-cpus=0")
        cluster.start_node("answers", "--num-cpus=4", '--resources={"answers": 1}')
        cluster.start_node("computes", "--num-cpus=4", '--resources={"computes": 1}')
        cluster.deploy(serve_config(cluster, args, **computing, Ingress=on("answers"), JobRunner=on("answers")))
        until(lambda: is_ready(cluster), "the graph is ready", 300)
        async with httpx.AsyncClient() as client:
            heard = await speak(client, Server(cluster.url, "csm"), 7, SECONDS, Heard())
        assert heard.sound[44:] == expected_sound(7, int(SECONDS * 12.5))
        authority = ssl.create_default_context(cafile=tls["RAY_TLS_CA_CERT"])
        assert not greet(authority, cluster.ip, cluster.gcs_port)
        authority.load_cert_chain(tls["RAY_TLS_SERVER_CERT"], tls["RAY_TLS_SERVER_KEY"])
        assert greet(authority, cluster.ip, cluster.gcs_port)


def greet(context: ssl.SSLContext, ip: str, port: int) -> bytes:
    """The first bytes that an HTTP/2 server, such as gRPC's, says by itself. None where it wants a certificate: with
    TLS 1.3 the client learns that only when it reads."""
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(socket.create_connection((ip, port), timeout=20), server_hostname=ip) as connection:
        with suppress(ssl.SSLError, ConnectionResetError):
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            return connection.recv(9)
        return b""


def certificates(folder: Path) -> dict[str, str]:
    """An authority and a node's certificate by it, as docs/security.md asks for them. Returns Ray's variables."""
    issuer_key, node_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = _certificate("authority", issuer_key, "authority", issuer_key)
    node = _certificate("node", node_key, "authority", issuer_key)
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files = {
        "RAY_TLS_CA_CERT": issuer.public_bytes(pem),
        "RAY_TLS_SERVER_CERT": node.public_bytes(pem),
        "RAY_TLS_SERVER_KEY": node_key.private_bytes(pem, private, serialization.NoEncryption()),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {"RAY_USE_TLS": "1"} | {name: str(folder / name) for name in files}


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = datetime.now(UTC)
    addresses = {ray.util.get_node_ip_address(), "127.0.0.1"}
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(addresses)]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
