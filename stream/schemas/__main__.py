"""Write the JSON Schema of every record beside this file: `python -m stream.schemas`."""

import json
from pathlib import Path

from stream.records import schemas

for name, schema in schemas().items():
    Path(__file__).with_name(name).write_text(json.dumps(schema, indent=2) + "\n")
