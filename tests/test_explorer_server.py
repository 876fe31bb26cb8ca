"""The explorer's server: which requests it answers, what with, and what it never gives away."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

import fsspec
import pytest
from explorers import JSON, Ear, Explorer, raw, wait_until
from stored import copied, put

import weightatlas as wa
from weightatlas.errors import ArgumentError
from weightatlas.explorer.asking import RECIPES
from weightatlas.explorer.listening import Hub
from weightatlas.explorer.reading import is_own, is_shown, plain_path

pytestmark = pytest.mark.usefixtures("one_thread")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-cache",
}
PICTURE = {"what": "picture", "layer": "down", "unit": 6, "recipe": "quick"}
WEIGHTS = {"what": "weights", "source": "stem", "target": "head"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page of its own, with a file of each kind and some that are none of it."""
    root = tmp_path_factory.mktemp("site")
    (root / "explorer" / "pages").mkdir(parents=True)
    (root / "index.html").write_text("<!doctype html><title>é</title>")
    for name in ("main.js", "look.css", "icon.svg", "pages/unit.js", "notes.txt", ".hidden.js"):
        (root / "explorer" / name).write_text(name)
    (root.parent / "outside.js").write_text("secret")
    (root / "explorer" / "link.js").symlink_to(root.parent / "outside.js")
    return root


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    folder = copied(tmp_path_factory.mktemp("served") / "atlas")
    (folder.parent / "secret").write_bytes(b"secret")
    return folder


@pytest.fixture(scope="module")
def server(atlas, site):
    with Explorer(atlas, site=site, names=["atlas.example.org"]) as running:
        yield running


class TestFiles:
    @pytest.mark.parametrize(
        ("path", "media"),
        [
            ("/", "text/html; charset=utf-8"),
            ("/index.html", "text/html; charset=utf-8"),
            ("/explorer/main.js", "text/javascript; charset=utf-8"),
            ("/explorer/pages/unit.js", "text/javascript; charset=utf-8"),
            ("/explorer/look.css", "text/css; charset=utf-8"),
            ("/explorer/icon.svg", "image/svg+xml"),
            ("/site.json", "application/json"),
            ("/atlas/atlas.json", "application/json"),
            ("/atlas/weights/blocks.0/stem/zarr.json", "application/json"),
            ("/atlas/weights/blocks.0/stem/values/c.3.0.0.0", "application/octet-stream"),
        ],
    )
    def test_each_has_its_media_type_its_tag_and_the_headers_that_keep_it_safe(self, server, path, media):
        answer = server.get(path)
        assert answer.status == 200
        assert answer.headers["content-type"] == media
        assert {k: answer.headers[k] for k in HEADERS} == HEADERS
        again = server.get(path, {"If-None-Match": f'"other", {answer.headers["etag"]}'})
        if path.endswith("site.json"):
            assert (again.status, again.body) == (304, b"")
        assert server.get(path, {"If-None-Match": answer.headers["etag"]}).status == 304
        head = server.get(path, method="HEAD")
        assert (head.status, head.body, head.headers["etag"]) == (200, b"", answer.headers["etag"])
        assert int(head.headers["content-length"]) == len(answer.body)

    def test_everything_in_an_atlas_is_served_byte_by_byte(self, server, atlas):
        paths = [p.relative_to(atlas).as_posix() for p in atlas.rglob("*") if p.is_file() and p.name != ".lock"]
        assert len(paths) > 100
        for path in paths:
            answer = server.get("/atlas/" + path)
            assert answer.body == (atlas / path).read_bytes(), path
            assert "server" not in answer.headers
        mosaic = next(p for p in paths if "@" in p and p.endswith(".webp"))
        assert server.get("/atlas/" + mosaic.replace("@", "%40")).headers["content-type"] == "image/webp"

    def test_a_tag_changes_with_the_content_though_size_and_time_are_the_same(self, server, atlas):
        before = server.get("/atlas/banding.json")
        about = (atlas / "banding.json").stat()
        put(atlas, "banding.json", before.body[:-1] + b" ")
        os.utime(atlas / "banding.json", ns=(about.st_atime_ns, about.st_mtime_ns))
        after = server.get("/atlas/banding.json", {"If-None-Match": before.headers["etag"]})
        assert (after.status, after.body) == (200, before.body[:-1] + b" ")
        put(atlas, "banding.json", before.body)

    @pytest.mark.parametrize(
        "path",
        [
            "/atlas/.lock", "/atlas/../secret", "/atlas/%2e%2e/secret", "/atlas/..%2fsecret", "/atlas/..%5csecret",
            "/atlas/%2e%2e%2fsecret", "//etc/passwd", "/atlas//etc/passwd", "/atlas/images/../atlas.json",
            "/atlas/./atlas.json", "/atlas/atlas.json%00", "/atlas/atlas.json%00.webp", "/atlas/%61tlas.json",
            "/atlas/atlas.json/", "/atlas", "/atlas/", "/atlas/images", "/atlas/secret", "/atlas/.atlas.json.0123456789abcdef",
            "/atlas/" + "a" * 5000, "/atlas/" + "a/" * 1000, "/atlas/%ff%fe", "/atlas/%", "/atlas\\..\\secret",
            "/atlas/weights/blocks.0/stem/values/c.99999.0.0.0", "/atlas/activations/0123abcd-00000/zarr.json",
            "/explorer/", "/explorer", "/explorer/notes.txt", "/explorer/.hidden.js", "/explorer/../index.html",
            "/explorer/link.js", "/explorer/%2e%2e/%2e%2e/outside.js", "/site.json/", "/index.htm", "/api", "/api/",
            "/api/none", "/atlas/images/stem/%2540/1.webp", "/atlas/ATLAS.JSON", "/atlas/weights/CON/x/zarr.json",
        ],
    )  # fmt: skip
    def test_what_is_no_file_of_an_atlas_or_the_page_does_not_exist(self, server, path):
        found = raw(
            server.port, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n".encode()
        )
        head, _, body = found.partition(b"\r\n\r\n")
        assert head.split()[1] in (b"404", b"400"), head
        assert b"secret" not in body
        if b" 404 " in head:
            assert set(json.loads(body)) == {"error"}
            assert b"content-security-policy" in head.lower()

    def test_links_that_lead_out_are_not_followed_and_those_inside_are(self, server, atlas, tmp_path):
        (tmp_path / "edges.json").write_text("secret")
        whole = (atlas / "edges.json").read_bytes()
        (atlas / "edges.json").unlink()
        try:
            (atlas / "edges.json").symlink_to(tmp_path / "edges.json")
            assert server.get("/atlas/edges.json").status == 404
            (atlas / "edges.json").unlink()
            (atlas / "edges.json").symlink_to(atlas / "atlas.json")
            assert server.get("/atlas/edges.json").body == (atlas / "atlas.json").read_bytes()
            (atlas / "edges.json").unlink()
            (atlas / "edges.json").symlink_to(atlas / "edges.json")  # a circle
            assert server.get("/atlas/edges.json").status == 404
            (atlas / "edges.json").unlink()
            os.mkfifo(atlas / "edges.json")
            assert server.get("/atlas/edges.json").status == 404
            (atlas / "edges.json").unlink()
            (atlas / "edges.json").mkdir()
            assert server.get("/atlas/edges.json").status == 404
            (atlas / "edges.json").rmdir()
            (tmp_path / "layers").mkdir()
            (tmp_path / "layers" / "units.json").write_text("secret")
            (atlas / "layers" / "x").symlink_to(tmp_path / "layers")
            assert server.get("/atlas/layers/x/units.json").status == 404
        finally:
            with contextlib.suppress(OSError):
                (atlas / "layers" / "x").unlink()
            with contextlib.suppress(OSError):
                (atlas / "edges.json").unlink()
            (atlas / "edges.json").write_bytes(whole)

    def test_an_atlas_that_is_itself_reached_by_a_link_is_served(self, atlas, tmp_path):
        (tmp_path / "here").symlink_to(atlas)
        with Explorer(tmp_path / "here") as server:
            assert server.get("/atlas/model.json").body == (atlas / "model.json").read_bytes()

    def test_an_atlas_in_a_bucket(self, atlas, site):
        system = fsspec.filesystem("memory")
        for file in (f for f in atlas.rglob("*") if f.is_file() and f.name != ".lock"):
            system.pipe_file(f"/served/{file.relative_to(atlas).as_posix()}", file.read_bytes())
        system.pipe_file("/secret", b"secret")
        with Explorer("memory://served", site=site) as server:
            answer = server.get("/atlas/layers/stem/units.json")
            assert answer.body == (atlas / "layers/stem/units.json").read_bytes()
            assert server.get("/atlas/layers/stem/units.json", {"If-None-Match": answer.headers["etag"]}).status == 304
            assert server.get("/atlas/../secret").status == 404
            assert server.post("/api/families", {"name": "n", "layer": "stem", "units": [1]}).status == 200
            assert server.post("/api/ask", WEIGHTS).status == 202
        system.rm("/served", recursive=True)

    def test_paths_are_plain_or_none(self):
        assert plain_path(b"/") == ""
        assert plain_path(b"/atlas/images/~mixed/display.positions%40a%7Eb/3.webp") == (
            "atlas/images/~mixed/display.positions@a~b/3.webp"
        )
        for path in (b"", b"x", b"//", b"/a//b", b"/a/", b"/.a", b"/a/../b", b"/a%2fb", b"/a b", b"/\xff"):
            assert plain_path(path) is None, path
        assert not any(map(is_own, ("explorer/../x.js", "explorer/.x.js", "x.js", "explorer/x.html", "explorer//x.js")))
        assert not any(
            map(is_shown, ("", "families.json.bak", "activations/0123abcd-00000/zarr.json", "a/../model.json"))
        )


class TestWhoMayAsk:
    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("127.0.0.1:{port}", 200), ("localhost:{port}", 200), ("LOCALHOST:{port}", 200), ("[::1]:{port}", 200),
            ("atlas.example.org", 200), ("atlas.example.org:{port}", 200), ("127.0.0.1", 421), ("localhost", 421),
            ("127.0.0.1:1", 421), ("evil.example", 421), ("evil.example:{port}", 421), ("127.0.0.1.evil.example:{port}", 421),
            ("localhost:{port}.evil.example", 421), ("", 421),
        ],
    )  # fmt: skip
    def test_only_a_server_s_own_names_lead_to_it(self, server, host, status):
        for path in ("/atlas/atlas.json", "/api/state", "/"):
            answer = server.get(path, {"Host": host.format(port=server.port)})
            assert answer.status == status
            assert {k: answer.headers[k] for k in list(HEADERS)[:-1]} == {k: HEADERS[k] for k in list(HEADERS)[:-1]}
        assert status == 200 or "address" in answer.json["error"]

    def test_no_host_or_two_are_refused(self, server):
        assert b" 400 " in raw(server.port, b"GET / HTTP/1.0\r\n\r\n").split(b"\n")[0]
        two = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        assert b" 400 " in raw(server.port, two.encode()).split(b"\n")[0]

    @pytest.mark.parametrize(
        ("headers", "allowed"),
        [
            ({"Origin": "http://127.0.0.1:{port}"}, True),
            ({"Origin": "http://localhost:{port}", "Sec-Fetch-Site": "same-origin"}, True),
            ({"Origin": "https://atlas.example.org", "Host": "atlas.example.org"}, True),
            ({"Sec-Fetch-Site": "same-origin"}, True),
            ({}, True),  # a program that is no browser, and says JSON
            ({"Content-Type": "text/plain"}, False),
            ({"Content-Type": ""}, False),
            ({"Origin": "null"}, False),
            ({"Origin": ""}, False),
            ({"Origin": "http://evil.example"}, False),
            ({"Origin": "http://127.0.0.1:1"}, False),
            ({"Origin": "https://127.0.0.1:{port}"}, False),
            ({"Origin": "http://127.0.0.1:{port}.evil.example"}, False),
            ({"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "cross-site"}, False),
            ({"Sec-Fetch-Site": "cross-site"}, False),
            ({"Sec-Fetch-Site": "same-site"}, False),
            ({"Sec-Fetch-Site": "none"}, False),
        ],
    )
    def test_nothing_is_changed_for_another_page(self, server, headers, allowed):
        headers = {k: v.format(port=server.port) for k, v in headers.items()}
        family = {"name": "mine", "layer": "stem", "units": [1]}
        posted = server.post("/api/families", family, **headers)
        assert posted.status == (200 if allowed else 403), posted.body
        server.post("/api/families", family)
        dropped = server.delete("/api/families?name=mine", **headers)
        assert dropped.status == (200 if allowed else 403)
        assert server.delete("/api/families?name=mine").status == (404 if allowed else 200)

    def test_another_page_reads_nothing_either_but_may_link_here(self, server):
        other = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        assert server.get("/api/events", other).status == 403
        assert server.get("/atlas/atlas.json", other).status == 403
        assert server.get("/", {**other, "Sec-Fetch-Mode": "navigate"}).status == 200
        assert "access-control-allow-origin" not in server.get("/atlas/atlas.json").headers

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "POST", "DELETE", "TRACE", "BREW"])
    @pytest.mark.parametrize("path", ["/", "/atlas/atlas.json", "/api/state", "/api/events", "/site.json"])
    def test_other_methods_are_not_possible(self, server, method, path):
        answer = server.get(path, JSON, method=method)
        assert (answer.status, set(answer.json)) == (405, {"error"})

    @pytest.mark.parametrize(
        ("path", "allow"),
        [("/api/ask", "POST"), ("/api/families", "POST, DELETE"), ("/api/image", "POST"), ("/api/look", "POST")],
    )
    def test_what_can_only_be_sent_cannot_be_read(self, server, path, allow):
        answer = server.get(path)
        assert (answer.status, answer.headers["allow"]) == (405, allow)


class TestRefusedAsk:
    @pytest.mark.parametrize(
        ("ask", "status", "words"),
        [
            ({**PICTURE, "layer": "dwn"}, 404, "nearest: 'down'"),
            ({**PICTURE, "layer": "<img src=x>"}, 404, "<img src=x>"),
            ({**PICTURE, "layer": "\ud800"}, 404, "no layer"),
            ({**PICTURE, "unit": 7}, 404, "0 to 6"),
            ({**PICTURE, "unit": -1}, 404, "0 to 6"),
            ({**PICTURE, "unit": 10**30}, 404, "0 to 6"),
            ({**PICTURE, "recipe": "displays"}, 404, "nearest: 'display'"),
            ({**PICTURE, "recipe": "own-12345678"}, 404, "there are: 'quick'"),
            ({**WEIGHTS, "source": "sten"}, 404, "nearest: 'stem'"),
            ({**WEIGHTS, "target": "input"}, 404, "no layer"),
            ({**WEIGHTS, "source": "head", "target": "stem"}, 400, "forward"),
            ({**WEIGHTS, "source": "head"}, 400, "itself"),
            ({**PICTURE, "unit": True}, 400, "'unit'"),
            ({**PICTURE, "unit": "6"}, 400, "'unit'"),
            ({**PICTURE, "unit": 6.0}, 400, "'unit'"),
            ({**PICTURE, "layer": ["down"]}, 400, "'layer'"),
            ({"what": "picture"}, 400, "'layer'"),
            ({"what": "paths"}, 400, "must be like"),
            ({"what": ["picture"]}, 400, "must be like"),
            ([], 400, "must be like"),
            (None, 400, "must be like"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_had_is_told_in_a_sentence(self, server, ask, status, words):
        answer = server.post("/api/ask", ask)
        assert answer.status == status, answer.body
        assert words in answer.json["error"]
        assert "Traceback" not in answer.json["error"]
        assert server.asked == []

    @pytest.mark.parametrize(
        ("body", "headers", "status"),
        [
            ("{", JSON, 400), ("", JSON, 400), ("\xff", JSON, 400), ("[" * 5000, JSON, 400), ("NaN", JSON, 400),
            (json.dumps(PICTURE), {"Content-Type": "application/json; charset=utf-8"}, 202),
            (" " * 16_300 + "{}", JSON, 400), (" " * 20_000, JSON, 413),
            (json.dumps(PICTURE), {"Content-Type": "text/plain", "Sec-Fetch-Site": "same-origin"}, 415),
            (json.dumps(PICTURE), {"Content-Type": "application/json-seq", "Sec-Fetch-Site": "same-origin"}, 415),
        ],
    )  # fmt: skip
    def test_bodies_are_small_and_json(self, server, body, headers, status):
        answer = server.get("/api/ask", headers, "POST", body)
        assert (answer.status, "error" in answer.json) == (status, status != 202)

    def test_a_body_without_a_length_is_counted_as_it_comes(self, server):
        head = f"POST /api/ask HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
        chunks = b"".join(b"1000\r\n" + b" " * 4096 + b"\r\n" for _ in range(6))
        found = raw(
            server.port,
            head.encode() + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks + b"0\r\n\r\n",
        )
        assert b" 413 " in found.split(b"\n")[0]


class TestAsk:
    @pytest.fixture
    def server(self, atlas, site):
        with Explorer(atlas, site=site, model="small") as running:
            yield running

    def test_it_is_passed_on_once_and_told_to_everyone(self, server):
        ear = Ear(server.port)
        ear.wait("state", lambda s: s["waiting"] == 0)
        for waiting, ask in [(1, PICTURE), (1, PICTURE), (2, {**PICTURE, "unit": 5}), (3, WEIGHTS), (3, PICTURE)]:
            answer = server.post("/api/ask", ask)
            assert (answer.status, answer.json) == (202, {"ask": ask, "waiting": waiting})
        assert [{k: v for k, v in a.items() if k != "ask"} for a in server.asked] == [
            PICTURE, {**PICTURE, "unit": 5}, WEIGHTS
        ]  # fmt: skip
        assert len({a["ask"] for a in server.asked}) == 3
        ear.wait("state", lambda s: s["waiting"] == 3)
        assert server.get("/api/state").json == {"builder": "starting", "about": "", "done": 0, "of": 0, "waiting": 3}
        ear.close()

    def test_what_is_there_is_told_at_once_and_not_asked_for(self, server, atlas):
        row = next(r for r in json.loads((atlas / "atlas.json").read_bytes())["pairs"] if r["made"])
        ask = {"what": "weights", "source": row["source"], "target": row["target"]}
        ear = Ear(server.port)
        ear.wait("state")
        assert server.post("/api/ask", ask).json == {"ask": ask, "waiting": 0}
        assert ear.wait("made") == ask
        assert server.asked == []
        ear.close()

    def test_too_many_are_told_to_come_again(self, server, monkeypatch):
        monkeypatch.setattr("weightatlas.explorer.desk.WAITING", 3)
        for unit in range(3):
            assert server.post("/api/ask", {**PICTURE, "unit": unit}).status == 202
        answer = server.post("/api/ask", PICTURE)
        assert (answer.status, answer.headers["retry-after"]) == (429, "5")
        assert server.post("/api/ask", {**PICTURE, "unit": 0}).status == 202  # one that waits already

    def test_without_a_builder_it_says_why(self, atlas, site):
        with Explorer(atlas, site=site, why="nothing here") as server:
            answer = server.post("/api/ask", PICTURE)
            assert (answer.status, answer.json) == (409, {"error": "nothing here"})
            assert server.get("/api/state").json["builder"] == "none"
            about = server.get("/site.json").json
            assert about["can"] == {"pictures": False, "weights": False, "families": True, "images": False}
            assert (about["why"], about["images"]["why"], about["recipes"]) == ("nothing here", "nothing here", [])

    def test_the_site_tells_what_can_be_asked(self, server):
        assert server.get("/site.json").json == {
            "live": True, "version": wa.__version__,
            "can": {"pictures": True, "weights": True, "families": True, "images": True},
            "why": "", "recipes": list(RECIPES), "families": [], "trouble": "",
            "images": {"why": "", "bytes": 20 * 2**20, "pixels": 50_000_000},
        }  # fmt: skip
        family = {"name": "n", "layer": "stem", "units": [1]}
        server.post("/api/families", family)
        assert server.get("/site.json").json["families"] == [{**family, "by": "people"}]
        server.delete("/api/families?name=n")

    def test_a_damaged_overview_is_told_and_nothing_more(self, tmp_path, site):
        folder = copied(tmp_path / "atlas")
        with Explorer(folder, site=site) as server:
            put(folder, "atlas.json", b"{")
            answer = server.post("/api/ask", PICTURE)
            assert answer.status == 503
            assert "damaged" in answer.json["error"]


class TestFamilies:
    def test_they_are_named_and_forgotten_and_kept_in_the_atlas(self, server, atlas):
        answer = server.post("/api/families", {"name": "a & <b>", "layer": "stem", "units": [3, 1, 3]})
        expected = {"name": "a & <b>", "layer": "stem", "units": [1, 3], "by": "people"}
        assert (answer.status, answer.json) == (200, {"families": [expected]})
        assert wa.Atlas(atlas).families[0] == expected
        assert server.delete("/api/families?name=a%20%26%20%3Cb%3E").json == {"families": []}
        assert server.delete("/api/families?name=none").status == 404
        for path in ("/api/families", "/api/families?name=a&name=b"):
            assert server.delete(path).status == 400

    @pytest.mark.parametrize(
        ("family", "status"),
        [
            ({"name": "", "layer": "stem", "units": [1]}, 400), ({"name": "x" * 201, "layer": "stem", "units": [1]}, 400),
            ({"name": "x", "layer": "stem", "units": []}, 400), ({"name": "x", "layer": "stem", "units": [True]}, 400),
            ({"name": "x", "layer": "stem", "units": "1"}, 400), ({"name": "x", "layer": "none", "units": [1]}, 404),
            ({"name": "x", "layer": "stem", "units": [6]}, 404), ({"name": 1, "layer": "stem", "units": [1]}, 400), ([], 400),
        ],
    )  # fmt: skip
    def test_others_are_refused(self, server, atlas, family, status):
        answer = server.post("/api/families", family)
        assert answer.status in (status, 400), answer.body
        assert answer.json["error"]
        assert not [f for f in wa.Atlas(atlas).families if f["by"] == "people"]


class TestEvents:
    def test_the_state_comes_first_then_what_happens_then_signs_of_life(self, atlas):
        with Explorer(atlas, hub=Hub(heartbeat=0.1)) as server:
            ear = Ear(server.port)
            assert ear.answer.getheader("Content-Type") == "text/event-stream"
            assert ear.answer.getheader("Content-Security-Policy")
            ear.wait("heartbeat")
            server.within(server.desk.hub.tell, "made", {"what": "picture", "layer": "a\nevent: b", "units": [1]})
            assert ear.wait("made")["layer"] == "a\nevent: b"
            assert [name for name, _ in ear.heard if name != "heartbeat"] == ["state", "made"]
            ear.close()
            wait_until(lambda: server.desk.hub.listeners == 0)

    def test_an_overview_that_another_process_writes_is_noticed(self, tmp_path, monkeypatch):
        monkeypatch.setattr("weightatlas.explorer.desk.LOOK_EVERY", 0.05)
        folder = copied(tmp_path / "atlas")
        with Explorer(folder) as server:
            ear = Ear(server.port)
            ear.wait("state")
            time.sleep(0.3)
            assert "updated" not in dict(ear.heard)
            put(folder, "atlas.json", (folder / "atlas.json").read_bytes())
            assert ear.wait("updated") == {}
            ear.close()

    def test_only_so_many_listen(self, atlas):
        with Explorer(atlas, hub=Hub(most=2)) as server:
            ears = [Ear(server.port) for _ in range(2)]
            wait_until(lambda: server.desk.hub.listeners == 2)
            answer = server.get("/api/events")
            assert (answer.status, "close some" in answer.json["error"]) == (503, True)
            ears.pop().close()
            wait_until(lambda: server.desk.hub.listeners == 1)
            ears.append(Ear(server.port))
            ears[-1].wait("state")
            for ear in ears:
                ear.close()

    def test_who_does_not_read_is_let_go_and_holds_up_nobody(self, atlas):
        with Explorer(atlas, hub=Hub(behind=8, patience=0.5)) as server, socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", server.port))
            deaf.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
            wait_until(lambda: server.desk.hub.listeners == 1)
            ear = Ear(server.port)
            for number in range(200):
                server.within(server.desk.hub.tell, "made", {"what": "x" * 100_000, "number": number})
                ear.wait("made", lambda made, n=number: made["number"] == n)
            assert server.desk.hub.listeners == 1
            assert server.get("/api/state").status == 200
            ear.close()

    def test_they_end_with_the_server(self, atlas):
        with Explorer(atlas) as server:
            ear = Ear(server.port)
            ear.wait("state")
        assert ear.closed.wait(5)
        ear.close()


class TestStart:
    def test_everywhere_needs_names(self, atlas):
        with pytest.raises(ArgumentError, match="allow-host"):
            wa.serve(atlas, host="0.0.0.0", build=False)

    @pytest.mark.parametrize("port", [-1, 65536, True, "80", 1.5])
    def test_ports_are_numbers(self, atlas, port):
        with pytest.raises(ArgumentError, match="0 to 65535"):
            wa.serve(atlas, port=port, build=False)

    def test_a_port_that_is_taken_is_told(self, atlas, server):
        with pytest.raises(ArgumentError, match=f"port {server.port} .* is taken"):
            wa.serve(atlas, port=server.port, build=False)

    def test_there_must_be_an_atlas(self, tmp_path):
        with pytest.raises(wa.WeightAtlasError, match=r"has no atlas\.json"):
            wa.serve(tmp_path, build=False)

    def test_the_server_never_loads_torch(self, atlas):
        code = f"""
import sys, threading, http.client, weightatlas as wa
stop = threading.Event()
def ready(address):
    def look():
        c = http.client.HTTPConnection(address[7:-1])
        for path in ("/", "/atlas/atlas.json", "/api/state", "/site.json", "/atlas/weights/blocks.0/stem/values/c.3.0.0.0"):
            c.request("GET", path); a = c.getresponse(); a.read(); print(a.status)
        c.request("POST", "/api/families", '{{"name": "n", "layer": "stem", "units": [1]}}', {{"Content-Type": "application/json"}})
        print(c.getresponse().status)
        c.close(); stop.set()
    threading.Thread(target=look).start()
wa.serve({str(atlas)!r}, build=False, port=0, ready=ready, stop=stop)
print([m for m in ("torch", "zarr", "rich", "typer") if m in sys.modules])
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.split("\n") == ["200"] * 6 + ["[]", ""], done.stderr
