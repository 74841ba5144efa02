"""``heteromics reproduce``: run the Bi2Former paper again, beside honest protocols and controls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heteromics.cli._show import Json, show_json, show_mapping, show_table


def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="bi2former-snare, bi2former-share, bi2former-10xpbmc, bi2former-issaac or bi2former-10xmultiome.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for runs, tables and provenance; runs/NAME by default.")
    ] = None,
    data_files: Annotated[
        list[Path] | None,
        typer.Option("--data", help="MuData file; or twice, RNA then ATAC. From manifest or mirror by default."),
    ] = None,
    db: Annotated[Path | None, typer.Option(help="Prior store built before; else one is built in --out.")] = None,
    small: Annotated[
        bool, typer.Option("--small", help="A sample of cells and features and two epochs, to see that it runs.")
    ] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many; 5, with --small 2.")] = None,
    study: Annotated[
        list[str] | None,
        typer.Option(help="protocols, few_shot, across_types or ablations; again for more. Protocols by default."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this model or control; again for more. `--model list` names them; "
            "', sparse IDs' may follow that of a model."
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="Of protocols and ablations, only this one; again for more. `--protocol list` names them. Ablations "
            "are else of 'cells, random'; few_shot and across_types split as they must, with random negatives."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="At most so many, in place of each model's own.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Json = False,
) -> None:
    """Run a data set of the Bi2Former paper: its protocol, honest ones, baselines and controls, its numbers beside.

    The paper splits pairs, so that cells leak; here cells, batches or types are split as well. Every finished run is
    kept in `--out`: stop when you like, and the same command goes on. Later calls with other models, protocols or more
    seeds add to the tables. One call at a time for a folder.

    Accuracy, Brier score and calibration error are of probabilities scaled on validation pairs, alike for models and
    controls; accuracy_raw is of a model's own at 0.5, as the paper's is.

    Writes `<study>_runs` and `<study>_summary`, `leak` and `reliability_runs` as Parquet, TSV and JSON, and
    `provenance.json`.
    """
    from heteromics.workflows import reproduce as room

    known = {"model": room.CONTENDERS, "protocol": tuple(room.PROTOCOLS)}
    for what, asked in (("model", model), ("protocol", protocol)):
        if asked == ["list"]:
            show_json(known[what]) if as_json else show_table([{what: each} for each in known[what]])
            return
    result = room.reproduce(
        name,
        out=Path("runs") / name if out is None else out,
        data=data_files or (),
        db=db,
        small=small,
        seeds=seeds,
        studies=tuple(study or ("protocols",)),
        models=tuple(model or room.CONTENDERS),
        protocols=None if protocol is None else tuple(protocol),
        max_epochs=epochs,
        device=device,
    )
    if as_json:
        show_json(result.as_dict())
        return
    for title, rows in result.summaries().items():
        show_table(rows, f"{name} · {title} · {result.notes['data']}")
    show_mapping(result.notes)
