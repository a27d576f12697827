"""What results say of where they come from."""

from importlib.metadata import PackageNotFoundError

from prunekit.app import results


def test_a_bare_clone_on_the_path_is_told_and_costs_no_run(monkeypatch):
    def version(name):
        if name == "prunekit":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(results, "version", version)
    versions = results.provenance.__wrapped__()["versions"]
    assert versions["prunekit"] == "not installed"
    assert versions["torch"] == "1.0"
