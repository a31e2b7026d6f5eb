"""An authority that signs certificates, for tests of TLS."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = datetime.timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


class Authority:
    """Signs certificates into a folder."""

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        self._folder, self._name, self._key = folder, _name(name), ec.generate_private_key(ec.SECP256R1())
        self.file = self._signed(name, self._name, self._key.public_key(), True, None)
        self.key_file = self._written(name, self._key, None)

    def _signed(
        self, file: str, subject: x509.Name, key: object, is_authority: bool, host: str | None, days: int = 1
    ) -> str:
        end = datetime.datetime.now(datetime.timezone.utc) + days * DAY
        builder = x509.CertificateBuilder(
            self._name, subject, key, x509.random_serial_number(), end - 2 * DAY, end
        ).add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        if host:
            address = x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        path = self._folder / f'{file}.pem'
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return str(path)

    def issue(
        self, file: str, host: str | None = None, password: bytes | None = None, days: int = 1
    ) -> tuple[str, str]:
        """Returns the files of a new certificate and its key; below 0 days it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._signed(file, _name(file), key.public_key(), False, host, days), self._written(file, key, password)

    def _written(self, file: str, key: ec.EllipticCurvePrivateKey, password: bytes | None) -> str:
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        path = self._folder / f'{file}.key'
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
        return str(path)
