"""What a model records of itself as a student: a file of its own, and in short a part of ``config.json``."""

from __future__ import annotations

from dataclasses import replace

from boomerang_cli.engine.output.plan import Plan, as_json_text
from boomerang_cli.engine.pair.student_config import STUDENT_CONFIG_FILE, StudentConfig


def with_student_config(plan: Plan, recorded: StudentConfig) -> Plan:
    """Return the same plan with both."""
    plan = plan.with_documents({STUDENT_CONFIG_FILE: as_json_text(recorded.as_json())})
    return replace(plan, config={**plan.config, **recorded.in_config()})
