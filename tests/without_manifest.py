"""Folders as an older version or another tool left them, for tests of what is said without a manifest."""

import json
from pathlib import Path

from configs.manifest import MANIFEST, RECORDS, REOPENED


def forget_manifests(folder: Path) -> None:
    """Takes the manifests out of a folder and of those in it, and out of their records that there were any."""
    for manifest in folder.rglob(MANIFEST):
        manifest.unlink()
    for record in (path for name in RECORDS for path in folder.rglob(name)):
        fields = json.loads(record.read_text())
        for part in (fields, fields.get("certificate", {})):
            part.pop(REOPENED, None)
        record.write_text(json.dumps(fields))
