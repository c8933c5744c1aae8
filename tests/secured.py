"""An Apache Kafka that demands SASL over TLS and ACLs, on a listener beside the one that administers it."""

import argparse
import subprocess
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from stream.brokers.apache import ApacheKafka
from stream.brokers.ports import LOOPBACK, free_ports

DAYS = "2"
ITERATIONS = 4096
ANSWER_SECONDS = 30


def openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def make_authority(folder, name):
    """Make an authority of this test's own; give its certificate and key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subject = ["-subj", f"/CN=millstream test authority {name}", "-days", DAYS]
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate), *subject)
    return certificate, key


def make_keystore(folder, authority, key_of_authority):
    """Make the broker's key and its certificate for loopback, in the one PEM file that Kafka takes."""
    request, key, certificate, names = (folder / f"broker.{kind}" for kind in ("csr", "key", "crt", "names"))
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(request), "-subj", "/CN=broker")
    names.write_text(f"subjectAltName=DNS:localhost,IP:{LOOPBACK}\n")
    signed_by = ["-CA", str(authority), "-CAkey", str(key_of_authority), "-CAcreateserial", "-days", DAYS]
    openssl("x509", "-req", "-in", str(request), *signed_by, "-out", str(certificate), "-extfile", str(names))
    keystore = folder / "keystore.pem"
    keystore.write_text(key.read_text() + certificate.read_text() + authority.read_text())
    return keystore


class SecuredKafka(ApacheKafka):
    """Its plain listener is the administrator's, on loopback; nobody gets in by `secured` without a password."""

    def __init__(self, folder):
        super().__init__()
        self.authority, key = make_authority(folder, "ca")
        self._keystore = make_keystore(folder, self.authority, key)
        self._secured_port = None
        self._administrator = None

    @property
    def secured(self):
        """Give the address that demands TLS, a password and permissions."""
        return f"localhost:{self._secured_port}"

    def _properties(self, port, controller_port):
        properties = super()._properties(port, controller_port)
        if self._ports is None:  # not yet known to clients
            self._secured_port = next(p for p in free_ports(3) if p not in (port, controller_port))
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        return properties | {
            "listeners": f"{properties['listeners']},SASL_SSL://{LOOPBACK}:{self._secured_port}",
            "advertised.listeners": f"{properties['advertised.listeners']},SASL_SSL://localhost:{self._secured_port}",
            "listener.security.protocol.map": f"{properties['listener.security.protocol.map']},SASL_SSL:SASL_SSL",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._keystore),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",  # who comes by the plain listener
        }

    @property
    def admin(self):
        if self._administrator is None:
            self._administrator = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return self._administrator

    def add_user(self, name, password):
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        change = UserScramCredentialUpsertion(name, scram, password.encode())
        self.admin.alter_user_scram_credentials([change])[name].result(ANSWER_SECONDS)
        self._until(lambda: self._knows(name))

    def allow(self, user, acls):
        """Give a user permissions, written as `kafka-acls` takes them, and wait until the broker goes by them."""
        bindings = [binding for options in acls for binding in bindings_of(user, options)]
        for created in self.admin.create_acls(bindings).values():
            created.result(ANSWER_SECONDS)
        self._until(lambda: self._n_acls(user) == len(bindings))

    def withdraw(self, user, acls):
        """Take such permissions back, and wait until the broker goes by that."""
        bindings = [binding for options in acls for binding in bindings_of(user, options)]
        n_left = self._n_acls(user) - len(bindings)
        filters = [
            AclBindingFilter(
                *(each.restype, each.name, each.resource_pattern_type, each.principal, each.host),
                *(each.operation, each.permission_type),
            )
            for each in bindings
        ]
        for deleted in self.admin.delete_acls(filters).values():
            deleted.result(ANSWER_SECONDS)
        self._until(lambda: self._n_acls(user) == n_left)

    def _knows(self, name):
        try:
            self.admin.describe_user_scram_credentials([name])[name].result(ANSWER_SECONDS)
        except KafkaException:
            return False
        return True

    def _n_acls(self, user):
        anything = (ResourceType.ANY, None, ResourcePatternType.ANY)
        wanted = AclBindingFilter(*anything, f"User:{user}", None, AclOperation.ANY, AclPermissionType.ANY)
        return len(self.admin.describe_acls(wanted).result(ANSWER_SECONDS))

    def _until(self, condition):
        deadline = time.monotonic() + ANSWER_SECONDS
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)


KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional_id": ResourceType.TRANSACTIONAL_ID,
}


def bindings_of(user, options):
    """Read one call of `kafka-acls --add`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--operation", action="append", required=True)
    parser.add_argument("--resource-pattern-type", default="literal")
    which = parser.add_mutually_exclusive_group(required=True)
    for kind in KINDS:
        which.add_argument(f"--{kind.replace('_', '-')}")
    read = parser.parse_args(options)
    kind, name = next((kind, getattr(read, kind)) for kind in KINDS if getattr(read, kind) is not None)
    pattern = ResourcePatternType[read.resource_pattern_type.upper()]
    return [
        AclBinding(KINDS[kind], name, pattern, f"User:{user}", "*", AclOperation[each.upper()], AclPermissionType.ALLOW)
        for each in read.operation
    ]
