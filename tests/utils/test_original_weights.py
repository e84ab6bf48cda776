"""Backbone weights in the names and wrappers that their authors publish them in."""

import re

import pytest
import timm
import torch

from models.backbone import create_backbone
from tests.utils.test_weights import StateDict, load, refusal, saved, state_dict_of

CLIP = "vit_xsmall_patch16_clip_224"
DINOV2 = "vit_small_patch14_reg4_dinov2"
DINOV3 = "vit_tiny_patch16_dinov3_qkvb"
# timm's name → that of OpenAI's CLIP, in the order in which they are replaced.
CLIP_NAMES = {
    r"^patch_embed\.proj": "conv1",
    r"^norm_pre": "ln_pre",
    r"^norm\.": "ln_post.",
    r"^blocks\.": "transformer.resblocks.",
    r"norm([12])": r"ln_\1",
    r"qkv\.": "in_proj_",
    r"attn\.proj": "attn.out_proj",
    r"mlp\.fc1": "mlp.c_fc",
    r"mlp\.fc2": "mlp.c_proj",
}


def prefixed(prefix: str, content: StateDict) -> StateDict:
    return {prefix + name: tensor for name, tensor in content.items()}


def renamed(content: StateDict, names: dict[str, str]) -> StateDict:
    result = {}
    for name, tensor in content.items():
        for pattern, replacement in names.items():
            name = re.sub(pattern, replacement, name)
        result[name] = tensor
    return result


def clip(content: StateDict) -> StateDict:
    """As OpenAI publishes it: the image tower beside the one of text."""
    tower = renamed(content, CLIP_NAMES) | {"proj": torch.ones(content["norm.weight"].numel(), 8)}
    tower["class_embedding"] = tower.pop("cls_token")[0, 0]
    tower["positional_embedding"] = tower.pop("pos_embed")[0]
    text = {"logit_scale": torch.ones(()), "transformer.resblocks.0.ln_1.weight": torch.ones(8)}
    return prefixed("visual.", tower) | text


def dinov2(content: StateDict) -> StateDict:
    """As DINOv2 is published: positions have a place for the class token, none for registers."""
    content = dict(content)
    registers, cls_token = content.pop("reg_token"), content["cls_token"]
    place = torch.full_like(cls_token, 0.25)
    content["cls_token"] = cls_token - place
    content["pos_embed"] = torch.cat([place, content["pos_embed"]], dim=1)
    mask_token = torch.ones(1, cls_token.shape[-1])
    return content | {"register_tokens": registers, "mask_token": mask_token}


def dinov3(content: StateDict) -> StateDict:
    """As DINOv3 is published: storage tokens, and one bias for query, key and value."""
    original = {"mask_token": torch.ones(1, 1, 192), "rope_embed.periods": torch.ones(16)}
    for name, tensor in content.items():
        if name.endswith("q_bias"):
            value = content[name.replace("q_bias", "v_bias")]
            bias = torch.cat([tensor, torch.zeros_like(tensor), value])
            original[name.replace("q_bias", "qkv.bias")] = bias
        elif not name.endswith(("k_bias", "v_bias")):
            original[name] = tensor
    names = {"reg_token": "storage_tokens", r"gamma_([12])": r"ls\1.gamma"}
    return renamed(original, names)


def assert_same(loaded: StateDict, content: StateDict, name: str) -> None:
    """Whether a model has the weights, but for its final norm, which is not run."""
    model = create_backbone(name, img_size=224, patch_size=16, state_dict=loaded)
    with torch.device("meta"):
        native = timm.create_model(name, num_classes=0).state_dict()
    wanted = [key for key in native if not key.startswith(("norm.", "rope."))]
    assert "blocks.1.attn.qkv.weight" in wanted
    for key in wanted:
        torch.testing.assert_close(loaded[key], content[key], rtol=0, atol=1e-7, msg=key)
    assert torch.equal(model.cls_token, loaded["cls_token"])


@pytest.mark.parametrize(
    ("wrapper", "prefix"),
    [
        ("teacher", "backbone."),
        ("teacher", "module.backbone."),
        ("model", ""),
        ("state_dict", "module."),
        ("state_dict", "teacher.backbone."),
        ("state_dict", "_orig_mod.module."),
    ],
)
def test_wrappers_and_prefixes_of_training_programs(tmp_path, wrapper, prefix):
    content = state_dict_of("test_vit", num_classes=0)
    student = prefixed("student.", state_dict_of("test_vit", seed=5, num_classes=0))
    mae = {"mask_token": torch.ones(1, 1, 64), "decoder_pos_embed": torch.ones(1, 5, 4)}
    beside = {"": mae, "module.": prefixed("module.", mae), "teacher.backbone.": student}
    heads = {prefix.replace("backbone.", "head.") + "mlp.0.weight": torch.ones(2, 2)}
    inside = prefixed(prefix, content) | beside.get(prefix, {})
    if "backbone" in prefix:
        inside |= heads
    file = saved(tmp_path, {"epoch": 3, wrapper: inside, "student": student})
    assert_same(load(file), content, "test_vit")


@pytest.mark.parametrize(("name", "original"), [(CLIP, clip), (DINOV2, dinov2), (DINOV3, dinov3)])
@pytest.mark.parametrize("wrapper", [None, "state_dict"])
def test_original_names_go_through_timms_conversion(tmp_path, name, original, wrapper, capsys):
    content = state_dict_of(name, num_classes=0)
    published = original(content)
    file = saved(tmp_path, {wrapper: published} if wrapper else published)
    assert_same(load(file, name), content, name)
    assert capsys.readouterr().out == ""


def test_biases_that_the_model_lacks_may_be_left_out_only_where_they_are_zero(tmp_path):
    without = "vit_small_patch16_dinov3"
    content = state_dict_of(f"{without}_qkvb", num_classes=0)
    published = dinov3(content)
    message = refusal(saved(tmp_path, published), without)
    assert "blocks.0.attn.qkv.bias: unknown, found (1152,)" in message
    for name, tensor in published.items():
        if name.endswith("qkv.bias"):
            tensor.zero_()
    assert_same(load(saved(tmp_path, published), without), content, without)


def test_half_floats_of_a_distributed_run(tmp_path):
    content = {key: value.half() for key, value in state_dict_of(CLIP, num_classes=0).items()}
    file = saved(tmp_path, prefixed("module.", clip(content)), ".safetensors")
    assert_same(load(file, CLIP), content, CLIP)


def test_what_is_missing_or_left_over_is_told_with_the_three_nearest_names(tmp_path):
    published = clip(state_dict_of(CLIP, num_classes=0))
    name = "visual.transformer.resblocks.2.mlp.c_fc.bias"
    published[f"{name}es"] = published.pop(name)
    message = refusal(saved(tmp_path, published), CLIP)
    assert "blocks.2.mlp.fc1.bias: missing, expected (" in message
    assert "(nearest: blocks.2.mlp.fc1.biases)" in message
    assert "blocks.2.mlp.fc1.biases: unknown, found (" in message
    assert message.count(": missing") == message.count(": unknown") == 1


def test_three_names_at_most(tmp_path):
    content = state_dict_of("test_vit", num_classes=0)
    del content["blocks.1.attn.qkv.bias"]
    (near,) = re.findall(r"\(nearest: (.*?)\)", refusal(saved(tmp_path, content)))
    assert len(near.split(", ")) == 3
    assert all(name.endswith("attn.qkv.bias") for name in near.split(", "))


def test_a_file_that_timm_cannot_convert_is_told_by_its_own_names(tmp_path):
    content = state_dict_of("test_vit", num_classes=0)
    content["visual.class_embedding"] = torch.ones(())
    del content["cls_token"]
    message = refusal(saved(tmp_path, content))
    assert "cls_token: missing, expected (1, 1, 64) (nearest: visual.class_embedding)" in message
    assert "visual.class_embedding: unknown, found ()" in message
