"""The recipe for Python by environment alone: https, our own certificate authority, and a path in the host."""

import datetime
import ipaddress
import json
import subprocess
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.contract_server import serving

SCRIPT = """
import json, sys
import fal_client

arguments = {"scene": [{"text": "Hey how are you doing.", "speaker_id": 0}]}
updates = []
with open(sys.argv[1], "rb") as file:
    context = [{"prompt": "Hi.", "speaker_id": 0, "audio_url": fal_client.encode(file.read(), "audio/wav")}]
subscribed = fal_client.subscribe(
    "fal-ai/csm-1b", arguments={**arguments, "context": context}, with_logs=True, on_queue_update=updates.append
)
run = fal_client.run("fal-ai/csm-1b", arguments=arguments)
*chunks, streamed = fal_client.stream("fal-ai/csm-1b", arguments=arguments)
with fal_client.SyncClient().realtime("fal-ai/csm-1b", use_jwt=False) as connection:
    connection.send(arguments)
    while "audio" not in (spoken := connection.recv()):
        pass
outputs = [subscribed, run, streamed, spoken]
print(json.dumps([output["audio"]["url"] for output in outputs]))
"""


def test_the_environment_alone_leads_the_client_here(tmp_path: Path, clip: Path) -> None:
    ca, certificate, key = certificates(tmp_path)
    with serving(tmp_path / "data", ssl={"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}) as server:
        environment = {
            "FAL_KEY": "id:secret",
            "FAL_RUN_HOST": f"{server.host}/fal/run",
            "FAL_QUEUE_RUN_HOST": f"{server.host}/fal/queue",
            "SSL_CERT_FILE": str(ca),
        }
        command = (sys.executable, "-c", SCRIPT, str(clip))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    urls = json.loads(done.stdout)
    assert len(urls) == 4
    assert all(url.startswith(f"{server.url}/fal/cdn/files/") for url in urls)


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """A CA's certificate; one for 127.0.0.1 that it signed, and that one's key."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA of our own")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "csm-serve")])
    ca = certificate(ca_name, ca_key, ca_name, ca_key, x509.BasicConstraints(ca=True, path_length=0))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = certificate(name, key, ca_name, ca_key, names)
    paths = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for path, content in zip(paths, (ca.public_bytes(pem), server.public_bytes(pem), private), strict=True):
        path.write_bytes(content)
    return paths


def certificate(
    name: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(1))
    return builder.add_extension(extension, critical=False).sign(issuer_key, hashes.SHA256())
