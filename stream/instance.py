"""Who this worker is: a UUID kept in the data folder, held by one process at a time."""

import fcntl
import os
import uuid
from pathlib import Path
from typing import IO

from stream.errors import StartupError


class Instance:
    """The identity of a worker, locked for as long as the object lives.

    The id makes the worker a static member of its group and names its transactions, so it must survive a restart, and
    two live processes must never share it.

    Args:
        data_dir: Made when it is not there.

    Raises:
        StartupError: Another process holds the folder, or it cannot be written.
    """

    def __init__(self, data_dir: Path) -> None:
        path = data_dir / "instance"
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = open(path, "a+", encoding="utf-8")  # open for as long as the lock is held
        except OSError as error:
            raise StartupError(
                f"the data folder {data_dir} cannot be written: {error.strerror}; "
                "choose another with MILLSTREAM_DATA_DIR"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartupError(
                f"the data folder {data_dir} is in use by another worker{_holder(path)}; "
                "give this one a folder of its own with MILLSTREAM_DATA_DIR"
            ) from error
        self._file.seek(0)
        self.id = self._file.readline().strip() or str(uuid.uuid4())
        self._write()

    def _write(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"{self.id}\n{os.getpid()}\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let another process have the folder."""
        self._file.close()


def _holder(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").split()
    return f" (pid {lines[1]})" if len(lines) > 1 else ""
