"""Networks that spandrel recognises by their weights: read without running code in the file, tried, run in batches.

A window of a side that a network does not take is padded by reflection, and the padding is cut off again (spandrel).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from prep.settings import Device, Kernels, Precision
from prep.upscaling.batches import DTYPES, NetworkUpscaler
from prep.upscaling.devices import start_device
from prep.upscaling.files.given import SCALES, GivenNetwork, by_factor
from prep.upscaling.files.licences import UNKNOWN, licence_beside, name_of
from store.files import digest_bytes
from store.foreign.kinds import Format, read_plain, what_is_wrong
from store.schema import NetworkFile, WeightsError
from store.untrusted.documents import DocumentError, parse_object

PROBE = 16  # px of the windows that a network is tried on
APART = 0.01  # of the range; a window that changes by more when another one is in the batch is made alone
CONVOLUTIONAL = {"ESRGAN", "Compact", "SPAN", "PLKSR", "RCAN"}  # fastest with channels last; others may need planes
MOST = 1 << 33  # bytes of a file; the largest architecture that spandrel knows has 2.5 GB
LENGTH = 8  # bytes before the header of a safetensors file
LICENCE_KEYS = ("modelspec.license", "license", "licence")  # in that header
ANOTHER = (
    "give the file of a super-resolution network that enlarges RGB pictures by 2 or 4 and that spandrel knows "
    "(Real-ESRGAN, ESRGAN, SwinIR, HAT, DAT, SPAN, …), as .pth or .safetensors"
)


class SpandrelNetwork:
    """A recognised network for one factor, which is its scale or half of it: then its result is averaged.

    fp32 [B,3,h,w] in [0,1] to fp32 [B,3,h x factor,w x factor] in [0,1], NaN where it is not finite.
    """

    remedy = "check the file, or give another network"

    def __init__(self, descriptor: Any, factor: int, title: str, *, alone: bool = False) -> None:
        self.factor, self.alone, self._name, self._descriptor = factor, alone, title, descriptor
        self.title = f"{title} x{descriptor.scale}"
        convolutional = descriptor.architecture.id in CONVOLUTIONAL
        self._layout = torch.channels_last if convolutional else torch.contiguous_format

    def prepared(self, precision: Precision, kernels: Kernels, device: torch.device) -> SpandrelNetwork:
        """A copy on the device that computes in this precision and way, for inference."""
        descriptor = deepcopy(self._descriptor)
        model = descriptor.model.eval().requires_grad_(False)
        model.register_forward_hook(_mark)
        descriptor.to(device, DTYPES[precision])
        model.to(memory_format=self._layout)
        if kernels is Kernels.COMPILED:
            model.compile(dynamic=False, options={"compile_threads": 1, "max_autotune": False})
        return SpandrelNetwork(descriptor, self.factor, self._name, alone=self.alone)

    def __call__(self, picture: Tensor) -> Tensor:
        """Enlarge."""
        given = picture.to(self._descriptor.dtype).contiguous(memory_format=self._layout)
        enlarged: Tensor = self._descriptor(given).float()
        times = self._descriptor.scale // self.factor
        return enlarged if times == 1 else F.avg_pool2d(enlarged, times)

    def padded(self, side: int) -> int:
        """The side that it really computes for a window of this side, px."""
        return side + int(self._descriptor.size_requirements.get_padding(side, side)[0])


class FileUpscaler(NetworkUpscaler):
    """Enlarges batches of patches by 2 or 4 on a device by networks that were given as files."""

    @classmethod
    def from_files(
        cls,
        precision: Precision,
        batch: int,
        device: Device,
        factors: Collection[int],
        networks: Sequence[GivenNetwork],
        kernels: Kernels = Kernels.PLAIN,
    ) -> FileUpscaler:
        """The networks for these factors from their files.

        Raises SettingsError if this machine lacks the device, WeightsError if a file is missing or not the one that the
        build was planned with.
        """
        start_device(device)
        chosen = by_factor(networks, factors)
        loaded = {factor: load_network(given, factor) for factor, given in chosen.items()}
        return cls(loaded, precision, batch, torch.device(device), kernels)

    def _run_batch(self, network: Any, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Compiled code is made for whole batches: one that is not full is filled up."""
        count, full = len(batch), 1 if network.alone else self._batch
        if self._kernels is Kernels.COMPILED and count < full:
            batch = torch.cat([batch, batch[-1:].expand(full - count, -1, -1, -1)])
        made, good = super()._run_batch(network, batch)
        return made[:count], good[:count]


def inspect_network(path: Path, licence: str = "") -> GivenNetwork:
    """What a file holds, which is loaded and tried on small windows; `licence` wins over what is found.

    Raises WeightsError unless it is a network that enlarges RGB pictures by 2 or 4, and does so.
    """
    data = _read(path)
    descriptor = _recognise(path, data)
    name = descriptor.architecture.name
    network = SpandrelNetwork(descriptor, descriptor.scale, f"{name} {path.name}")
    alone, macs = _try(path, network.prepared(Precision.FP32, Kernels.PLAIN, torch.device("cpu")))
    supported = {Precision.FP16: descriptor.supports_half, Precision.BF16: descriptor.supports_bfloat16}
    terms = licence or _licence_inside(data) or licence_beside(path)
    return GivenNetwork(
        path=str(path),
        digest=digest_bytes(data),
        record=NetworkFile(architecture=name, file=path.name, scale=descriptor.scale, licence=terms),
        halves=frozenset(precision for precision, able in supported.items() if able),
        alone=alone,
        macs=macs,
    )


def load_network(given: GivenNetwork, factor: int) -> SpandrelNetwork:
    """The network of a file for a factor. Raises WeightsError unless the file is the one that was planned with."""
    path = Path(given.path)
    data = _read(path)
    if (digest := digest_bytes(data)) != given.digest:
        raise WeightsError(
            f"{path} has sha256 {digest}, and the build was planned with {given.digest}: it was replaced, or this "
            "machine has another file there; bring the right one back"
        )
    return SpandrelNetwork(_recognise(path, data), factor, given.title, alone=given.alone)


def _read(path: Path) -> bytes:
    """The bytes of a file, all at once: what is checked is what is loaded."""
    try:
        if path.exists() and not path.is_file():
            raise WeightsError(f"upscaler_file {path} is {'a folder' if path.is_dir() else 'a device'}; {ANOTHER}")
        if (size := path.stat().st_size) > MOST:
            raise WeightsError(f"upscaler_file {path} has {size:,} bytes, more than any such network; {ANOTHER}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise WeightsError(
            f"upscaler_file {path} does not exist on this machine; correct the path (the workers of a cluster need the "
            "file under the same path)"
        ) from error
    except (OSError, ValueError) as error:  # no path at all is a ValueError
        why = error.strerror if isinstance(error, OSError) else error
        raise WeightsError(f"upscaler_file {str(path)!a} cannot be read ({why}); {ANOTHER}") from error


def _recognise(path: Path, data: bytes) -> Any:
    """The network in the bytes of a file, as spandrel describes it. Raises WeightsError if it is none for this use."""
    state = _tensors(path, data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

        try:
            found = ModelLoader().load_from_state_dict(state)
        except UnsupportedModelError as error:
            names = ", ".join(ascii(str(name)[:60]) for name in [*state][:2]) or "nothing"
            raise WeightsError(
                f"{path} holds {len(state)} entries ({names}, …), and spandrel knows no network of such weights; "
                f"{ANOTHER}"
            ) from error
        except Exception as error:  # of a network that is almost one it knows: KeyError, RuntimeError, IndexError, …
            first = (str(error).strip() or "no reason given").splitlines()[0][:200]
            raise WeightsError(
                f"{path} looks like a network that spandrel knows, but does not fit it ({type(error).__name__}: "
                f"{first!a}): it is incomplete, or of another program; {ANOTHER}"
            ) from error
    what = f"{path} is {found.architecture.name}, a network for {found.purpose} with scale {found.scale}"
    if not isinstance(found, ImageModelDescriptor) or found.purpose != "SR" or found.scale not in SCALES:
        raise WeightsError(f"{what}: views are enlarged by 2 and 4 only; {ANOTHER}")
    if (found.input_channels, found.output_channels) != (3, 3):
        raise WeightsError(
            f"{what} that takes {found.input_channels} channels and makes {found.output_channels}, and views have 3, "
            f"RGB; {ANOTHER}"
        )
    return found


def _tensors(path: Path, data: bytes) -> dict[str, Any]:
    """The entries of a PyTorch or safetensors file, told by its bytes; code in it is never run."""
    if not what_is_wrong(io.BytesIO(data), Format.SAFETENSORS):
        try:
            return dict(load_safetensors(data))
        except SafetensorError as error:
            raise WeightsError(f"{path} is a safetensors file that is damaged or cut off; {ANOTHER}") from error
    load = partial(torch.load, map_location="cpu", weights_only=True)
    state = read_plain(data, path, load, WeightsError, ANOTHER)
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path} holds a {type(state).__name__}, not named tensors (a state dict); {ANOTHER}")
    return dict(state)


def _licence_inside(data: bytes) -> str:
    """What the header of a safetensors file says of its terms; "" if it is none or says nothing."""
    header = (
        data[LENGTH : LENGTH + int.from_bytes(data[:LENGTH], "little")] if data[LENGTH : LENGTH + 1] == b"{" else b""
    )
    try:
        facts = parse_object(header)["__metadata__"] if header else {}
        said = next((str(facts[key]) for key in LICENCE_KEYS if key in facts), "")
    except (DocumentError, ValueError, KeyError, TypeError):
        return ""
    return name_of(said) if said and name_of(said) != UNKNOWN else ""


@torch.inference_mode()
def _try(path: Path, network: SpandrelNetwork) -> tuple[bool, int]:
    """Whether a window must be alone in its batch, and multiply-adds per pixel. WeightsError if it does not work.

    A network that mixes the windows of a batch, or takes one only, is run one by one. One that draws random numbers
    would make another store each time.
    """
    windows = torch.rand(2, 3, PROBE, PROBE, generator=torch.Generator().manual_seed(0))
    try:
        with FlopCounterMode(display=False) as counter:  # takes operations apart, which rounds otherwise
            network(windows[:1])
        one, again = network(windows[:1]), network(windows[:1])
    except Exception as error:  # code of many architectures
        first = (str(error).strip() or "no reason given").splitlines()[0][:200]
        raise WeightsError(
            f"{path} is {network.title}, and fails on a window of {PROBE} px ({type(error).__name__}: {first}); "
            f"{ANOTHER}"
        ) from error
    if one.shape != (1, 3, network.factor * PROBE, network.factor * PROBE):
        raise WeightsError(
            f"{path} is {network.title}, and makes {tuple(one.shape)} of a window of {PROBE} px; {ANOTHER}"
        )
    if not torch.equal(one.nan_to_num(), again.nan_to_num()):
        raise WeightsError(f"{path} is {network.title}, and makes another picture each time; {ANOTHER}")
    try:
        together = network(windows)[:1]
        alone = not bool((together - one).abs().max() <= APART)
    except Exception:  # takes one picture at a time
        alone = True
    return alone, counter.get_total_flops() // 2 // network.padded(PROBE) ** 2


def _mark(_: object, given: object, made: object) -> Tensor | None:
    """What is not finite becomes NaN, which clamping leaves as it is, where it would make a number of infinity."""
    return made.where(made.isfinite(), torch.nan) if isinstance(made, Tensor) else None
