"""Training: frozen parts, files, resuming, faults."""

import csv
import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from tensorboard.summary.writer import event_file_writer

from datasets.folders.find import Split
from engine.evaluate.scorer import Scorer
from engine.train.loss_watch import LossWatch
from engine.train.start import create_trainer, train
from utils.config.load import load_config
from utils.errors import UserError


def read_table(folder: Path) -> list[dict[str, str]]:
    with (folder / "training.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def without_times(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    timed = {"seconds", "images_per_second"}
    return [{key: value for key, value in row.items() if key not in timed} for row in rows]


@pytest.fixture(autouse=True)
def numbered_event_files(monkeypatch):
    """Event files of one second are sorted by the process's number of them, 10 before 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last_ckpt.pth", weights_only=True)


def event_steps(folder: Path) -> list[tuple[str, int]]:
    """(name, epoch) of each point that TensorBoard shows."""
    events = EventAccumulator(str(folder / "tensorboard"), {SCALARS: 0}).Reload()
    return sorted(
        (name, event.step) for name in events.Tags()[SCALARS] for event in events.Scalars(name)
    )


def check_same_weights(one: Path, other: Path) -> None:
    expected, found = weights(other), weights(one)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


def check_same_training(one: Path, other: Path) -> None:
    assert without_times(read_table(one)) == without_times(read_table(other))
    assert event_steps(one) == event_steps(other)
    check_same_weights(one, other)


def test_a_run_writes_what_scripts_may_rely_on(tiny):
    config = tiny()
    folder = train(config)
    for name in ("config.ini", "training.csv", "curves.png", "checkpoints/best_ckpt.pth"):
        assert (folder / name).stat().st_size > 0
    assert list((folder / "tensorboard").iterdir())
    rows = read_table(folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [bool(row["val_image_auroc"]) for row in rows] == [False, True, False, True]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    # One standard deviation over the queries for each of their channels, then their mean.
    queries = weights(folder)["junction.queries"][0].numpy()
    assert float(rows[-1]["query_std"]) == pytest.approx(queries.std(axis=0).mean(), rel=1e-5)
    assert not any(".model." in name for name in weights(folder))
    again = load_config(folder / "config.ini")
    assert again.training == config.training
    assert again.testing == config.testing


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


def test_the_full_checkpoint_needs_no_other_weights(tiny):
    from engine.build import build_autoencoder

    folder = train(tiny("N_EPOCHS=1", "CHECKPOINT_CONTENT=full"))
    checkpoint = folder / "checkpoints" / "last_ckpt.pth"
    assert any(".model." in name for name in weights(folder))
    settings = tiny("MODEL_WEIGHTS=/no/such/file.pth").testing
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        whole = build_autoencoder(settings, checkpoint).eval()(images)
        from_random = build_autoencoder(tiny().testing, checkpoint).eval()(images)
    assert torch.equal(whole, from_random)


def press_ctrl_c(*_):
    raise KeyboardInterrupt


def stop_in(trainer, step):
    """Press Ctrl-C while the loss of a batch is computed."""
    loss, steps = trainer.criterion.loss, []

    def loss_and_stop(images, reconstructions):
        steps.append(0)
        if len(steps) == step:
            raise KeyboardInterrupt
        return loss(images, reconstructions)

    trainer.criterion.loss = loss_and_stop


def stopped(config, step):
    """A trainer that was stopped in a batch, from 1."""
    trainer = create_trainer(config)
    stop_in(trainer, step)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    return trainer


@pytest.mark.parametrize(
    ("keys", "step"),
    [
        ((), 10),
        (("NUM_WORKERS=2",), 10),
        # Steps of two batches; the ninth of an epoch is left over.
        (("BATCH_SIZE_TRAIN=2", "ACCUMULATE=2"), 22),
    ],
)
def test_resuming_ends_bit_identical_with_an_unbroken_run(tiny, tmp_path, keys, step):
    unbroken = train(tiny(f"RESULTS_PATH={tmp_path / 'unbroken'}", *keys))
    config = tiny(f"RESULTS_PATH={tmp_path / 'broken'}", *keys)
    stopped(config, step)
    assert len(read_table(config.training.results_path)) == 2
    check_same_training(train(config, resume=True), unbroken)


def test_a_stop_in_a_validation_loses_its_epoch_alone(tiny, tmp_path, monkeypatch):
    unbroken = train(tiny(f"RESULTS_PATH={tmp_path / 'unbroken'}"))
    config = tiny(f"RESULTS_PATH={tmp_path / 'broken'}")
    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "score", press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert len(read_table(config.training.results_path)) == 1
    check_same_training(train(config, resume=True), unbroken)


def test_tensorboard_shows_an_epoch_once_that_was_not_saved(tiny, tmp_path, monkeypatch):
    unbroken = train(tiny(f"RESULTS_PATH={tmp_path / 'unbroken'}"))
    # Loss, rate, two times and the spread of queries of four epochs, seven metrics of two
    # validations.
    assert len(set(event_steps(unbroken))) == len(event_steps(unbroken)) == 5 * 4 + 2 * 7
    trainer = create_trainer(tiny(f"RESULTS_PATH={tmp_path / 'broken'}"))
    finish = trainer._finish_epoch
    monkeypatch.setattr(
        trainer, "_finish_epoch", lambda row: finish(row) if row["epoch"] < 3 else press_ctrl_c()
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert ("train_loss", 3) in event_steps(trainer.files.folder)
    check_same_training(train(tiny(f"RESULTS_PATH={tmp_path / 'broken'}"), resume=True), unbroken)
    train(tiny("N_EPOCHS=1", f"RESULTS_PATH={tmp_path / 'broken'}"), overwrite=True)
    assert {epoch for _, epoch in event_steps(tmp_path / "broken")} == {1}
    assert len(list((tmp_path / "broken" / "tensorboard").iterdir())) == 1


def test_a_first_epoch_that_is_stopped_leaves_nothing_in_the_way(tiny):
    trainer = stopped(tiny(), 3)
    assert not trainer.files.run_exists()
    train(tiny())


def test_resuming_with_another_config_names_the_differing_keys(tiny):
    train(tiny("N_EPOCHS=1"))
    with pytest.raises(UserError, match=r"N_EPOCHS: was '1', is '2'.*--overwrite"):
        train(tiny("N_EPOCHS=2"), resume=True)


def test_resuming_without_a_run_is_an_error(tiny):
    with pytest.raises(UserError, match="nothing to resume"):
        train(tiny(), resume=True)


def test_a_run_is_not_overwritten_unasked(tiny):
    folder = train(tiny("N_EPOCHS=1"))
    before = (folder / "training.csv").read_bytes()
    with pytest.raises(UserError, match=r"--resume.*--overwrite"):
        train(tiny("N_EPOCHS=1"))
    assert (folder / "training.csv").read_bytes() == before
    train(tiny("N_EPOCHS=1"), overwrite=True)


def test_best_checkpoint_is_not_chosen_on_the_test_split(tiny):
    config = tiny()
    shared = config.testing.test_data_path
    folder = train(tiny("N_EPOCHS=2", f"VAL_DATA_PATH={shared}"))
    assert (folder / "checkpoints" / "last_ckpt.pth").exists()
    assert not (folder / "checkpoints" / "best_ckpt.pth").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tiny, monkeypatch):
    config = tiny("N_EPOCHS=3", "EVAL_STEPSIZE=1")
    trainer = create_trainer(config)
    loss, calls = trainer.criterion.loss, []

    def poisoned(images, reconstructions):
        calls.append(0)
        value = loss(images, reconstructions)
        # The loader makes four steps per epoch: the sixth is in the second epoch.
        return value * float("nan") if len(calls) == 6 else value

    monkeypatch.setattr(trainer.criterion, "loss", poisoned)
    with pytest.raises(UserError) as error:
        trainer.run()
    message = str(error.value)
    assert "epoch 2: the loss is nan" in message
    assert message.count(".png") == 4
    assert str(trainer.files.last) in message
    assert all(torch.isfinite(t).all() for t in weights(trainer.files.folder).values())


def test_weights_that_are_not_finite_do_not_replace_good_ones(tiny, monkeypatch):
    trainer = create_trainer(tiny("N_EPOCHS=3"))
    step, steps = trainer.optimizer.step, []

    def poisoned():
        step()
        steps.append(0)
        if len(steps) == 8:  # the last of the second epoch: no loss is computed after it
            with torch.no_grad():
                trainer.model.junction.queries[0, 0, 0] = float("nan")

    monkeypatch.setattr(trainer.optimizer, "step", poisoned)
    with pytest.raises(UserError, match=r"epoch 2: the last step made .*junction\.queries first"):
        trainer.run()
    assert len(steps) == 8
    assert all(torch.isfinite(t).all() for t in weights(trainer.files.folder).values())
    folder = train(tiny("N_EPOCHS=3"), resume=True)
    assert len(read_table(folder)) == 3


def test_the_loss_watch_on_a_gpu_finds_the_step_that_failed(tmp_path):
    split = Split(tmp_path, (), has_masks=False)
    watch = LossWatch(1, split, tmp_path / "none", torch.device("cpu"))
    watch._interval = 3
    watch.add(torch.tensor(1.0), torch.tensor([]))
    assert not watch.look()
    watch.add(torch.tensor(3.0), torch.tensor([]))
    assert watch.mean() == 2.0
    watch.add(torch.tensor(float("inf")), torch.tensor([]))
    with pytest.raises(UserError, match="no checkpoint is saved yet"):
        watch.mean()


def test_too_few_images_for_a_batch(tiny):
    with pytest.raises(UserError, match=r"18 images.*lower BATCH_SIZE_TRAIN"):
        create_trainer(tiny("BATCH_SIZE_TRAIN=19"))


def test_an_image_with_a_damaged_header_is_found_before_training(tiny, tmp_path, phantoms):
    folder = tmp_path / "train"
    shutil.copytree(phantoms / "train", folder)
    bad = sorted((folder / "good" / "img").iterdir())[7]
    bad.write_bytes(b"")
    with pytest.raises(UserError, match=bad.name):
        create_trainer(tiny(f"TRAIN_DATA_PATH={folder}"))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_damaged_behind_its_header_stops_the_first_epoch(
    tiny, tmp_path, phantoms, workers
):
    folder = tmp_path / "train"
    shutil.copytree(phantoms / "train", folder)
    bad = sorted((folder / "good" / "img").iterdir())[7]
    bad.write_bytes(bad.read_bytes()[:90])
    with pytest.raises(UserError) as caught:
        train(tiny(f"TRAIN_DATA_PATH={folder}", f"NUM_WORKERS={workers}"))
    text = str(caught.value)
    assert text.startswith(f"{bad}: cannot be read as an image")
    assert text.endswith("; check_dataset.py lists all of them")
    assert "\n" not in text


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: [],
        lambda state: state | {"config": 3},
        lambda state: {k: v for k, v in state.items() if k != "model"},
        lambda state: {k: v for k, v in state.items() if k != "optimizer"},
        lambda state: state | {"optimizer": {"state": {}, "param_groups": []}},
    ],
)
def test_a_damaged_training_state_is_an_error_that_names_it(tiny, damage):
    folder = train(tiny("N_EPOCHS=1"))
    path = folder / "checkpoints" / "training_state.pth"
    torch.save(damage(torch.load(path, weights_only=True)), path)
    with pytest.raises(UserError, match=r"training_state\.pth"):
        train(tiny("N_EPOCHS=1"), resume=True)
