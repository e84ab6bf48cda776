"""utils.memory: limits of containers."""

from utils import memory


def test_limits_of_containers_count(tmp_path, monkeypatch):
    whole = memory.available_memory()
    assert whole is not None
    inner = tmp_path / "job/step"
    inner.mkdir(parents=True)
    for folder, limit in ((inner, "max"), (inner.parent, "5000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("3000\n")
        (folder / "memory.stat").write_text("anon 10\ninactive_file 700\n")
    monkeypatch.setattr(memory, "_own_groups", lambda: [inner, inner.parent, tmp_path])
    assert memory.available_memory() == 5000 - 3000 + 700
