"""Training: frozen parts, files, resuming, faults."""

import itertools
import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from tensorboard.summary.writer import event_file_writer

from engine.evaluate.scorer import Scorer
from engine.train.start import create_trainer, train
from tests.conftest import read_csv, tiny_in
from utils.config.load import load_config
from utils.errors import UserError


def read_table(folder: Path) -> list[dict[str, str]]:
    return read_csv(folder / "training.csv")


def without_times(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    timed = {"seconds", "images_per_second"}
    return [{key: value for key, value in row.items() if key not in timed} for row in rows]


@pytest.fixture(autouse=True)
def numbered_event_files(monkeypatch):
    """Event files of one second are sorted by the process's number of them, 10 before 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def weights(folder: Path, name: str = "last_ckpt.pth") -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / name, weights_only=True)


def event_steps(folder: Path) -> list[tuple[str, int]]:
    """(name, epoch) of each point that TensorBoard shows."""
    events = EventAccumulator(str(folder / "tensorboard"), {SCALARS: 0}).Reload()
    return sorted(
        (name, event.step) for name in events.Tags()[SCALARS] for event in events.Scalars(name)
    )


def check_same_weights(one: Path, other: Path) -> None:
    names = {file.name for file in (one / "checkpoints").iterdir()}
    assert names == {file.name for file in (other / "checkpoints").iterdir()}
    for name in ("best_ckpt.pth", "last_ckpt.pth"):
        found, expected = weights(one, name), weights(other, name)
        assert found.keys() == expected.keys()
        for key, tensor in found.items():
            assert torch.equal(tensor, expected[key]), (name, key)


def check_same_training(one: Path, other: Path) -> None:
    assert without_times(read_table(one)) == without_times(read_table(other))
    assert event_steps(one) == event_steps(other)
    check_same_weights(one, other)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, phantoms):
    """The folder of a run of four epochs that nothing has stopped."""
    return train(tiny_in(tmp_path_factory.mktemp("unbroken"), phantoms)())


@pytest.fixture
def finished(tiny, tmp_path, unbroken):
    """A copy of that run, where the configs of ``tiny`` have theirs."""
    return shutil.copytree(unbroken, tmp_path / "results")


def test_a_run_writes_what_scripts_may_rely_on(tiny, finished):
    for name in ("config.ini", "training.csv", "curves.png", "checkpoints/best_ckpt.pth"):
        assert (finished / name).stat().st_size > 0
    rows = read_table(finished)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [bool(row["val_image_auroc"]) for row in rows] == [False, True, False, True]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    # One standard deviation over the queries for each of their channels, then their mean.
    queries = weights(finished)["junction.queries"][0].numpy()
    assert float(rows[-1]["query_std"]) == pytest.approx(queries.std(axis=0).mean(), rel=1e-5)
    assert not any(".model." in name for name in weights(finished))
    # Loss, rate, two times and the spread of queries of four epochs, seven metrics of two
    # validations.
    assert len(set(event_steps(finished))) == len(event_steps(finished)) == 5 * 4 + 2 * 7
    config = tiny("N_EPOCHS=1")
    again = load_config(train(config, overwrite=True) / "config.ini")
    assert (again.training, again.testing) == (config.training, config.testing)


def test_queries_begin_as_far_apart_as_the_config_says_and_nothing_else_changes(tiny):
    start, apart = (
        dict(create_trainer(tiny(*sets)).model.named_parameters())
        for sets in ([], ["JUNCTION_QUERY_STD=1"])
    )
    torch.testing.assert_close(apart.pop("junction.queries"), 1000 * start.pop("junction.queries"))
    torch.testing.assert_close(apart, start, rtol=0, atol=0)


def test_only_trained_parts_change(tiny):
    trainer = create_trainer(tiny("N_EPOCHS=1"))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    in_optimizer = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    named = dict(trainer.model.named_parameters())
    assert {name for name, p in named.items() if id(p) in in_optimizer} == {
        name for name in named if ".model." not in name and name != "decoder.decoder_pos_embed"
    }
    trainer.run()
    changed = {
        name
        for name, value in trainer.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    # A key bias shifts all of a query's logits alike: its gradient is zero up to rounding.
    unchanged = {name for name in before if name not in changed}
    assert all(".model." in name or name == "decoder.decoder_pos_embed" for name in unchanged)


def press_ctrl_c(*_, **__):
    raise KeyboardInterrupt


def stopped(config, step):
    """A trainer that Ctrl-C has stopped while the loss of a batch, from 1, was computed."""
    trainer = create_trainer(config)
    loss, steps = trainer.criterion.loss, itertools.count(1)
    trainer.criterion.loss = lambda *batch: press_ctrl_c() if next(steps) == step else loss(*batch)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    return trainer


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_ends_bit_identical_with_an_unbroken_run(tiny, unbroken, workers):
    config = tiny(f"NUM_WORKERS={workers}")
    stopped(config, 10)
    assert len(read_table(config.training.results_path)) == 2
    check_same_training(train(config, resume=True), unbroken)


@pytest.mark.parametrize("content", ["trained", "full"])
def test_a_run_is_resumed_without_the_checkpoint_it_began_with(
    tiny, unbroken, tmp_path, caplog, content
):
    start = shutil.copy(unbroken / "checkpoints" / "last_ckpt.pth", tmp_path / "start.pth")
    keys = ["N_EPOCHS=2", f"MODEL_CKPT_PATH={start}", f"CHECKPOINT_CONTENT={content}"]
    whole = train(tiny(f"RESULTS_PATH={tmp_path / 'whole'}", *keys))
    stopped(tiny(*keys), 6)
    start.unlink()
    check_same_training(train(tiny(*keys), resume=True), whole)
    assert (f"{start}: no such file" in caplog.text) == (content == "trained")


def test_resuming_steps_of_two_batches(tiny, tmp_path):
    # The ninth batch of an epoch is left over.
    keys = ["BATCH_SIZE_TRAIN=2", "ACCUMULATE=2", "N_EPOCHS=3"]
    whole = train(tiny(f"RESULTS_PATH={tmp_path / 'whole'}", *keys))
    stopped(tiny(*keys), 22)
    check_same_training(train(tiny(*keys), resume=True), whole)


def test_a_stop_in_a_validation_loses_its_epoch_alone(tiny, unbroken, monkeypatch):
    config = tiny()
    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "score", press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert len(read_table(config.training.results_path)) == 1
    check_same_training(train(config, resume=True), unbroken)


def test_tensorboard_shows_an_epoch_once_that_was_not_saved(tiny, unbroken, monkeypatch):
    trainer = create_trainer(tiny())
    finish, folder = trainer._finish_epoch, trainer.files.folder
    monkeypatch.setattr(
        trainer, "_finish_epoch", lambda row: finish(row) if row["epoch"] < 3 else press_ctrl_c()
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert ("train_loss", 3) in event_steps(folder)
    check_same_training(train(tiny(), resume=True), unbroken)
    train(tiny("N_EPOCHS=1"), overwrite=True)
    assert {epoch for _, epoch in event_steps(folder)} == {1}
    assert len(list((folder / "tensorboard").iterdir())) == 1


def test_a_first_epoch_that_is_stopped_leaves_nothing_in_the_way(tiny):
    trainer = stopped(tiny("N_EPOCHS=1"), 3)
    assert not trainer.files.run_exists()
    with pytest.raises(UserError, match="nothing to resume"):
        train(tiny("N_EPOCHS=1"), resume=True)
    train(tiny("N_EPOCHS=1"))


def test_a_finished_run_is_neither_overwritten_nor_changed_unasked(tiny, finished):
    with pytest.raises(UserError, match=r"N_EPOCHS: was '4', is '5'.*--overwrite"):
        train(tiny("N_EPOCHS=5"), resume=True)
    before = (finished / "training.csv").read_bytes()
    with pytest.raises(UserError, match=r"--resume.*--overwrite"):
        train(tiny())
    assert (finished / "training.csv").read_bytes() == before


def test_best_checkpoint_is_not_chosen_on_the_test_split(tiny, caplog):
    config = tiny()
    shared = config.testing.test_data_path
    folder = train(tiny("N_EPOCHS=2", f"VAL_DATA_PATH={shared}"))
    assert (folder / "checkpoints" / "last_ckpt.pth").exists()
    assert not (folder / "checkpoints" / "best_ckpt.pth").exists()
    assert f"TEST_DATA_PATH is the folder of the validation images, {shared}: " in caplog.text


def test_too_few_images_for_a_batch(tiny):
    with pytest.raises(UserError, match=r"18 images.*lower BATCH_SIZE_TRAIN"):
        # Before weights are looked for, which may be a long download.
        create_trainer(tiny("BATCH_SIZE_TRAIN=19", "MODEL_WEIGHTS=missing.pth"))


@pytest.fixture
def damaged(tmp_path, phantoms):
    """One of the training images, of a copy of the phantoms."""
    folder = shutil.copytree(phantoms / "train", tmp_path / "train")
    return sorted((folder / "good" / "img").iterdir())[7]


def test_an_image_with_a_damaged_header_is_found_before_training(tiny, tmp_path, damaged):
    damaged.write_bytes(b"")
    with pytest.raises(UserError, match=damaged.name):
        create_trainer(tiny(f"TRAIN_DATA_PATH={tmp_path / 'train'}"))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_damaged_behind_its_header_stops_the_first_epoch(tiny, tmp_path, damaged, workers):
    damaged.write_bytes(damaged.read_bytes()[:90])
    with pytest.raises(UserError) as caught:
        train(tiny(f"TRAIN_DATA_PATH={tmp_path / 'train'}", f"NUM_WORKERS={workers}"))
    text = str(caught.value)
    assert text.startswith(f"{damaged}: cannot be read as an image")
    assert text.endswith("; check_dataset.py lists all such files")
    assert "\n" not in text


def test_a_damaged_training_state_is_an_error_that_names_it(tiny, finished):
    path = finished / "checkpoints" / "training_state.pth"
    state = torch.load(path, weights_only=True)
    for damage in (
        [],
        state | {"config": 3},
        {key: value for key, value in state.items() if key != "model"},
        {key: value for key, value in state.items() if key != "optimizer"},
        state | {"optimizer": {"state": {}, "param_groups": []}},
    ):
        torch.save(damage, path)
        with pytest.raises(UserError, match=r"training_state\.pth"):
            train(tiny(), resume=True)
