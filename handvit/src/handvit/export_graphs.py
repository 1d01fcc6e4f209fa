"""The parts of a network that become ONNX files: plain tensors in and out."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from handvit.hand import HandModel
from handvit.joints import MIDDLE_CHAIN
from handvit.model.network import HandNetwork
from handvit.model.prediction import HandInput, HandPrediction
from handvit.posing import pose_hands

MM = 1000.0
CAMERA = ("patch_bbox", "hand_bbox", "focal", "princpt")
FRAME_MS = 33.0
"""Between the frames of example clips."""


class MeshReader(nn.Module):
    """The one frame of a prediction as a hand in space; the hand model is inside."""

    outputs: tuple[str, ...] = ("rotations", "betas", "root_mm", "hand_size_mm", "joints_cam_mm", "vertices_cam_mm")

    def __init__(self, hand: HandModel, norm_by_hand: bool) -> None:
        super().__init__()
        self.hand, self.norm_by_hand = hand, norm_by_hand

    def forward(self, found: HandPrediction) -> tuple[Tensor, ...]:
        posed = pose_hands(self.hand, found, norm_by_hand=self.norm_by_hand, with_vertices=True)
        assert posed.vertices_cam_mm is not None
        parameters = (found.rotations, found.betas, posed.root_mm, posed.hand_size_mm)
        return tuple(x[:, 0] for x in (*parameters, posed.joint_cam_mm, posed.vertices_cam_mm))


class ParameterReader(nn.Module):
    """The same without the hand model. A root in hand sizes needs the resting middle finger, which is linear in betas."""

    outputs: tuple[str, ...] = MeshReader.outputs[:4]
    finger_m: Tensor
    finger_directions_m: Tensor

    def __init__(self, hand: HandModel, norm_by_hand: bool) -> None:
        super().__init__()
        self.norm_by_hand = norm_by_hand
        finger, directions = resting_middle_finger(hand)
        self.register_buffer("finger_m", finger)
        self.register_buffer("finger_directions_m", directions)

    def forward(self, found: HandPrediction) -> tuple[Tensor, ...]:
        betas, root = found.betas[:, 0], found.translation.root[:, 0]
        joints = self.finger_m + torch.einsum("nk,kjx->njx", betas, self.finger_directions_m)
        size = MM * (joints[:, 1:] - joints[:, :-1]).square().sum(-1).sqrt().sum(-1)
        return found.rotations[:, 0], betas, root * size[:, None] if self.norm_by_hand else root, size


def resting_middle_finger(hand: HandModel) -> tuple[Float[Tensor, "4 3"], Float[Tensor, "10 4 3"]]:
    """Its joints in rest pose are the first + betas @ the second, metres."""
    exact = copy.deepcopy(hand).double()
    betas = torch.cat([torch.zeros(1, 10), torch.eye(10)]).double()
    joints = exact(torch.eye(3).double().expand(11, 16, 3, 3), betas, joints_only=True).joints_m
    finger = joints[:, list(MIDDLE_CHAIN)]
    return finger[0].float(), (finger[1:] - finger[0]).float()


Reader = MeshReader | ParameterReader


class NetworkGraph(nn.Module):
    """Frames by themselves: of stage 2 clips of one frame, as the predictor gives them, and the frames' tokens."""

    def __init__(self, network: HandNetwork, reader: Reader) -> None:
        super().__init__()
        self.network, self.reader = network, reader
        self.outputs = (*reader.outputs, "tokens") if network.stage == 2 else reader.outputs

    def forward(
        self, patches: Tensor, patch_bbox: Tensor, hand_bbox: Tensor, focal: Tensor, princpt: Tensor
    ) -> tuple[Tensor, ...]:
        now = torch.zeros_like(focal[:, :1])
        frames = HandInput(
            patches[:, None], patch_bbox[:, None], hand_bbox[:, None], focal[:, None], princpt[:, None], now
        )
        tokens = self.network.encode(frames)
        read: tuple[Tensor, ...] = self.reader(self.network.answer(tokens, frames))
        return (*read, tokens[:, 0]) if self.network.stage == 2 else read

    @property
    def dynamic(self) -> dict[str, tuple[str, ...]]:
        """Names of the leading axes of any length, of each input."""
        return dict.fromkeys(("patches", *CAMERA), ("batch",))

    def example(self, batch: int) -> dict[str, Tensor]:
        """Inputs by their names, the same whenever asked."""
        generator = torch.Generator().manual_seed(0)
        side = self.network.img_size
        return {"patches": torch.rand(batch, 3, side, side, generator=generator)} | _cameras(batch, generator)


class TemporalGraph(nn.Module):
    """Tokens of clips and the last frame's camera to that frame's hand."""

    def __init__(self, network: HandNetwork, reader: Reader, num_frame: int) -> None:
        super().__init__()
        self.network, self.reader, self.num_frame = network, reader, num_frame
        self.outputs = reader.outputs

    def forward(
        self,
        tokens: Tensor,
        timestamp_ms: Tensor,
        patch_bbox: Tensor,
        hand_bbox: Tensor,
        focal: Tensor,
        princpt: Tensor,
    ) -> tuple[Tensor, ...]:
        def repeated(values: Tensor) -> Tensor:
            return values[:, None].expand(-1, tokens.shape[1], -1)

        no_patches = tokens.new_zeros(*tokens.shape[:2], 3, 0, 0)
        frames = HandInput(
            no_patches, repeated(patch_bbox), repeated(hand_bbox), repeated(focal), repeated(princpt), timestamp_ms
        )
        read: tuple[Tensor, ...] = self.reader(self.network.answer(tokens, frames))
        return read

    @property
    def dynamic(self) -> dict[str, tuple[str, ...]]:
        """Names of the leading axes of any length, of each input."""
        clips = ("batch", "frames")
        return {"tokens": clips, "timestamp_ms": clips} | dict.fromkeys(CAMERA, ("batch",))

    def example(self, batch: int) -> dict[str, Tensor]:
        """Inputs by their names, the same whenever asked; one hand alone has the shortest clip."""
        generator = torch.Generator().manual_seed(0)
        count = 1 if batch == 1 else self.num_frame
        tokens = torch.randn(batch, count, self.network.backbone.width, generator=generator)
        times = FRAME_MS * torch.arange(count).float().expand(batch, -1).contiguous()
        return {"tokens": tokens, "timestamp_ms": times} | _cameras(batch, generator)


def _cameras(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Hands of some 100 px, about half a metre away."""
    corner = 50 + 100 * torch.rand(batch, 2, generator=generator)
    size = 80 + 60 * torch.rand(batch, 2, generator=generator)
    centre, half = corner + size / 2, size.amax(1, keepdim=True)
    return {
        "patch_bbox": torch.cat([centre - half, centre + half], 1),
        "hand_bbox": torch.cat([corner, corner + size], 1),
        "focal": 300 + 100 * torch.rand(batch, 2, generator=generator),
        "princpt": 100 + 40 * torch.rand(batch, 2, generator=generator),
    }
