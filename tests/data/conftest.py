import os
from pathlib import Path

import pytest

from genfast.data import find


@pytest.fixture(autouse=True)
def _nowhere_else(tmp_path_factory, monkeypatch, request):
    """Tests see neither the user's cache nor GENFAST_DATA, and reach no network, unless they bring their own."""
    empty = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(find, "cache", lambda: empty)
    monkeypatch.delenv("GENFAST_DATA", raising=False)

    def no_network(url, **_):
        raise ConnectionError("no network in tests")

    monkeypatch.setattr(find.pooch, "retrieve", no_network)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real files, in the layout that `find` expects."""
    place = os.environ.get("GENFAST_DATA")
    if not place:
        pytest.skip("GENFAST_DATA does not name the folder with the real data sets")
    return Path(place)
