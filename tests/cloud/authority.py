# SPDX-License-Identifier: LGPL-2.1-or-later
"""The test's certificate authority: made anew for each run, or kept with a saved state; trusted by nobody else.

The certificate names are the real ones, so that clients run with their real defaults. Besides the
good certificate there are three bad ones, for clients that must refuse them.
"""
import datetime
import os
import ssl
from typing import Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Suffixes of the public and the sovereign clouds (Key Vault documentation, "Azure environments").
VAULT_SUFFIXES = ("vault.azure.net", "vault.usgovcloudapi.net", "vault.azure.cn")
HSM_SUFFIXES = ("managedhsm.azure.net", "managedhsm.usgovcloudapi.net", "managedhsm.azure.cn")
LOGIN_HOSTS = ("login.microsoftonline.com", "login.windows.net", "login.microsoftonline.us",
               "login.chinacloudapi.cn", "login.partner.microsoftonline.cn")
MANAGEMENT_HOSTS = ("management.azure.com", "management.usgovcloudapi.net",
                    "management.chinacloudapi.cn")
# Where a redirect leads by default; nobody should ever bring a token there.
ELSEWHERE = "elsewhere.example.net"

NAMES = (*(f"*.{s}" for s in VAULT_SUFFIXES + HSM_SUFFIXES), *LOGIN_HOSTS, *MANAGEMENT_HOSTS,
         ELSEWHERE)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as f:
        f.write(data)


class Authority:
    """A CA with its certificates in a folder: ca.pem for clients, contexts for servers.

    kept: file that was authority.pem in another folder, to be the same CA again; good for 60 days
    """

    def __init__(self, folder: str, kept: Optional[str] = None) -> None:
        self.folder = folder
        self.ca_pem = os.path.join(folder, "ca.pem")
        self.key, self.certificate = (self._load_ca(kept) if kept
                                      else self._make_ca("vmcrypt test authority"))
        public = self.certificate.public_bytes(serialization.Encoding.PEM)
        _write(os.path.join(folder, "authority.pem"), self._private(self.key) + public)
        _write(self.ca_pem, public)
        os.chmod(self.ca_pem, 0o644)
        stranger = self._make_ca("somebody else's authority")
        self.names = NAMES
        self.bad = {
            "tls-wrong-name": self.context("wrong-name", ("www.example.net",)),
            "tls-untrusted": self.context("untrusted", NAMES, issuer=stranger),
            "tls-expired": self.context("expired", NAMES, days=(-30, -1)),
        }

    @staticmethod
    def _private(key) -> bytes:
        return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                 serialization.NoEncryption())

    @staticmethod
    def _load_ca(path: str):
        with open(path, "rb") as f:
            text = f.read()
        return (serialization.load_pem_private_key(text, None),
                x509.load_pem_x509_certificate(text))

    @staticmethod
    def _make_ca(title: str):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
        now = datetime.datetime.utcnow()
        certificate = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=60))
            .not_valid_after(now + datetime.timedelta(days=60))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False,
                                         False), critical=True)
            .sign(key, hashes.SHA256()))
        return key, certificate

    def context(self, title: str, names, issuer=None, days=(-1, 30)) -> ssl.SSLContext:
        """A server context with a certificate for `names`, valid from and until `days` from now."""
        ca_key, ca = issuer or (self.key, self.certificate)
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.utcnow()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
            .issuer_name(ca.subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()),
                           False)
            .sign(ca_key, hashes.SHA256()))
        path = os.path.join(self.folder, f"{title}.pem")
        _write(path, self._private(key) + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # as the service has enforced since 2023
        context.load_cert_chain(path)
        return context
