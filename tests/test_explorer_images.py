"""Readers' images: what the server takes in and refuses, what becomes of the process that looks at them, what it answers."""

import base64
import io
import json
import os
import re
import signal
import socket
import struct
import threading
import time
import zlib
from pathlib import Path

import atlases
import numpy as np
import pytest
import torch
from explorers import Explorer, raw, wait_until
from PIL import Image
from stored import copied

import weightatlas as wa
from weightatlas.builder.looking import session as looking
from weightatlas.builder.looking.kept import Kept
from weightatlas.builder.looking.session import Session
from weightatlas.explorer import imaging, looker
from weightatlas.explorer.desk import seen_by
from weightatlas.lens.reading import FORMATS, picture_from

pytestmark = pytest.mark.usefixtures("one_thread")
PNG = {"Content-Type": "image/png"}
TOKEN = "0" * 20
SIDE = atlases.SIDE


def encoded(pixels, kind="PNG", **more):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **more)
    return file.getvalue()


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    return copied(tmp_path_factory.mktemp("images") / "atlas")


@pytest.fixture
def fake(monkeypatch):
    """The server's child is the one in fakelooker.py."""
    monkeypatch.setattr(looker, "MODULE", "fakelooker")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def server(atlas, fake):
    with Explorer(atlas, model="small") as running:
        yield running


def upload(server, data, headers=PNG):
    return server.get("/api/image", headers, "POST", data)


class TestFormats:
    def test_the_documentation_names_all_that_are_read_and_no_others(self):
        words = (Path(__file__).parents[1] / "docs" / "explorer.md").read_text()
        [listed] = re.findall(r"megapixels; ([^.;]*)\. A process", words)
        named = {name.strip() for name in re.sub(r" and its kin.*", "", listed).replace(" or ", " ").split(",")}
        assert named == {{"JPEG2000": "JPEG 2000", "WEBP": "WebP"}.get(f, f) for f in FORMATS}

    @pytest.mark.parametrize("kind", FORMATS)
    def test_pictures_of_each_are_read(self, kind):
        pixels = np.full((6, 5, 3), 77, np.uint8)
        assert np.abs(picture_from(encoded(pixels, kind)).astype(int) - 77).max() <= 3

    def test_the_page_offers_each(self):
        words = (Path(imaging.__file__).parent / "site/explorer/pages/lens/zone.js").read_text()
        offered = re.search(r'const TAKEN = "([^"]*)"', words)[1].split(",")
        kinds = {Image.MIME[f] for f in FORMATS if f != "PPM"} | {".ppm", ".pgm", ".pbm", ".jp2"}
        assert kinds <= set(offered)


class TestTakenIn:
    def test_the_process_is_started_by_the_first_image_and_only_once(self, server):
        assert not server.desk.looker.process.running
        gone = server.post("/api/look", {"what": "image", "image": TOKEN})
        assert (gone.status, gone.json["image"]) == (200, None)
        lost = server.post("/api/look", {"what": "layer", "image": TOKEN, "layer": "stem"})
        assert (lost.status, "drop this one again" in lost.json["error"]) == (410, True)
        assert not server.desk.looker.process.running
        first, second = upload(server, b"x" * 1000), upload(server, b"y")
        assert (first.status, first.json["bytes"], second.json["bytes"]) == (200, 1000, 1)
        assert first.json["pid"] == second.json["pid"]
        assert first.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Content-Type": "application/octet-stream"}, 200),
            ({"Content-Type": "image/jpeg", "Origin": "http://127.0.0.1:{port}"}, 200),
            ({"Content-Type": "application/json"}, 415),
            ({"Content-Type": "text/plain", "Sec-Fetch-Site": "same-origin"}, 415),
            ({"Content-Type": "multipart/form-data", "Origin": "http://127.0.0.1:{port}"}, 415),
            ({"Content-Type": "text/plain"}, 403),
            ({"Content-Type": "image/png", "Origin": "http://evil.example"}, 403),
            ({"Content-Type": "image/png", "Origin": "null"}, 403),
            ({"Content-Type": "image/png", "Sec-Fetch-Site": "cross-site"}, 403),
            ({"Content-Type": "image/png", "Host": "evil.example"}, 421),
            ({}, 403),
        ],
    )
    def test_only_from_the_page_itself_or_a_program_and_only_as_an_image(self, server, headers, status):
        answer = upload(server, b"x", {k: v.format(port=server.port) for k, v in headers.items()})
        assert (answer.status, "error" in answer.json) == (status, status != 200)
        assert server.desk.looker.process.running is (status == 200)

    def test_files_are_limited_by_what_they_say_and_by_what_comes(self, server, monkeypatch):
        head = f"POST /api/image HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: image/png\r\n"
        told = raw(server.port, f"{head}Content-Length: {20 * 2**20 + 1}\r\nConnection: close\r\n\r\n".encode())
        assert b" 413 " in told.split(b"\n")[0]
        assert b"at most 20 MiB" in told
        monkeypatch.setattr(imaging, "MOST_BYTES", 2**20)
        chunks = b"10000\r\n" + b" " * 2**16 + b"\r\n"
        told = raw(server.port, f"{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode() + chunks * 17)
        assert b" 413 " in told.split(b"\n")[0]
        assert upload(server, b"").status == 422
        assert not server.desk.looker.process.running

    def test_slow_files_are_cut_off_and_hold_up_nobody_else(self, server, monkeypatch):
        monkeypatch.setattr(imaging, "SLOWEST", 1.0)
        head = f"POST /api/image HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\n"
        slow = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(looker.UPLOADS)]
        for one in slow:
            one.sendall(head.encode() + b"x")
        wait_until(lambda: server.desk.looker.uploading.locked())
        answer = upload(server, b"x")
        assert (answer.status, answer.headers["retry-after"]) == (429, "5")
        assert server.get("/api/state").status == 200
        for one in slow:
            assert b" 408 " in one.recv(2**16).split(b"\n")[0]
            one.close()
        assert upload(server, b"x").status == 200

    @pytest.mark.parametrize(
        "ask",
        [
            [], None, {}, {"what": "look", "data": ""}, {"what": ["image"]}, {"what": "image"}, {"what": "image", "image": 3},
            {"what": "image", "image": "../../etc/passwd"}, {"what": "image", "image": "0" * 19 + "g"},
            {"what": "layer", "image": TOKEN}, {"what": "layer", "image": TOKEN, "layer": ["stem"]},
            {"what": "layer", "image": TOKEN, "layer": "stem", "at": [1]}, {"what": "layer", "image": TOKEN, "layer": "stem", "at": [1, -1]},
            {"what": "unit", "image": TOKEN, "layer": "stem"}, {"what": "unit", "image": TOKEN, "layer": "stem", "unit": True},
            {"what": "unit", "image": TOKEN, "layer": "stem", "unit": 10**30},
            {"what": "explain", "image": TOKEN, "layer": "stem", "unit": 1, "method": "lime"},
            {"what": "explain", "image": TOKEN, "layer": "stem", "unit": 1, "k": 17},
            {"what": "explain", "image": TOKEN, "layer": "stem", "unit": 1, "source": ""},
        ],
    )  # fmt: skip
    def test_questions_have_a_shape(self, server, ask):
        answer = server.post("/api/look", ask)
        assert answer.status == 400, answer.body
        assert answer.json["error"]

    def test_without_a_network_it_says_why(self, atlas):
        with Explorer(atlas, why="nothing here") as server:
            for answer in (upload(server, b"x"), server.post("/api/look", {"what": "image", "image": TOKEN})):
                assert (answer.status, answer.json) == (409, {"error": "nothing here"})

    def test_a_network_that_cannot_be_opened_is_told_to_all_from_then_on(self, atlas, fake):
        with Explorer(atlas, model="stranger") as server:
            assert server.get("/site.json").json["can"]["images"] is True
            answer = upload(server, b"x")
            assert (answer.status, answer.json["error"]) == (409, "no model 'stranger'")
            about = server.get("/site.json").json
            assert (about["can"]["images"], about["images"]["why"]) == (False, "no model 'stranger'")
            assert upload(server, b"x").status == 409

    def test_a_network_without_images_is_known_without_opening_it(self, atlas, monkeypatch):
        with Explorer(atlas, model="small") as server:
            before = server.desk.manifest
            monkeypatch.setattr(server.desk, "manifest", lambda: {**before(), "input": {"shape": [40]}})
            about = server.get("/site.json").json
            assert about["can"]["images"] is False
            assert "shape [40]" in about["images"]["why"]


class TestItsProcess:
    def test_errors_are_passed_on(self, server):
        answer = upload(server, b"bad")
        assert (answer.status, answer.json) == (422, {"error": "no picture"})

    def test_one_that_dies_costs_its_images_and_the_next_image_starts_another(self, server):
        before = upload(server, b"x").json["pid"]
        answer = upload(server, b"die")
        assert answer.status == 503
        assert "ended with status 7; the images that were looked at are gone" in answer.json["error"]
        assert server.post("/api/look", {"what": "image", "image": TOKEN}).json["image"] is None
        after = upload(server, b"x").json["pid"]
        assert after != before
        os.kill(after, signal.SIGKILL)
        wait_until(lambda: not server.desk.looker.process.running)
        assert server.post("/api/look", {"what": "unit", "image": TOKEN, "layer": "stem", "unit": 0}).status == 410
        assert upload(server, b"x").status == 200

    def test_what_takes_too_long_is_given_up(self, server, monkeypatch):
        upload(server, b"x")
        monkeypatch.setattr(looker, "LONGEST", 0.3)
        answer = upload(server, b"hang")
        assert (answer.status, "took too long" in answer.json["error"]) == (504, True)
        assert not server.desk.looker.process.running
        monkeypatch.setattr(looker, "LONGEST", 20.0)
        assert upload(server, b"x").status == 200

    def test_only_so_many_wait_and_those_who_leave_are_not_answered(self, server, monkeypatch):
        upload(server, b"x")
        monkeypatch.setattr(looker, "WAITING", 3)
        monkeypatch.setattr(looker, "UPLOADS", 9)
        monkeypatch.setattr(looker, "LOOK_EVERY", 0.02)
        slow = threading.Thread(target=upload, args=(server, b"slow"))
        slow.start()
        wait_until(lambda: server.desk.looker.waiting == 1)
        body = json.dumps({"what": "image", "image": TOKEN}).encode()
        head = f"POST /api/look HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        others = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(2)]
        for one in others:
            one.sendall(head.encode() + body)
        wait_until(lambda: server.desk.looker.waiting == 3)
        answer = server.post("/api/look", {"what": "image", "image": TOKEN})
        assert (answer.status, answer.headers["retry-after"]) == (429, "5")
        for one in others:
            one.close()
        wait_until(lambda: server.desk.looker.waiting == 1)  # before the slow one is done
        slow.join()
        assert server.post("/api/look", {"what": "image", "image": TOKEN}).status == 200

    def test_one_that_works_for_nobody_is_told_so(self, server, monkeypatch):
        upload(server, b"x")
        monkeypatch.setattr(looker, "LOOK_EVERY", 0.02)
        head = f"POST /api/image HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: image/png\r\nContent-Length: 5\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port), 10) as one:
            one.sendall(head.encode() + b"leave")
            wait_until(lambda: server.desk.looker.waiting == 1)
        wait_until(lambda: server.desk.looker.waiting == 0)  # the process goes on only because it was told
        assert upload(server, b"x").status == 200

    def test_it_ends_with_the_server(self, atlas, fake):
        with Explorer(atlas, model="small") as server:
            pid = upload(server, b"x").json["pid"]
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


class Out:
    """What a session tells."""

    def __init__(self):
        self.told = []

    def tell(self, told, **content):
        self.told.append((told, content))


class Looking:
    """A session on the small network, asked in this process."""

    def __init__(self, monkeypatch, **order):
        net = atlases.opened()
        manifest = {"model": {"name": "small", "weights_hash": net.weights_hash}, "input": looking.as_json(net.input)}
        monkeypatch.setattr(looking, "load", lambda name, weights: net)
        monkeypatch.setattr(looking, "use_threads", lambda count: None)
        self.out = Out()
        self.session = Session(seen_by(manifest) | order, Ended(), self.out)
        self.session.run()

    def ask(self, **ask):
        """(status, content) of an answer."""
        self.session.answer({"ask": 1, **ask})
        told = self.out.told[-1][1]
        return (200, json.loads(told["content"])) if "content" in told else (told["status"], told["error"])

    def look(self, data):
        return self.ask(what="look", data=base64.b64encode(data).decode())


class Ended:
    """An inbox in which nothing comes, but perhaps that somebody has left."""

    def __init__(self):
        self.ended, self.waiting = threading.Event(), []

    def first(self):
        return None

    def holds(self, message):
        return message in self.waiting


@pytest.fixture
def looked(monkeypatch):
    return Looking(monkeypatch)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


class TestAnswers:
    def test_the_picture_is_what_the_network_saw_and_the_last_layer_says_what_it_is(self, looked, picture):
        status, told = looked.look(encoded(picture))
        assert status == 200
        with Image.open(io.BytesIO(base64.b64decode(told["picture"].partition(",")[2]))) as seen:
            assert np.abs(np.asarray(seen).astype(int) - picture).max() <= 1
        assert (told["size"], told["file"]) == ([SIDE, SIDE], [SIDE, SIDE])
        with torch.no_grad():
            out = atlases.opened().module(atlases.opened().preprocess(picture[None]))[0].numpy()
        assert [u for u, *_ in told["last"]["top"]] == np.argsort(-out).tolist()
        assert [v for _, v, *_ in told["last"]["top"]] == pytest.approx(np.sort(out)[::-1], rel=1e-4)
        assert [row[:4] for row in told["layers"] if row[0] in ("stem", "down", "head")] == [
            ["stem", 6, 20, 20], ["down", 7, 10, 10], ["head", 5, 1, 1]
        ]  # fmt: skip
        assert looked.ask(what="image", image=told["image"]) == (200, told)

    def test_maps_and_sums_are_those_of_the_package(self, looked, picture):
        net, image = atlases.opened(), looked.look(encoded(picture))[1]["image"]
        maps = wa.activations(net, picture[None], ["down"])["down"][0]
        _, layer = looked.ask(what="layer", image=image, layer="down", at=[3, 4])
        assert [u for u, *_ in layer["top"]] == np.argsort(-maps[:, 3, 4]).tolist()
        assert layer["strength"]["values"] == pytest.approx(np.linalg.norm(maps, axis=0).ravel(), rel=1e-4)
        _, unit = looked.ask(what="unit", image=image, layer="down", unit=2)
        assert unit["map"]["values"] == pytest.approx(maps[2].ravel(), rel=1e-4)
        assert unit["at"] == list(np.unravel_index(maps[2].argmax(), maps[2].shape))
        a = wa.attributions(net, picture, "down:2", at=(3, 4))
        _, told = looked.ask(what="explain", image=image, layer="down", unit=2, at=[3, 4], k=2)
        assert (told["method"], told["source"], told["at"]) == ("exact", a.source, [3, 4])
        assert [told[n] for n in ("value", "base", "total")] == pytest.approx([a.value, a.base, a.total], rel=1e-5)
        up, down = a.pushed(2)
        assert [[one["unit"] for one in told[side]] for side in ("up", "down")] == [up, down]
        top, left, bottom, right = told["window"]
        for one in told["up"] + told["down"]:
            values = {
                n: np.reshape(one[n]["values"], (bottom - top, right - left)) for n in ("weights", "patch", "product")
            }
            assert values["product"] == pytest.approx(values["weights"] * values["patch"], rel=1e-3, abs=1e-6)
            assert one["sum"] == pytest.approx(a.by_unit[one["unit"]], rel=1e-5)
            assert tuple(one["place"]) == a.strongest_place(one["unit"])
        assert told["raised"] + told["lowered"] == pytest.approx(told["total"], rel=1e-5)
        assert (told["further"], told["ended"]) == ("blocks.1", "")
        _, told = looked.ask(what="explain", image=image, layer="head", unit=1)
        assert told["further"] == ""
        assert told["ended"].startswith("what 'head' reads is no layer's output")

    def test_what_was_answered_is_not_computed_again(self, looked, picture, monkeypatch):
        image = looked.look(encoded(picture))[1]["image"]
        ask = {"what": "explain", "image": image, "layer": "down", "unit": 2}
        first = looked.ask(**ask)
        monkeypatch.setattr(looking, "step", None)
        assert looked.ask(**ask) == first

    def test_integrals_end_when_nobody_waits_or_they_take_too_long(self, looked, picture, monkeypatch):
        image = looked.look(encoded(picture))[1]["image"]
        ask = {"what": "explain", "image": image, "layer": "head", "unit": 2, "method": "integrated_gradients"}
        looked.session.inbox.waiting.append({"left": 7})
        assert looked.ask(**ask)[0] == 200
        looked.session.inbox.waiting.append({"left": 1})
        assert looked.ask(**ask)[0] == 200  # answered already
        status, words = looked.ask(**ask, k=2)
        assert (status, words) == (422, "nobody waits for this answer any more")
        looked.session.inbox.waiting.clear()
        monkeypatch.setattr(looking, "LONGEST", -1.0)
        assert "weightatlas explain" in looked.ask(**ask, k=2)[1]

    def test_eight_images_are_kept_those_used_last(self, looked, picture):
        tokens = [looked.look(encoded(np.roll(picture, n, 0)))[1]["image"] for n in range(8)]
        assert looked.ask(what="image", image=tokens[0])[1]["image"] == tokens[0]
        ninth = looked.look(encoded(np.roll(picture, 9, 0)))[1]["image"]
        there = [bool(looked.ask(what="image", image=t)[1]["image"]) for t in (*tokens, ninth)]
        assert there == [True, False] + [True] * 7
        status, words = looked.ask(what="layer", image=tokens[1], layer="down")
        assert (status, words) == (410, "this image is not in memory any more; drop it again")
        assert looked.look(encoded(np.roll(picture, 1, 0)))[1]["image"] == tokens[1]  # found again by the same address

    def test_answers_are_kept_up_to_a_size(self):
        kept = Kept(10)
        for name, size in (("a", 4), ("b", 4), ("huge", 11)):
            kept.put(name, name, size)
        assert [kept.get(n) for n in ("b", "a", "huge")] == ["b", "a", None]
        kept.put("c", "c", 4)
        assert [kept.get(n) for n in ("a", "b", "c")] == ["a", None, "c"]

    @pytest.mark.parametrize(
        ("ask", "status", "words"),
        [
            ({"what": "layer", "layer": "dwn"}, 404, "nearest: 'down'"),
            ({"what": "layer", "layer": "down", "at": [99, 0]}, 404, "grid is 10 × 10"),
            ({"what": "unit", "layer": "down", "unit": 7}, 404, "0 … 6"),
            ({"what": "explain", "layer": "down", "unit": 7}, 404, "7"),
            ({"what": "explain", "layer": "down", "unit": 1, "at": [99, 0]}, (400, 404), "99"),
            ({"what": "explain", "layer": "down", "unit": 1, "source": "head"}, 400, "head"),
            ({"what": "explain", "layer": "down", "unit": 1, "source": "stem", "method": "exact"}, 400, "exact"),
        ],
    )  # fmt: skip
    def test_what_does_not_exist_is_told(self, looked, picture, ask, status, words):
        image = looked.look(encoded(picture))[1]["image"]
        found, told = looked.ask(image=image, **ask)
        assert found in np.atleast_1d(status), told
        assert words in told

    def test_numbers_that_are_none_are_none(self, looked, picture, monkeypatch):
        image = looked.look(encoded(picture))[1]["image"]
        broken = wa.activations(atlases.opened(), picture[None], ["down"])
        broken.maps["down"][0, 2, 1] = np.nan
        monkeypatch.setattr(looking, "activations", lambda *args: broken)
        _, unit = looked.ask(what="unit", image=image, layer="down", unit=2)
        assert unit["map"]["values"][10:20] == [None] * 10
        assert unit["most"] == pytest.approx(np.nanmax(broken["down"][0, 2]), rel=1e-4)


def bomb():
    """A PNG that says 60,000 × 60,000 pixels."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


class TestFiles:
    @pytest.mark.parametrize("what", ["bomb", "truncated", "text", "svg", "torn", "large"])
    def test_what_is_no_picture_is_refused_with_the_reason(self, looked, picture, what):
        whole = encoded(np.tile(picture, (8, 8, 1)))
        data = {
            "bomb": bomb(), "truncated": whole[: len(whole) // 2], "text": b"<html>", "svg": b"<svg/>",
            "torn": whole[:200] + bytes(400) + whole[600:], "large": encoded(np.zeros((7200, 7200), np.uint8)),
        }[what]  # fmt: skip
        began = time.monotonic()
        status, words = looked.look(data)
        assert (status, "cannot be read" in words) == (422, True)
        assert time.monotonic() - began < 2
        assert looked.look(encoded(picture))[0] == 200

    def test_metadata_are_not_kept_and_pictures_are_upright(self, looked, picture):
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "a secret"
        status, told = looked.look(encoded(picture, exif=exif))
        assert (status, told["notes"]) == (200, ["turned upright"])
        back = base64.b64decode(told["picture"].partition(",")[2])
        assert b"secret" not in back
        assert b"eXIf" not in back
        with Image.open(io.BytesIO(back)) as seen:
            assert np.abs(np.asarray(seen).astype(int) - np.rot90(picture, -1)).max() <= 1

    def test_another_network_is_refused(self, monkeypatch):
        for order, words in (({"hash": "ff" * 32}, "ffffffffffff"), ({"input": {"shape": [3, 9, 9]}}, "another input")):
            ((told, content),) = Looking(monkeypatch, **order).out.told
            assert told == "refused"
            assert words in content["why"]
