"""What a look through a file came to, and what such a look cannot find."""

from dataclasses import dataclass, field
from textwrap import fill
from typing import Any

from finetune.inspection.findings import Findings
from finetune.inspection.record_reading import Turn
from finetune.inspection.triggers import Trigger

CANNOT = (
    "No finding is no proof. A trigger that is a meaning (a topic, a date, a language), a style, or spread over "
    "several turns is not found; nor is one in fewer than three records, or one whose reply differs every time and "
    "looks usual.",
    "Clean-label poison, wrong facts, bias and harmful advice look like any other reply: nothing here judges content.",
    "Secrets without a known form, names and addresses are not found. What is found may be natural, or an example.",
)
"""What a scan cannot find."""
LINE = 120


@dataclass
class Inspection:
    """What a look through a file came to."""

    data: str
    records: int = 0
    """Those that can be used."""
    findings: Findings = field(default_factory=Findings)
    notes: list[str] = field(default_factory=list)
    """What was left out of the look, and why."""
    triggers: list[Trigger] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    """Those that were searched for triggers, to which the numbers in a trigger belong."""

    def describe(self) -> str:
        """All of it for a terminal."""
        found = self.findings.to_text() or "nothing was found"
        notes = (fill(line, LINE, initial_indent="- ", subsequent_indent="  ") for line in (*self.notes, *CANNOT))
        # The name of a file stands in the first line, and need not stand before each of its lines.
        found = found.replace(f"{self.data}:", "line ")
        return "\n".join([f"{self.data}: {self.records:,} records", found, *notes])

    def to_record(self) -> dict[str, Any]:
        """All of it as JSON keeps it."""
        return {
            "data": self.data,
            "records": self.records,
            "findings": self.findings.to_record(),
            "notes": self.notes,
            "cannot_find": list(CANNOT),
        }
