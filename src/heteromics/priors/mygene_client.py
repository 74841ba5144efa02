"""Asking MyGene.info which gene a name means: in batches, not too often, again after a failure, never the same twice.

The service (Xin et al., Genome Biology 2016; Wu et al., Nucleic Acids Research 2013) takes up to 1,000 names in one
POST to ``/v3/query``. It is asked through ``requests``, which is needed for fetching files anyway. Weighed against it:
package ``mygene``, whose client waits without a time limit, does not try again when the service is busy (429) or fails
(5xx), reports through logging, and would bring ``biothings-client`` and ``httpx`` for this one call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from heteromics.errors import FetchError, some
from heteromics.priors.gene_names import Answer

URL = "https://mygene.info/v3/query"
SCOPES = "symbol,alias,retired,entrezgene,ensembl.gene,ensembl.protein,uniprot"
FIELDS = "symbol,entrezgene,ensembl.gene"
BATCH = 1_000
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how long the service is tried.

    Attributes
    ----------
    attempts
        Tries of one batch before it is given up.
    first_wait, longest_wait
        Seconds to wait after the first failure, doubled after each further one, and at most; the service may ask for
        more (``Retry-After``), which is granted up to the longest.
    between
        Seconds between two batches.
    timeout
        Seconds to wait for an answer.
    """

    attempts: int = 5
    first_wait: float = 1.0
    longest_wait: float = 30.0
    between: float = 1.0
    timeout: float = 60.0

    def wait(self, failures: int, asked_for: str | None) -> float:
        """Return the seconds to wait after so many failures of one batch.

        Examples
        --------
        >>> Pace().wait(1, None), Pace().wait(3, None), Pace().wait(1, "7"), Pace().wait(1, "3600")
        (1.0, 4.0, 7.0, 30.0)
        """
        wanted = float(asked_for) if asked_for and asked_for.isdecimal() else 0.0
        return min(self.longest_wait, max(wanted, self.first_wait * 2 ** (failures - 1)))


def ask(
    names: Iterable[str],
    taxon: int,
    *,
    url: str = URL,
    pace: Pace | None = None,
    track: Callable[[Iterable[Any], str, int | None], Iterable[Any]] = lambda items, _description, _total: items,
) -> dict[str, list[Answer]]:
    """Ask which genes names mean.

    Parameters
    ----------
    names
        Symbols, aliases or identifiers; each is asked once. A name with a comma cannot be asked, since commas part the
        names of a batch, and is left out of the answer.
    taxon
        NCBI taxon, 9606 for human.
    url
        Where the query form of MyGene.info is spoken.
    pace
        How patiently.
    track
        As :attr:`heteromics.priors.tables.BuildContext.track`.

    Returns
    -------
    dict of str to list of Answer
        By name, the genes the service knows; an empty list where it knows none.

    Raises
    ------
    FetchError
        When the service cannot be reached, keeps failing, or answers in another form.
    """
    pace = pace or Pace()
    wanted = sorted({name for name in names if name and "," not in name})
    batches = [wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH)]
    answers: dict[str, list[Answer]] = {}
    with requests.Session() as session:
        for number, batch in enumerate(track(batches, "asking MyGene.info", len(batches))):
            if number:
                time.sleep(pace.between)
            answers |= _answers(_post(session, url, batch, taxon, pace), batch, url)
    return answers


def _post(session: requests.Session, url: str, batch: Sequence[str], taxon: int, pace: Pace) -> Any:
    form = {"q": ",".join(batch), "scopes": SCOPES, "fields": FIELDS, "species": str(taxon), "size": "10"}
    problem = ""
    for attempt in range(1, pace.attempts + 1):
        asked_for = None
        try:
            response = session.post(url, data=form, timeout=pace.timeout, headers={"Accept": "application/json"})
            if response.ok:
                return response.json()
            problem, asked_for = f"status {response.status_code} {response.reason}", response.headers.get("Retry-After")
            if response.status_code not in BUSY:
                break
        except requests.JSONDecodeError as error:
            problem = f"an answer that is no JSON ({error})"
        except requests.RequestException as error:
            problem = f"{type(error).__name__}: {error}"
        if attempt < pace.attempts:
            time.sleep(pace.wait(attempt, asked_for))
    raise FetchError(
        f"MyGene.info ({url}) did not answer for {len(batch):,} names ({some(batch)}), tried {attempt} times.\n"
        f"  Last: {problem[:200]}\n"
        "  Fix: try again with a network, take mygene out of the recipe (nodes.mygene=false), or give a file of "
        "other names, --set source.aliases_hgnc=FILE."
    )


def _answers(said: Any, batch: Sequence[str], url: str) -> dict[str, list[Answer]]:
    """Read the hits of one batch; a name without a hit has an empty list."""
    answers: dict[str, list[Answer]] = {name: [] for name in batch}
    if not isinstance(said, list) or not all(isinstance(hit, dict) and "query" in hit for hit in said):
        raise FetchError(
            f"MyGene.info ({url}) answered in another form: found {str(said)[:120]!r}, expected a list of hits with "
            "'query'. Fix: take mygene out of the recipe (nodes.mygene=false), or give a file of other names."
        )
    for hit in said:
        known = answers.get(str(hit["query"]))
        if known is not None and not hit.get("notfound"):
            known += [one for one in _genes(hit) if one not in known]
    return {name: sorted(found, key=lambda one: tuple(part or "" for part in one)) for name, found in answers.items()}


def _genes(hit: Mapping[str, Any]) -> list[Answer]:
    """Return a hit as one answer for each of its Ensembl genes, or one without."""
    entrez, symbol = (str(hit[key]) if key in hit else None for key in ("entrezgene", "symbol"))
    ensembl = hit.get("ensembl") or []
    listed = ensembl if isinstance(ensembl, list) else [ensembl]
    ids = [str(one["gene"]) for one in listed if one.get("gene")]
    return [Answer(gene_id, entrez, symbol) for gene_id in ids] or [Answer(None, entrez, symbol)]
