"""Where the recipes and the data manifest are: in the wheel, or beside ``src/`` in a checkout."""

from __future__ import annotations

from pathlib import Path

from heteromics.errors import RecipeError, some

_PACKAGE = Path(__file__).resolve().parent


def resource(*parts: str) -> Path:
    """Return the path of a file that comes with heteromics, such as ``resource("priors", "demo.yaml")``."""
    installed = _PACKAGE / "recipes"
    root = installed if installed.is_dir() else _PACKAGE.parents[1]
    return root.joinpath(*parts)


def recipe_path(kind: str, name_or_path: str | Path) -> Path:
    """Find a recipe by the name it ships under (``demo``) or by its path.

    Raises
    ------
    RecipeError
        When neither a file nor a shipped recipe of that name exists; the shipped names are listed.
    """
    given = Path(name_or_path)
    if given.suffix in {".yaml", ".yml"} or given.parent != Path():
        if given.is_file():
            return given
        raise RecipeError(f"{given}: no such recipe file.")
    shipped = resource(kind, f"{given.name}.yaml")
    if shipped.is_file():
        return shipped
    known = sorted(path.stem for path in resource(kind).glob("*.yaml"))
    raise RecipeError(
        f"no {kind} recipe named '{name_or_path}'. Shipped: {some(known, 12)}. Or give a path to a YAML file."
    )
