"""What the tests of commands share."""

import sys

import pytest

from mlcalc import cli


@pytest.fixture
def mlcalc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run ``mlcalc …`` in this process: (exit status, stdout, stderr)."""
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlcalc", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_status:
            cli.main()
        captured = capsys.readouterr()
        return int(exit_status.value.code or 0), captured.out, captured.err

    return run
