"""The data folder of a local broker: what it may hold, and its formatting."""

import base64
import shutil
import subprocess
import uuid
from pathlib import Path

from stream.brokers.errors import BrokerError
from stream.brokers.properties import NODE_ID, parse

LOG_FOLDER = "log"
PROPERTIES_FILE = "server.properties"
BROKER_LOG = "broker.log"
LOCK_FILE = "in-use.lock"
META = "meta.properties"
FORMAT_SECONDS = 60.0
# One short run of the JVM: measured, half the time that its defaults take.
_SHORT_RUN = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]


def stored_cluster_id(data_dir: Path) -> str | None:
    """Read which cluster lives in the folder; None where it is new or empty.

    Raises:
        BrokerError: The folder holds something else, and must not be touched.
    """
    if (data_dir / META).exists():
        other = parse((data_dir / META).read_text()).get("cluster.id", "unknown")
        raise BrokerError(f"{data_dir} is a log folder of another Kafka (cluster {other}); choose another data folder")
    meta = data_dir / LOG_FOLDER / META
    if not meta.exists():
        if data_dir.is_dir() and any(path.name not in _LEFT_BY_A_FAILED_START for path in data_dir.iterdir()):
            raise BrokerError(
                f"{data_dir} is neither empty nor a local Kafka's data folder; choose another data folder"
            )
        return None
    facts = parse(meta.read_text())
    if facts.get("version") != "1" or facts.get("node.id") != str(NODE_ID) or "cluster.id" not in facts:
        raise BrokerError(
            f"{meta} is of another cluster or format (version {facts.get('version')}, node {facts.get('node.id')}; "
            f"expected version 1, node {NODE_ID}); choose another data folder"
        )
    return facts["cluster.id"]


_LEFT_BY_A_FAILED_START = {LOG_FOLDER, PROPERTIES_FILE, BROKER_LOG, LOCK_FILE}


def format_folder(java: Path, jars: Path, data_dir: Path) -> str:
    """Format the log folder with Kafka's own tool, so that all features are at the level of its version.

    Returns:
        The new cluster's id.

    Raises:
        BrokerError: The tool failed.
    """
    # An unfinished formatting (no meta.properties) would be refused by the tool; there is nothing in it to keep.
    shutil.rmtree(data_dir / LOG_FOLDER, ignore_errors=True)
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # "--cluster-id=" because an id may begin with a dash.
    command = [str(java), *_SHORT_RUN, "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format"]
    command += [f"--cluster-id={cluster_id}", "--config", str(data_dir / PROPERTIES_FILE)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise BrokerError(f"formatting {data_dir} took longer than {FORMAT_SECONDS:g} s") from error
    if done.returncode != 0:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip() and "\tat " not in line]
        raise BrokerError(f"{data_dir} could not be formatted: {said[-1].strip() if said else 'no reason given'}")
    return cluster_id


def explain(log: str) -> str:
    r"""Say in one line why the broker of this log did not come up.

    >>> explain("INFO a\nERROR Exiting Kafka\norg.x.KafkaException: Failed to acquire lock on file .lock")
    'the data folder is in use by another running broker'
    >>> explain("[main] ERROR kafka.Kafka$ - Exiting\njava.lang.IllegalStateException: odd\n\tat x.y(Z.java:1)")
    'java.lang.IllegalStateException: odd'
    """
    for sign, meaning in _KNOWN_FAILURES.items():
        if sign in log:
            return meaning
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line.startswith("\tat ")]
    if any("initialization of VM" in line for line in lines):
        return lines[-1]  # Java itself: the reason stands below
    telling = [line for line in lines if "Exception" in line or "Error" in line or "ERROR" in line]
    return (telling or lines or ["its log is empty"])[-1]


PORT_TAKEN = "a port was taken by another process"
_KNOWN_FAILURES = {
    "Failed to acquire lock": "the data folder is in use by another running broker",
    "Address already in use": PORT_TAKEN,
    "Failed to bind": PORT_TAKEN,
    "No space left on device": "no space left on the device of the data folder",
    "Invalid cluster.id": "the data folder belongs to another cluster",
    "No MetadataVersion with": "the data folder was written by a newer Kafka",
    "OutOfMemoryError": "Java ran out of memory",
    "Could not reserve enough space": "Java could not get the memory asked for",
}
