"""The Java that runs the broker: found, and new enough."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from stream.brokers.errors import BrokerError

OLDEST_JAVA = 17
ANSWER_SECONDS = 30.0
INSTALL_HINT = "on Debian: apt-get install default-jre-headless"


def find_java() -> Path:
    """Find a Java of version 17 or later: that of `JAVA_HOME`, else the first on the path.

    Raises:
        BrokerError: There is none, it does not run, or it is too old.
    """
    executable = _executable()
    try:
        answer = subprocess.run(
            [executable, "-version"], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokerError(f"{executable} does not run ({error}); Java {OLDEST_JAVA} or later is needed") from error
    version = parse_version(answer.stderr + answer.stdout)
    if version is None:
        raise BrokerError(f"{executable} -version gave no version; Java {OLDEST_JAVA} or later is needed")
    if version < OLDEST_JAVA:
        raise BrokerError(f"{executable} is Java {version}; Java {OLDEST_JAVA} or later is needed ({INSTALL_HINT})")
    return executable


def _executable() -> Path:
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").is_file():
        return Path(home) / "bin" / "java"
    found = shutil.which("java")
    if found is None:
        raise BrokerError(f"no Java: Apache Kafka needs Java {OLDEST_JAVA} or later ({INSTALL_HINT})")
    return Path(found)


def parse_version(text: str) -> int | None:
    r"""Read the major version from what `java -version` prints.

    >>> parse_version('openjdk version "17.0.15" 2025-04-15'), parse_version('java version "1.8.0_392"')
    (17, 8)
    >>> parse_version("openjdk version \"21\" 2023-09-19"), parse_version("no such thing")
    (21, None)
    """
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None
