"""The `sleeve` command as a user types it, on real servers."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from pipeline.context import Context
from pipeline.samples import cover, cover_jpeg, snapshot_jpeg
from tests.steps import index_all


def sleeve(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def collection(environment: Context, tmp_path: Path) -> Context:
    """Six covers, searchable."""
    for number in range(6):
        path = tmp_path / "photos" / "soul" / f"cover_{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cover_jpeg(number))
    done = sleeve("import", tmp_path / "photos", "--json")
    assert done.returncode == 0, done.stderr
    assert (json.loads(done.stdout)["images"], json.loads(done.stdout)["new"]) == (6, 6)
    index_all(environment, "run")
    return environment


def test_search_finds_says_and_draws(collection: Context, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(snapshot_jpeg(cover(4), seed=4))
    done = sleeve("search", photo, "--json", "--picture", tmp_path / "match.png")
    assert done.returncode == 0, done.stderr
    [best, *_] = json.loads(done.stdout)
    [document] = collection.catalog.images.find({"original_filename": "cover_4.jpg"})
    assert best == str(document["_id"])
    picture = cv2.imread(str(tmp_path / "match.png"))
    assert picture is not None
    # Beside each other at one height, with the green of the matches somewhere on it.
    assert picture.shape[0] < picture.shape[1]
    assert (abs(picture.astype(int) - (80, 200, 60)).sum(axis=2) < 30).sum() > 100
    assert "cover_4.jpg" in sleeve("search", photo).stdout


def test_search_takes_an_image_a_part_of_it_and_a_filter(collection: Context, tmp_path: Path) -> None:
    ids = {one["original_filename"]: str(one["_id"]) for one in collection.catalog.images.find()}
    two = tmp_path / "two.jpg"
    cv2.imwrite(str(two), cv2.hconcat([cover(1, 500), cover(2, 500)]))
    done = sleeve("search", two, "--crop", "0.5,0,0.5,1", "--json", "--picture", tmp_path / "match.png")
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)) == [ids["cover_2.jpg"]]
    # The picture shows the part: a square beside a square.
    height, width = cv2.imread(str(tmp_path / "match.png")).shape[:2]
    assert width == 2 * height
    # An image is no answer to itself.
    assert json.loads(sleeve("search", ids["cover_3.jpg"], "--json").stdout) == {}
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(cover_jpeg(4))
    for options, found in (
        (("--label", "soul", "--until", "2100-01-01"), [ids["cover_4.jpg"]]),
        (("--label", "jazz"), []),
        (("--since", "2100-01-01"), []),
    ):
        assert list(json.loads(sleeve("search", photo, *options, "--json").stdout)) == found, options


def test_a_search_that_cannot_be_asked_says_what_to_give(environment: Context, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(cover_jpeg(4))
    for arguments, said in (
        (("nowhere.jpg",), "give a picture"),
        (("00000000-0000-0000-0000-000000000001",), "There is no image"),
        ((photo, "--crop", "1,2"), "x,y,width,height"),
        ((photo, "--since", "soon"), "give a date"),
    ):
        done = sleeve("search", *arguments)
        assert done.returncode in (1, 2)
        assert said in " ".join(done.stderr.replace("│", " ").split())
        assert "Traceback" not in done.stderr


def test_search_says_plainly_what_it_does_not_know(collection: Context, tmp_path: Path) -> None:
    stranger, text = tmp_path / "stranger.jpg", tmp_path / "text.jpg"
    stranger.write_bytes(cover_jpeg(4000))
    text.write_text("no picture")
    assert "Nothing in the collection" in sleeve("search", stranger).stdout
    done = sleeve("search", text)
    assert done.returncode == 1
    assert "not an image" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_counts_and_names_the_quarantine(collection: Context, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "broken.png").write_bytes(b"broken")
    assert sleeve("import", tmp_path / "more").returncode == 0
    index_all(collection, "second")
    status = json.loads(sleeve("status", "--json").stdout)
    assert (status["images"]["indexed"], status["images"]["quarantined"]) == (6, 1)
    assert status["generation"]["counts"]["images"] == 6
    assert "not an image" in status["quarantine"][0]["reason"]


def test_an_import_of_nothing_says_what_to_do(environment: Context, tmp_path: Path) -> None:
    done = sleeve("import", tmp_path / "none")
    assert done.returncode == 1
    assert "give a folder" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_setting_that_cannot_be_is_named(environment: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOP_N", "many")
    done = sleeve("status")
    assert done.returncode == 1
    assert "top_n" in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_doctor(environment: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(sleeve("doctor", "--json").stdout) == {"missing": []}
    monkeypatch.setenv("S3_BUCKET", "no-such-bucket-here")
    done = sleeve("doctor", "--json")
    assert done.returncode == 1
    assert [row["what"] for row in json.loads(done.stdout)["missing"]] == ["image bucket"]


def test_generations_are_listed_and_rolled_back(collection: Context, tmp_path: Path) -> None:
    refused = sleeve("rollback")
    assert refused.returncode == 1
    assert "is not kept" in refused.stderr.replace("\n", " ")
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "cover.jpg").write_bytes(cover_jpeg(9))
    assert sleeve("import", tmp_path / "late", "--json").returncode == 0
    index_all(collection, "late")

    newest, oldest = json.loads(sleeve("generations", "--json").stdout)["generations"]
    assert (newest["state"], newest["kind"], newest["images"], newest["reason"]) == ("current", "append", 7, "1 images")
    assert (oldest["state"], oldest["kind"], oldest["images"], oldest["codes"]) == ("published", "rebuild", 6, "exact")
    assert newest["recall"] is not None

    done = sleeve("rollback", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"generation": oldest["id"], "images": 6, "waiting": 1}
    listed = sleeve("generations").stdout
    assert "rolled" in listed
