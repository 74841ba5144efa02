"""MyGene.info as it is asked, against a server on this machine that speaks its query form."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from heteromics.errors import FetchError
from heteromics.priors import PriorStore, mygene_client
from heteromics.priors.gene_names import Answer
from heteromics.priors.mygene import MyGeneConfig, build_mygene
from heteromics.priors.mygene_client import Pace, ask
from tests.priors.prior_files import context_with, fits, tally, written

QUICK = Pace(attempts=3, first_wait=0.01, longest_wait=0.05, between=0.0, timeout=5.0)

GENES = {
    "PARK2": [{"_id": "5071", "entrezgene": "5071", "symbol": "PRKN", "ensembl": {"gene": "ENSG00000185345"}}],
    "P53": [{"_id": "7157", "_score": 17.9, "entrezgene": "7157", "symbol": "TP53", "ensembl": {"gene": "ENSG01"}}],
    "TWICE": [
        {"_id": "1", "entrezgene": "1", "symbol": "ONE", "ensembl": [{"gene": "ENSG02"}, {"gene": "ENSG03"}]},
        {"_id": "2", "entrezgene": "2", "symbol": "TWO"},
    ],
}


class Service:
    """What the server is to answer, and what it was asked."""

    def __init__(self, url):
        self.url = url
        self.before = []  # (status, headers, body) sent instead of an answer, one a request
        self.always = None
        self.delay = 0.0
        self.asked = []  # forms
        self.times = []


@pytest.fixture
def service():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            state = self.server.state
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {key: values[0] for key, values in parse_qs(body).items()}
            state.asked.append({**form, "path": self.path, "type": self.headers["Content-Type"]})
            state.times.append(time.monotonic())
            time.sleep(state.delay)
            status, headers, text = 200, {}, None
            if state.always or state.before:
                status, headers, text = state.always or state.before.pop(0)
            if text is None:
                names = form["q"].split(",")
                text = json.dumps(
                    [{"query": name, **hit} for name in names for hit in GENES.get(name, [{"notfound": True}])]
                )
            self.send_response(status)
            for key, value in {"Content-Length": str(len(text.encode())), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        httpd.state = Service(f"http://127.0.0.1:{httpd.server_port}/v3/query")
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield httpd.state
        httpd.shutdown()
        thread.join()


def test_hits_and_names_that_are_not_found(service):
    answers = ask(["PARK2", "TWICE", "NOPE", "PARK2", "a,b", ""], 9606, url=service.url, pace=QUICK)
    assert answers == {
        "PARK2": [Answer("ENSG00000185345", "5071", "PRKN")],
        "TWICE": [Answer(None, "2", "TWO"), Answer("ENSG02", "1", "ONE"), Answer("ENSG03", "1", "ONE")],
        "NOPE": [],
    }
    (form,) = service.asked
    assert form["path"] == "/v3/query"
    assert form["type"].startswith("application/x-www-form-urlencoded")
    assert (form["q"], form["species"]) == ("NOPE,PARK2,TWICE", "9606")
    assert form["fields"] == "symbol,entrezgene,ensembl.gene"
    assert {"symbol", "alias", "retired"} <= set(form["scopes"].split(","))


def test_nothing_to_ask_asks_nobody(service):
    assert ask([], 9606, url=service.url) == {}
    assert service.asked == []


def test_names_go_in_batches_with_a_pause_between(service, monkeypatch):
    monkeypatch.setattr(mygene_client, "BATCH", 10)
    names = [f"N{row:02}" for row in range(25)]
    seen = []

    def track(items, description, total):
        seen.append((description, total))
        return items

    pace = Pace(between=0.05)
    assert set(ask(reversed(names), 10090, url=service.url, pace=pace, track=track)) == set(names)
    assert [len(form["q"].split(",")) for form in service.asked] == [10, 10, 5]
    assert min(later - earlier for earlier, later in zip(service.times, service.times[1:], strict=False)) >= 0.05
    assert seen == [("asking MyGene.info", 3)]


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([(429, {"Retry-After": "0"}, "slow down")], id="busy"),
        pytest.param([(503, {}, ""), (502, {}, "")], id="failing twice"),
        pytest.param([(200, {}, "[{")], id="an answer cut short"),
        pytest.param([(200, {"Content-Length": "99"}, "[{")], id="a connection cut short"),
    ],
)
def test_a_failure_is_tried_again(service, before):
    service.before = list(before)
    assert ask(["P53"], 9606, url=service.url, pace=QUICK) == {"P53": [Answer("ENSG01", "7157", "TP53")]}
    assert len(service.asked) == len(before) + 1


def test_the_wait_grows_and_is_granted_up_to_a_limit():
    pace = Pace(first_wait=1, longest_wait=30)
    assert [pace.wait(failures, None) for failures in (1, 2, 3, 6)] == [1, 2, 4, 30]
    assert [pace.wait(1, asked) for asked in ("5", "900", "Wed, 21 Oct 2015 07:28:00 GMT")] == [5, 30, 1]


@pytest.mark.parametrize(
    ("always", "said", "tries"),
    [
        pytest.param((500, {}, "oops"), "status 500 Internal Server Error", 3, id="failing for ever"),
        pytest.param((429, {"Retry-After": "9999"}, ""), "status 429 Too Many Requests", 3, id="busy for ever"),
        pytest.param((404, {}, ""), "status 404 Not Found", 1, id="not there"),
        pytest.param((200, {}, "<html>"), "an answer that is no JSON", 3, id="no JSON"),
    ],
)
def test_a_service_that_does_not_answer_is_named_with_a_way_out(service, always, said, tries):
    service.always = always
    with pytest.raises(FetchError) as error:
        ask(["P53", "X"], 9606, url=service.url, pace=QUICK)
    message = str(error.value)
    assert message.startswith(f"MyGene.info ({service.url}) did not answer for 2 names (P53, X), tried {tries} times.")
    assert said in message
    assert (
        "Fix: try again with a network, take mygene out of the recipe (nodes.mygene=false), or give a file" in message
    )
    assert len(service.asked) == tries


def test_another_form_of_answer_is_no_answer(service):
    service.always = (200, {}, '{"success": false}')
    with pytest.raises(FetchError, match=r"answered in another form: found \"\{'success': False\}\", expected a list"):
        ask(["P53"], 9606, url=service.url, pace=QUICK)


def test_a_silent_service_is_given_up(service):
    service.delay = 0.3
    with pytest.raises(FetchError, match=r"tried 2 times(.|\n)*ReadTimeout"):
        ask(["P53"], 9606, url=service.url, pace=Pace(attempts=2, first_wait=0.01, timeout=0.05))


def test_without_a_network():
    with pytest.raises(FetchError, match=r"tried 2 times(.|\n)*ConnectionError(.|\n)*source\.aliases_hgnc=FILE"):
        ask(["P53"], 9606, url="http://127.0.0.1:9/v3/query", pace=Pace(attempts=2, first_wait=0.01))


def test_an_address_that_is_none():
    with pytest.raises(FetchError, match="InvalidSchema"):
        ask(["P53"], 9606, url="mygene.info:80/v3/query", pace=Pace(attempts=1))


def test_members_of_sets_in_json_are_asked_for(service, tmp_path):
    sets = written(tmp_path / "sets.json", '{"SET": {"geneSymbols": ["P53", "JUN"]}}')
    built = build_mygene(context_with({"gmt": sets}), MyGeneConfig(9606, service.url))
    assert built.tables["mygene_answer"]["name"].to_pylist() == ["P53"]


def test_all_lists_of_names_are_asked_for_once_and_only_what_nothing_joins(service, tmp_path):
    files = {
        "genes": written(tmp_path / "genes.txt", "TP53\ngapdh\nP53\nNOPE\na,b\n"),
        "gmt": written(tmp_path / "sets.gmt", "SET\tna\tP53\tINSET\tJUN\n"),
        "pairs_mine": written(tmp_path / "pairs.txt", "a\tb\tscore\nTP53\tINPAIR\t3\n"),
        "regulons_mine": written(tmp_path / "reg.csv", "tf,target,mor,confidence\nJUN,INREGULON,1,A\n"),
        "antibodies": written(tmp_path / "adt.txt", "CD4_TotalSeqB\nIgG1_control\nMARKER-1\n"),
    }
    built = build_mygene(context_with(files), MyGeneConfig(9606, service.url))
    assert fits(built)
    (form,) = service.asked
    assert form["q"].split(",") == [
        "CD4", "INPAIR", "INREGULON", "INSET", "MARKER", "MARKER-1", "NOPE", "P53",
    ]  # fmt: skip
    rows = built.tables["mygene_answer"].to_pylist()
    assert [row["name"] for row in rows] == form["q"].split(",")
    p53 = rows[-1]
    assert (p53["gene_id"], p53["entrez"], p53["symbol"], p53["taxon"]) == ("ENSG01", "7157", "TP53", 9606)
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", p53["asked_on"])
    assert {row["gene_id"] for row in rows[:-1]} == {None}
    assert tally(built, "mygene_answer") == {"matched": 1, "absent": 7, "unparsable": 1}
    assert [(match.name, match.outcome) for match in built.matches["mygene_answer"]] == [("a,b", "unparsable")]


def test_no_name_is_asked_for_twice(service, tmp_path):
    files = {"genes": written(tmp_path / "genes.txt", "P53\nNOPE\n")}
    config = MyGeneConfig(9606, service.url)
    first = build_mygene(context_with(files), config).tables["mygene_answer"]
    context = context_with(files | {"gmt": written(tmp_path / "sets.gmt", "SET\tna\tP53\tNEW\n")})
    context = type(context)(
        context.connection, "toy", "ucsc", context.chromosomes, context.resolve, context.given,
        former={"mygene_answer": first}.get,
    )  # fmt: skip
    again = build_mygene(context, config).tables["mygene_answer"]
    assert [form["q"] for form in service.asked] == ["NOPE,P53", "NEW"]
    assert again["name"].to_pylist() == ["NEW", "NOPE", "P53"]
    build_mygene(context, MyGeneConfig(10090, service.url))  # another species is another question
    assert service.asked[-1]["q"] == "NEW,NOPE,P53"


def test_a_build_asks_keeps_the_answers_and_joins_by_them(recipe, service, monkeypatch):
    for name, entrez, symbol in (("ALEPH", "1", "ALPHA"), ("NOGENE", "3", "GAMMA2")):
        hit = {"entrezgene": entrez, "symbol": symbol, "ensembl": {"gene": f"ENSG0000000000{entrez}"}}
        monkeypatch.setitem(GENES, name, [hit])
    names = written(recipe.with_name("names.txt"), "ALEPH\nBETA\nNOPE\n")
    off = ["nodes.peak=false", "edges.gene_peak=false", f"source.genes={names}"]
    sets = [*off, "nodes.mygene.taxon=9606", f"nodes.mygene.url={service.url}"]
    db = recipe.with_name("m.duckdb")
    with PriorStore.build(recipe, db, sets=sets, progress=False) as store:
        report = store.match_report("gene").set_index("name")
        assert report.loc["ALEPH", ["outcome", "detail"]].tolist() == [
            "mygene", "joined ENSG00000000001 (ALPHA), MyGene.info",
        ]  # fmt: skip
        assert report.loc["NOPE", "detail"] == "not in the annotation, nor known to MyGene.info"
        members = store.frame("gene_pathway")
        assert set(members["gene_id"]) == {"ENSG00000000001", "ENSG00000000002", "ENSG00000000003"}
        assert len(store.frame("mygene_answer")) == 3
        provenance = store.frame("provenance").query("table_name == 'mygene_answer'")
        assert provenance["source"].tolist() == ["MyGene.info"]
    assert len(service.asked) == 1
    names.write_text("ALEPH\nBETA\nNOPE\nMORE\n")
    with PriorStore.build(recipe, db, sets=sets, force=True, progress=False) as store:
        assert store.match_report("gene", "mygene")["name"].tolist() == ["ALEPH"]
    assert [form["q"] for form in service.asked] == ["ALEPH,NOGENE,NOPE", "MORE"]
    with PriorStore.build(recipe, db, sets=off, force=True, progress=False) as store:
        assert store.match_report("gene", "absent")["name"].tolist() == ["ALEPH", "NOPE", "MORE"]
        assert "mygene_answer" not in store.tables()
    assert len(service.asked) == 2  # never asked unless the recipe says so
