"""Who a host says it is, by each kind of file, and whom it trusts: servers that it knows by TLS."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import nkeys
import pytest

from bridges import INBOX
from eventbus.bridge.config import NatsConfig
from eventbus.bridge.link import LinkError, linked
from harness import DEADLINE
from nats_server import ABSENT, NatsServer, programs


def greets(config: NatsConfig) -> bool:
    """Whether the server takes it; else LinkError."""

    async def scenario() -> bool:
        async with linked(config, "test", 5.0, INBOX) as link:
            return link.version > (2, 0, 0)

    return asyncio.run(scenario())


def refusal(config: NatsConfig) -> str:
    """Why it does not."""
    with pytest.raises(LinkError) as caught:
        greets(config)
    return caught.value.message


def seed_of(kind: int) -> bytes:
    """A new key of a kind."""
    return bytes(nkeys.encode_seed(os.urandom(32), kind))


def public(seed: bytes) -> str:
    """The public half of a key."""
    return str(nkeys.from_seed(bytearray(seed)).public_key.decode())


def test_a_password_file(nats: NatsServer, tmp_path: Path) -> None:
    """A user with the password in a file, with or without a line's end; another one is refused by a cause."""
    nats.reconfigure('authorization { users: [{ user: "h1", password: "secret" }] }\n')
    secret = tmp_path / "secret"
    for text in ("secret", "secret\n"):
        secret.write_text(text)
        assert greets(NatsConfig((nats.url,), user="h1", password_file=str(secret)))
    secret.write_text("another")
    assert "authorization violation" in refusal(NatsConfig((nats.url,), user="h1", password_file=str(secret))).lower()
    assert "authorization violation" in refusal(NatsConfig((nats.url,))).lower()


def test_an_nkey(nats: NatsServer, tmp_path: Path) -> None:
    """A seed in a file signs what the server asks; that of another key is refused."""
    mine, others = seed_of(nkeys.PREFIX_BYTE_USER), seed_of(nkeys.PREFIX_BYTE_USER)
    nats.reconfigure(f"authorization {{ users: [{{ nkey: {public(mine)} }}] }}\n")
    seed = tmp_path / "seed"
    seed.write_bytes(mine)
    assert greets(NatsConfig((nats.url,), nkey_seed=str(seed)))
    seed.write_bytes(others)
    assert "authorization violation" in refusal(NatsConfig((nats.url,), nkey_seed=str(seed))).lower()


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def token(signer: bytes, subject: str, name: str, claims: dict[str, object]) -> str:
    """A JWT as NATS has them."""
    body: dict[str, object] = {
        "iat": 1_700_000_000,
        "iss": public(signer),
        "name": name,
        "sub": subject,
        "nats": claims,
    }
    digest = hashlib.sha256(json.dumps(body).encode()).digest()
    body["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    text = ".".join(encoded(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body))
    return f"{text}.{encoded(nkeys.from_seed(bytearray(signer)).sign(text.encode()))}"


def test_credentials(tmp_path: Path) -> None:
    """A file with a JWT and its seed, for servers whose users an operator signs."""
    operator, user = seed_of(nkeys.PREFIX_BYTE_OPERATOR), seed_of(nkeys.PREFIX_BYTE_USER)
    account, system, stranger = (seed_of(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(3))
    limits = dict.fromkeys(("subs", "conn", "leaf", "imports", "exports", "data", "payload"), -1)
    stored = {"mem_storage": -1, "disk_storage": -1}
    claims: dict[str, object] = {"type": "account", "version": 2, "limits": {**limits, "wildcards": True, **stored}}
    none: dict[str, object] = {"type": "account", "version": 2, "limits": {**limits, "wildcards": True}}
    by_operator = token(operator, public(operator), "operator", {"type": "operator", "version": 2})
    accounts = {public(account): claims, public(system): none}
    known = ", ".join(f"{name}: {token(operator, name, 'account', its)}" for name, its in accounts.items())
    settings = f"operator: {by_operator}\nsystem_account: {public(system)}\n"
    settings += f"resolver: MEMORY\nresolver_preload: {{ {known} }}\n"
    file = tmp_path / "h1.creds"
    with serving(tmp_path / "nats", settings) as server:
        for signer, good in ((account, True), (stranger, False)):
            mine = token(
                signer, public(user), "h1", {"subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2}
            )
            file.write_text(
                f"-----BEGIN NATS USER JWT-----\n{mine}\n------END NATS USER JWT------\n\n"
                f"-----BEGIN USER NKEY SEED-----\n{user.decode()}\n------END USER NKEY SEED------\n"
            )
            config = NatsConfig((server.url,), creds=str(file))
            if good:
                assert greets(config)
            else:
                assert "authorization violation" in refusal(config).lower()


class serving:
    """A server with settings that it takes at its start only."""

    def __init__(self, directory: Path, settings: str) -> None:
        found = programs()
        if not found:
            pytest.skip(ABSENT)
        self._server = NatsServer(found[0], directory, settings)

    def __enter__(self) -> NatsServer:
        return self._server

    def __exit__(self, *_: object) -> None:
        self._server.close()


# --- TLS ---


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A directory with an authority `ca`, and `server` and `host` that it signed."""
    if shutil.which("openssl") is None:
        pytest.skip("certificates are made with openssl: apt-get install openssl")
    folder = tmp_path / "tls"
    folder.mkdir()
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=DEADLINE)

    openssl("req", "-x509", *new, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "host"):
        openssl("req", *new[:-2], "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / "names").write_text("subjectAltName = IP:127.0.0.1\n")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")
    return folder


def tls(folder: Path, more: str = "") -> str:
    """The settings of a server that speaks TLS only."""
    return f'tls {{ cert_file: "{folder}/server.pem", key_file: "{folder}/server.key", {more} }}\n'


def test_tls(tmp_path: Path, certificates: Path) -> None:
    """A server is trusted whose certificate the named authority signed; one that speaks in clear learns no secret."""
    ca = str(certificates / "ca.pem")
    with serving(tmp_path / "nats", tls(certificates)) as server:
        url = server.url.replace("nats:", "tls:")
        assert greets(NatsConfig((url,), ca=ca))
        assert greets(NatsConfig((server.url,), ca=ca))
        assert "certificate verify failed" in refusal(NatsConfig((url,))).lower()
    with serving(tmp_path / "clear", "") as clear:
        for config in (NatsConfig((clear.url.replace("nats:", "tls:"),)), NatsConfig((clear.url,), ca=ca)):
            assert "it speaks in clear, and its address or a file asks for TLS" in refusal(config)


def test_a_certificate_of_ones_own(tmp_path: Path, certificates: Path) -> None:
    """Servers that ask a host for a certificate get it; without one, they refuse."""
    ca, host = str(certificates / "ca.pem"), certificates / "host"
    verify = f'ca_file: "{ca}", verify: true'
    with serving(tmp_path / "nats", tls(certificates, verify)) as server:
        assert greets(NatsConfig((server.url,), ca=ca, cert=f"{host}.pem", key=f"{host}.key"))
        assert refusal(NatsConfig((server.url,), ca=ca))


def test_a_key_that_fits_nothing(tmp_path: Path, certificates: Path) -> None:
    """Files that are no certificates are a cause, too."""
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing\n")
    assert refusal(NatsConfig(("tls://127.0.0.1:1",), ca=str(nothing)))
    host = certificates / "host.pem"
    assert refusal(NatsConfig(("tls://127.0.0.1:1",), cert=str(host), key=str(certificates / "ca.key")))
