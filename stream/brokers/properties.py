"""What a local broker is told: one node that is broker and controller, quick to start and to restart."""

from pathlib import Path

from stream.brokers.ports import LOOPBACK

NODE_ID = 1


def server_properties(port: int, controller_port: int, log_dir: Path) -> dict[str, str]:
    """Give the broker's properties.

    Small where tests and laptops want it: 5 partitions for offsets and transactions (50 by default, each with files of
    its own), a log cleaner with 32 MiB (128 by default, of a heap of 512) which is still 1.2 million keys a pass.
    """
    return {
        "process.roles": "broker,controller",
        "node.id": str(NODE_ID),
        "controller.quorum.voters": f"{NODE_ID}@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(log_dir),
        "auto.create.topics.enable": "false",
        # A killed broker's successor is refused until its session has ended: 9 s by default, 14 until it serves.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "5",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "5",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
    }


def render(properties: dict[str, str]) -> str:
    r"""Write properties as Java reads them.

    >>> render({"log.dirs": r"C:\new", "a": "b=c"})
    'log.dirs=C:\\\\new\na=b=c\n'
    """
    return "".join(f"{key}={value}\n".replace("\\", "\\\\") for key, value in properties.items())


def parse(text: str) -> dict[str, str]:
    r"""Read simple Java properties, as Kafka writes them into `meta.properties`.

    >>> parse("#\n#Sat Nov 21\nnode.id=1\ncluster.id=8T34QUJVTgaHaUiuEpek2Q\n")
    {'node.id': '1', 'cluster.id': '8T34QUJVTgaHaUiuEpek2Q'}
    """
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}
