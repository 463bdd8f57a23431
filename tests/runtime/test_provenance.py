"""Where results come from."""

from __future__ import annotations

import shutil
import subprocess

from seqlab.runtime import provenance


def test_a_copy_of_the_package_in_another_checkout_has_not_its_commit(tmp_path, monkeypatch):
    file = tmp_path / "environment" / "provenance.py"
    file.parent.mkdir()
    shutil.copy(provenance.__file__, file)
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "theirs", "--allow-empty"]
    for command in (["git", "init", "-q"], commit):
        subprocess.run(command, cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "__file__", str(file))
    assert provenance.git_revision() is None
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    assert provenance.git_revision().endswith("+")  # its own checkout, with a file not committed yet
