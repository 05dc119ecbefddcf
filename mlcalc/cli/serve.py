"""``mlcalc serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mlcalc.cli._calculator import CalculatorOption, CalculatorPythonOption, DeviceOption, DispersionOption
from mlcalc.cli._inputs import ConfigOption


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def serve(
        potential: Annotated[
            Optional[str], typer.Argument(help="Name in the zoo, weights file or model file; A,B,…: a committee.")
        ] = None,
        structure: Annotated[
            Optional[Path], typer.Option(help="Elements in the server's order, and which axes are periodic.")
        ] = None,
        calculator: CalculatorOption = None,
        calculator_python: CalculatorPythonOption = None,
        dispersion: DispersionOption = None,
        socket: Annotated[Optional[str], typer.Option(help="UNIX socket of the server: /tmp/ipi_NAME.")] = None,
        host: Annotated[str, typer.Option(help="Of a server with a port.")] = "localhost",
        port: Annotated[Optional[int], typer.Option(help="Of a server with a port.")] = None,
        wait_s: Annotated[float, typer.Option(help="Wait for a server that is not there yet, s.")] = 10.0,
        config: ConfigOption = None,
        dtype: Annotated[
            Optional[str],
            typer.Option(help="float32 or float64 for POTENTIAL; default: a model file's own, float64 for others."),
        ] = None,
        device: DeviceOption = None,
    ) -> None:
        """Compute energy, forces and virial for i-PI, ASE or another server of the i-PI protocol, until it is done."""
        from mlcalc.calculators.serve import serve as run
        from mlcalc.cli._calculator import dynamics_calculator
        from mlcalc.cli._inputs import progress_bar, read_structures
        from mlcalc.errors import WorkflowError

        if structure is None:
            raise WorkflowError("--structure FILE says which elements the server's atoms are, and which axes periodic")
        if (socket is None) == (port is None):
            raise WorkflowError("give either --socket NAME or --port NUMBER, as in the server's input")
        cases = read_structures([structure])
        if len(cases) > 1:
            raise WorkflowError(f"--structure {structure} holds {len(cases)} structures: give one")
        engine, _ = dynamics_calculator(potential, calculator, "ase", dtype, device, calculator_python, dispersion)
        with progress_bar("serve", None) as update:

            def report(structures: int, energy: float) -> None:
                update(structures, f"{energy:.6f} eV")

            result = run(cases[0][1], engine, socket, host, port, wait_s, report)
        each = f", {1000 * result.wall_time_s / result.structures:.2f} ms each" if result.structures else ""
        end = "done" if result.dismissed else "the server closed the connection"
        typer.echo(f"{result.address}: {result.structures} structures{each}; {end}")
