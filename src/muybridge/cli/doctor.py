"""`muybridge doctor`: what works on this machine, and why the rest does not."""

from __future__ import annotations

from dataclasses import asdict

from muybridge.cli.output import print_json
from muybridge.terminal import print_line


def doctor(*, json: bool = False) -> int:
    """Checks packages, devices and codecs of this machine.

    Args:
        json: Print JSON.

    Returns:
        1 when something needed does not work.

    Examples:
        muybridge doctor
        muybridge doctor --json
    """
    from muybridge.bench.machine import check_machine

    findings = check_machine()
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = "ok     " if finding.works else "BROKEN " if finding.needed else "absent "
            print_line(f"{mark}{finding.what:<24}{finding.detail}")
    return 1 if any(finding.needed and not finding.works for finding in findings) else 0
