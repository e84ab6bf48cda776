"""What a resumed run may change, contradictions told early, full memory, small maps."""

import pytest
import torch

from engine.runtime.device import choose_precision
from engine.runtime.process import create_runtime
from engine.train.start import create_trainer, train
from utils.errors import ConfigError, UserError, run_script


def test_what_changes_no_training_may_change_on_resuming(trained, tmp_path, phantoms):
    (tmp_path / "moved").symlink_to(phantoms)
    changes = [f"TRAIN_DATA_PATH={tmp_path}/moved/train", f"VAL_DATA_PATH={tmp_path}/moved/valid"]
    changes += ["BATCH_SIZE_TEST=3", "TRAINING.OBJECT=brain", "NUM_WORKERS=1"]
    changes += ["SCHEDULER_STEPS=5", "SCHEDULER_GAMMA=0.5", "CACHE_IMAGES=ram"]
    assert train(trained("N_EPOCHS=1", *changes), resume=True) == tmp_path / "results"


def test_other_images_are_refused_on_resuming(trained, phantoms):
    other = f"TRAIN_DATA_PATH={phantoms}/test"
    with pytest.raises(UserError, match=r"TRAIN_IMAGES: was '18 images.*is '4 images"):
        train(trained("N_EPOCHS=1", other), resume=True)


def test_contradictions_of_the_sections_are_told_before_training(tiny):
    with pytest.raises(ConfigError, match=r"USE_HIDDEN_STATE.*found '-1'.*\[TRAINING\] has '-2"):
        create_trainer(tiny("TESTING.USE_HIDDEN_STATE=-1"))
    with pytest.raises(ConfigError, match=r"\[TESTING\] PERCEPTUAL_HSTATE_VAL.*no block 40"):
        tiny("TESTING.PERCEPTUAL_HSTATE_VAL=40")


def test_an_auroc_of_zero_makes_a_best_checkpoint_once(tiny, monkeypatch):
    trainer = create_trainer(tiny())
    saved = []
    monkeypatch.setattr(trainer, "_save", lambda *, best: saved.append(best))
    for epoch in (1, 2):
        row = {"epoch": epoch, "train_loss": 1.0, "lr": 1.0, "seconds": 1.0}
        trainer._finish_epoch(row | {"val_image_auroc": 0.0})
    assert saved == [True, False]


def test_a_full_gpu_is_one_line_and_exit_code_1(capsys):
    def main() -> int:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.count("\n") == 1
    assert "lower BATCH_SIZE_TRAIN and raise ACCUMULATE" in said


@pytest.mark.parametrize(
    ("criterion", "state", "side"),
    [("PERCEPTUAL_VIT_mae", 1, 2), ("PERCEPTUAL_RESNET18", 2, 4), ("EMBED_MSE", 1, 2)],
)
def test_maps_too_small_for_averages_are_told_at_the_start(tiny, criterion, state, side):
    keys = [f"CRITERION_VAL={criterion}", f"PERCEPTUAL_HSTATE_VAL={state}"]
    keys += ["CRITERION_VAL_WEIGHTS=1", "TESTING.IMAGE_REDUCTION=downsample_8x8"]
    with pytest.raises(ConfigError, match=rf"IMAGE_REDUCTION: .*8 × 8.*are {side} × {side}"):
        tiny(*keys)


@pytest.mark.parametrize("in_hardware", [True, False])
def test_auto_takes_bf16_only_where_the_card_has_it(tiny, monkeypatch, in_hardware):
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or in_hardware

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    expected = "bf16" if in_hardware else "fp32"
    assert choose_precision("auto", torch.device("cuda")) == expected
    assert create_runtime(tiny("PRECISION=auto").training).device.type == "cpu"


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", "bf16", "avx512_f"])
def test_bf16_on_a_processor_without_it_is_told(tiny, monkeypatch, caplog, flag):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {flag: True})
    create_runtime(tiny("PRECISION=bf16").training)
    told = "this processor has no products in bf16" in caplog.text
    assert told == (flag == "avx512_f")


@pytest.mark.parametrize(
    "keys",
    [("TRAIN_DATA_PATH", "VAL_DATA_PATH"), ("MODEL_WEIGHTS", "PERCEPTUAL_WEIGHTS")],
    ids=["folders", "weights"],
)
def test_all_that_is_missing_is_told_at_once(tiny, tmp_path, keys):
    config = tiny(*(f"{key}={tmp_path / 'none' / key}" for key in keys))
    with pytest.raises(UserError) as raised:
        create_trainer(config)
    lines = str(raised.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == list(keys)
