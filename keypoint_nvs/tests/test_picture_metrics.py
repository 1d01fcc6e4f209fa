"""Likeness of pictures: the reference's numbers, masks, baselines, and LPIPS's files."""

import pytest
import torch
import torchvision

from keypoint_nvs.metrics.baselines import best_training_object, mean_view
from keypoint_nvs.metrics.perceptual import WIDTHS, Lpips
from keypoint_nvs.metrics.pictures import mse, psnr, ssim
from posecore.errors import InputError


def test_psnr_and_ssim_are_the_references(reference):
    arrays = reference("metrics")
    a, b = (torch.from_numpy(arrays[name]).permute(0, 3, 1, 2).double() for name in "ab")
    torch.testing.assert_close(psnr(a, b), torch.from_numpy(arrays["psnr"]), rtol=0, atol=1e-4)
    torch.testing.assert_close(ssim(a, b), torch.from_numpy(arrays["ssim"]), rtol=0, atol=1e-4)


def test_pixels_outside_the_mask_are_in_no_number():
    a = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    b, mask = a.clone(), torch.zeros(2, 24, 24, dtype=torch.bool)
    b[..., :6] = 0
    mask[0, :, 12:] = True
    assert float(mse(a, b, mask)[0]) == 0
    assert float(ssim(a, b, mask)[0]) == pytest.approx(1, abs=1e-5)
    for measure in (mse, psnr, ssim):
        assert measure(a, b, mask)[1].isnan()
        assert measure(a, b)[0].isfinite()


def test_baselines_are_the_mean_and_the_nearest_training_object():
    training = torch.rand(5, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mean_view(training), sum(training) / 5)
    truth = training[[3, 0, 4]] + 0.01
    assert best_training_object(training, truth, at_once=2).tolist() == [3, 0, 4]


@pytest.fixture(scope="module")
def lpips_folder(tmp_path_factory):
    """Random weights in the published layouts."""
    folder = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(0)
    trunk = torchvision.models.alexnet(weights=None).features.state_dict()
    torch.save({f"features.{key}": value for key, value in trunk.items()}, folder / "alexnet-owt-7be5be79.pth")
    heads = {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in enumerate(WIDTHS["alex"])}
    torch.save(heads, folder / "alex.pth")
    return folder


def test_lpips_is_zero_for_equal_pictures_symmetric_and_grows_with_noise(lpips_folder):
    measure = Lpips.from_folder(lpips_folder)
    a, noise = torch.rand(2, 2, 3, 32, 32), torch.randn(2, 2, 3, 32, 32)
    little, much = measure(a, a + 0.02 * noise), measure(a, a + 0.5 * noise)
    assert little.shape == (2, 2)
    assert (measure(a, a) == 0).all()
    assert (little > 0).all()
    assert (much > little).all()
    torch.testing.assert_close(measure(a, a + noise), measure(a + noise, a))
    assert not any(parameter.requires_grad for parameter in measure.parameters())


def test_missing_weights_of_lpips_are_named_with_where_they_are(lpips_folder, tmp_path):
    with pytest.raises(InputError, match=r"has no alexnet-owt-7be5be79\.pth .*torchvision publishes"):
        Lpips.from_folder(tmp_path)
    (tmp_path / "alexnet-owt-7be5be79.pth").symlink_to(lpips_folder / "alexnet-owt-7be5be79.pth")
    torch.save({"lin0.model.1.weight": torch.rand(1, 63, 1, 1)}, tmp_path / "alex.pth")
    with pytest.raises(InputError, match=r"lin0\.model\.1\.weight has shape \(1, 63, 1, 1\); expected \(1, 64, 1, 1\)"):
        Lpips.from_folder(tmp_path)
    (tmp_path / "alex.pth").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"alex\.pth: cannot be read as a state dict"):
        Lpips.from_folder(tmp_path)
