"""Gradients against autograd through the dense straight-through formulation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dualsr_cli.matching.differentiable import straight_through

Tensors = tuple[torch.Tensor, ...]


def same(features: torch.Tensor, patch: int, padding: str) -> torch.Tensor:
    mode = "reflect" if padding == "reflect" else "constant"
    around = F.pad(features, (patch // 2,) * 4, mode=mode)
    return F.normalize(F.unfold(around, patch), dim=1)


def dense(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    *,
    patch: int,
    scale: int,
    padding: str,
    normalise: str,
    kernel: int | None = None,
    key_margin: int | None = None,
    query_margin: int | None = None,
) -> Tensors:
    """SDDuSR's equations 2 to 5 as they are written."""
    kernel = kernel or scale * patch
    key_margin = scale * (patch // 2) if key_margin is None else key_margin
    query_margin = key_margin if query_margin is None else query_margin
    similarity = same(key, patch, padding).transpose(1, 2) @ same(query, patch, padding)
    soft = similarity.softmax(dim=1)
    onehot = F.one_hot(similarity.argmax(dim=1), similarity.shape[1]).transpose(1, 2)
    matrix = onehot.detach() + soft - soft.detach()
    confidence = (similarity * matrix).sum(dim=1)
    after = kernel - scale - key_margin
    mode = "reflect" if padding == "reflect" else "constant"
    around = F.pad(value, (key_margin, after, key_margin, after), mode=mode)
    windows = F.unfold(around, kernel, stride=scale) @ matrix
    weights = mask.flatten(1)[:, None]
    height, width = scale * query.shape[2], scale * query.shape[3]

    def fold(windows: torch.Tensor) -> torch.Tensor:
        size = height - scale + kernel, width - scale + kernel
        laid = F.fold(windows, size, kernel, stride=scale)
        return laid[..., query_margin:, query_margin:][..., :height, :width]

    warped = fold(windows * weights)
    if normalise == "constant":
        warped = warped / (kernel / scale) ** 2
    else:
        inside = F.pad(torch.ones_like(value), (key_margin, after, key_margin, after), mode=mode)
        warped = warped / fold(F.unfold(inside, kernel, stride=scale) @ onehot.to(value))
    return warped, (confidence * mask.flatten(1)).view_as(mask)


SDDUSR = {"patch": 3, "scale": 2, "padding": "zeros", "normalise": "constant"}
VARIANTS: dict[str, dict[str, Any]] = {
    "sddusr": SDDUSR,
    "reflect, count": {"patch": 3, "scale": 2, "padding": "reflect", "normalise": "count"},
    "zeros, count": {"patch": 3, "scale": 1, "padding": "zeros", "normalise": "count"},
    "patch 5, scale 3": {"patch": 5, "scale": 3, "padding": "reflect", "normalise": "constant"},
    "kedusr": {
        "patch": 3,
        "scale": 4,
        "kernel": 9,
        "key_margin": 2,
        "query_margin": 4,
        "padding": "reflect",
        "normalise": "constant",
    },
    "dcsr": {"patch": 1, "scale": 2, "padding": "reflect", "normalise": "count"},
}


def example(
    queries: tuple[int, int] = (5, 7), keys: tuple[int, int] = (4, 3), scale: int = 2
) -> Tensors:
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    mask = (noise(2, *queries) > 0).double() * noise(2, *queries).abs()
    inputs = (
        noise(2, 3, *queries),
        noise(2, 3, *keys),
        noise(2, 2, scale * keys[0], scale * keys[1]),
    )
    return tuple(tensor.requires_grad_() for tensor in (*inputs, mask))


def gradients(outputs: Tensors, inputs: Tensors) -> Tensors:
    """Of a sum over both outputs in which every element has a weight of its own."""
    generator = torch.Generator().manual_seed(1)
    total = sum(
        (output * torch.randn(output.shape, dtype=torch.float64, generator=generator)).sum()
        for output in outputs
    )
    assert isinstance(total, torch.Tensor)
    return torch.autograd.grad(total, inputs)


def compare(inputs: Tensors, variant: dict[str, Any]) -> None:
    expected = dense(*inputs, **variant)
    warped, found = straight_through(*inputs, **variant)
    actual = warped, found.similarity
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(gradients(actual, inputs), gradients(expected, inputs))


@pytest.mark.parametrize("name", VARIANTS)
def test_equals_the_dense_formulation(name: str) -> None:
    size = (6, 5) if name == "patch 5, scale 3" else (4, 3)
    compare(example(keys=size, scale=VARIANTS[name]["scale"]), VARIANTS[name])


@pytest.mark.parametrize(
    ("queries", "keys"), [((5, 7), (1, 1)), ((1, 1), (2, 3)), ((2, 9), (1, 4))]
)
def test_few_places(queries: tuple[int, int], keys: tuple[int, int]) -> None:
    compare(example(queries, keys), SDDUSR)


@pytest.mark.parametrize("held", [1, 40, 300])
def test_blocks_give_the_same(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualsr_cli.matching.differentiable._HELD", held)
    compare(example(), SDDUSR)


@pytest.mark.parametrize("output", [0, 1])
def test_each_output_alone(output: int) -> None:
    """The gradient of a confidence map that nobody warps with, and the other way round."""
    inputs = example()
    warped, found = straight_through(*inputs, **SDDUSR)
    actual = (warped, found.similarity)[output : output + 1]
    expected = dense(*inputs, **SDDUSR)[output : output + 1]
    wanted = inputs if output == 0 else (inputs[0], inputs[1], inputs[3])
    torch.testing.assert_close(gradients(actual, wanted), gradients(expected, wanted))


def test_without_a_mask_every_query_counts() -> None:
    query, key, value, mask = example()
    warped, found = straight_through(query, key, value, **SDDUSR)
    expected = dense(query, key, value, torch.ones_like(mask), **SDDUSR)
    inputs = query, key, value
    torch.testing.assert_close((warped, found.similarity), expected)
    torch.testing.assert_close(
        gradients((warped, found.similarity), inputs), gradients(expected, inputs)
    )


def test_a_mask_of_zeros_leaves_zeros_and_still_learns() -> None:
    query, key, value, mask = example()
    mask = torch.zeros_like(mask, requires_grad=True)
    warped, found = straight_through(query, key, value, mask, **SDDUSR)
    assert not warped.any()
    assert not found.similarity.any()
    compare((query, key, value, mask), SDDUSR)
    (to_mask,) = torch.autograd.grad(warped.sum(), mask)
    assert bool((to_mask != 0).all())


def test_patches_without_length_or_with_nan_give_no_gradient() -> None:
    query, key, value, mask = example()
    query, key = query.detach().clone(), key.detach().clone()
    query[0, :, :3, :3] = 0  # the patch around (1, 1)
    query[0, 0, 4, 6] = torch.nan
    key[1, :, :3] = 0
    key[0, 1, 0, 0] = torch.inf
    query.requires_grad_()
    key.requires_grad_()
    warped, found = straight_through(query, key, value, mask, patch=3, padding="zeros")
    assert found.index[0, 4, 6] == -1
    assert found.similarity[0, 4, 6] == 0
    assert bool(torch.isfinite(warped).all())
    total = warped.square().sum() + found.similarity.square().sum()
    for gradient in torch.autograd.grad(total, (query, key, value, mask)):
        assert bool(torch.isfinite(gradient).all())
        assert bool(gradient.any())


def test_no_key_that_can_be_used() -> None:
    query, _, value, mask = example()
    key = torch.full((2, 3, 4, 3), torch.nan, dtype=torch.float64, requires_grad=True)
    warped, found = straight_through(query, key, value, mask)
    assert not warped.any()
    assert bool((found.index == -1).all())
    total = warped.sum() + found.similarity.sum()
    for gradient in torch.autograd.grad(total, (query, key, value, mask)):
        assert not gradient.any()


def test_features_that_are_not_trained() -> None:
    query, key, value, mask = example()
    frozen = query.detach(), key.detach(), value, mask
    expected = dense(*frozen, **SDDUSR)
    warped, found = straight_through(*frozen, **SDDUSR)
    actual = gradients((warped, found.similarity), (value, mask))
    torch.testing.assert_close(actual, gradients(expected, (value, mask)))


def test_float32_and_half_values() -> None:
    inputs = tuple(tensor.detach().float().requires_grad_() for tensor in example())
    doubles = tuple(tensor.detach().double().requires_grad_() for tensor in inputs)
    warped, found = straight_through(*inputs, **SDDUSR)
    expected = dense(*doubles, **SDDUSR)
    actual = gradients((warped, found.similarity), inputs)
    for ours, truth in zip(actual, gradients(expected, doubles), strict=True):
        torch.testing.assert_close(ours.double(), truth, rtol=1e-4, atol=1e-5)
    query, key, value, mask = inputs
    half = value.detach().bfloat16().requires_grad_()
    warped, _ = straight_through(query, key, half, mask, **SDDUSR)
    warped.float().sum().backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16


def test_the_matrix_is_never_held(monkeypatch: pytest.MonkeyPatch, sizes: Any) -> None:
    monkeypatch.setattr("dualsr_cli.matching.differentiable._HELD", 1 << 16)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 2, 40, 32, generator=generator, requires_grad=True)
    key = torch.randn(1, 2, 20, 24, generator=generator, requires_grad=True)
    value = torch.randn(1, 1, 40, 48, generator=generator, requires_grad=True)
    mask = torch.rand(1, 40, 32, generator=generator, requires_grad=True)
    with sizes:
        warped, found = straight_through(query, key, value, mask)
        (warped.square().sum() + found.similarity.sum()).backward()
    assert query.grad is not None
    assert bool(query.grad.any())
    assert sizes.largest < 40 * 32 * 20 * 24 / 4
