"""``heteromics data``: what data there is, and getting it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heteromics.cli._show import Json, Sets, show_json, show_mapping, show_table

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""List, fetch and simulate data.

Files are taken from a local mirror where there is one (`--mirror`, or the folder named by `HETEROMICS_DATA`), else from
their source; either way their checksum decides.""",
)

Mirror = Annotated[Path | None, typer.Option(help="Local mirror, <mirror>/<item>/<file>; HETEROMICS_DATA by default.")]


@app.command("list")
def list_items(mirror: Mirror = None, as_json: Json = False) -> None:
    """List every data set of the manifest: organism, size, licence, and where it lies now.

    A size in brackets is that of the known files only; `verified: no` marks files whose checksum nobody could compute.
    """
    from heteromics.data.fetch import whereabouts
    from heteromics.data.manifest import load_manifest

    manifest = load_manifest()
    rows = [{**row, "here": whereabouts(manifest[row["name"]], mirror=mirror)} for row in manifest.rows()]
    if as_json:
        show_json(rows)
        return
    shown = [row | {"MiB": None if row["bytes"] is None else round(row["bytes"] / 2**20, 1)} for row in rows]
    show_table(shown, columns=["name", "organism", "assembly", "format", "MiB", "verified", "here", "licence"])


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Item of `heteromics data list`.")],
    to: Annotated[Path | None, typer.Option(help="Folder to hold <item>/<file>; the user's cache by default.")] = None,
    mirror: Mirror = None,
    as_json: Json = False,
) -> None:
    """Get all files of one data set, checked, and print their folder.

    An interrupted download goes on where it stopped. A file under its final name is always whole.
    """
    from heteromics.data.fetch import fetch as work
    from heteromics.data.manifest import load_manifest

    folder = work(name, to=to, mirror=mirror)
    if as_json:
        item = load_manifest()[name]
        files = [{"name": f.name, "path": folder / f.name, "sha256": f.sha256} for f in item.files]
        show_json({"name": name, "folder": folder, "licence": item.licence, "verified": item.verified, "files": files})
    else:
        typer.echo(folder)


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the files; a synthetic one there is replaced.")],
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Simulate a multiome with planted regulation and write it as files: h5mu, GTF, FASTA, peaks, motifs, truth.

    Settings are the fields of `SyntheticConfig`, for example `--set n_cells=3000`. Everything written is labelled
    synthetic.
    """
    from heteromics import _config
    from heteromics.data.synthetic import SyntheticConfig
    from heteromics.data.synthetic import simulate as work

    config = _config.build(SyntheticConfig, _config.override({}, sets or ()), "--set")
    multiome = work(config, seed=seed)
    folder = multiome.write(out)
    summary = {
        "folder": folder,
        "cells": multiome.mdata.n_obs,
        **{f"{name} features": data.n_vars for name, data in multiome.mdata.mod.items()},
        "planted links": len(multiome.truth),
        "distractors": len(multiome.distractors),
    }
    show_json(summary) if as_json else show_mapping(summary)
