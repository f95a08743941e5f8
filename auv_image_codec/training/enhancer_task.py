# Copyright 2026 auv_image_codec maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Training the enhancer: LSGAN, a perceptual distance, L1 and the squared error."""
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.func import functional_call
from torch.nn import functional
from tqdm import tqdm

from auv_image_codec.codecs import create_codec
from auv_image_codec.codecs.base import Codec
from auv_image_codec.codecs.enhancer import Enhancer, generator_of, PART
from auv_image_codec.codecs.packet import DEFAULT_MAX_BYTES
from auv_image_codec.codecs.weights import (
    NETWORK_PREFIX, read_weights, write_enhancer_weights,
)
from auv_image_codec.errors import RecipeError, WeightsError
from auv_image_codec.evaluation.lpips import Lpips
from auv_image_codec.evaluation.metrics import mse, psnr_db, ssim
from auv_image_codec.networks.enhancer import EnhancerGenerator, PatchDiscriminator, SCALE
from auv_image_codec.training.data import as_network_input, ImageArray
from auv_image_codec.training.enhancer_data import (
    decode_array, DecodedArray, DecodedBatches, DecodedImages,
)
from auv_image_codec.training.model_card import (
    card_heading, card_provenance, RunSummary, start_of_weights,
)
from auv_image_codec.training.module import TrainingModule
from auv_image_codec.training.perceptual import load_perceptual, PERCEPTUAL, VGG_INPUTS
from auv_image_codec.training.recipe import choice, number, Recipe
from auv_image_codec.training.tasks import Curves, Task

# See EnhancerTraining.
LARGEST_SHIFT = 8           # pixels
LIMIT_RATE = 0.2            # of the weight's logarithm a step, times the excess over the limit
MSE_WEIGHTS = (1.0, 1e5)    # that the limit may lead to


@dataclass(frozen=True)
class EnhancerRecipe:
    """The network section of a recipe that trains an enhancer."""

    type: str                                       # noqa: A003 (the recipe's own word)
    codec: str = 'autoencoder'                      # whose images it enhances
    codec_weights: str = ''                         # directory; empty: the shipped weights
    channels: int = number(32, 2, 1024)
    largest_channels: int = number(96, 2, 1024)
    discriminator_channels: int = number(32, 2, 1024)
    perceptual: str = choice('vgg19', PERCEPTUAL)
    perceptual_weights: str = ''                    # file; empty: the shipped ones of lpips
    perceptual_input: str = choice('caffe', tuple(VGG_INPUTS))  # what vgg19 was trained on
    adversarial_weight: float = number(1.0, 0, 1e6)     # 0: no discriminator
    perceptual_weight: float = number(1.0, 0, 1e6)
    l1_weight: float = number(1.0, 0, 1e6)
    mse_weight: float = number(0.0, 0, 1e6)
    mse_limit: float = number(0.0, 0, 1e6)  # times the decoded images' MSE; 0: none; see below
    validation_limit: int = number(0, 0, 1_000_000)     # images, evenly spaced; 0: all of them


class EnhancerTraining(TrainingModule):
    """
    The generator against a discriminator, a perceptual distance and errors of pixels.

    Both networks take one step at once, each on its own loss. The perceptual distance is taken
    of images shifted by a few pixels, another shift in every step: strides in its network would
    otherwise draw their pattern into the generator's images.

    With an ``mse_limit``, the weight of the squared error is no constant: it begins at
    ``mse_weight``, rises while the limit is exceeded and falls while it is not, so that training
    finds the best image that stays within the limit.

    :param recipe: the run's recipe.
    :param steps_per_epoch: of the training images at the recipe's batch size.
    :param codec: whose images it enhances; frozen, and no part of the state.
    :param feature_channels: of the codec's features; 0 for one without.
    :param perceptual: with ``distances`` and ``to``; frozen, and no part of the state.
    """

    def __init__(self, recipe: Recipe, steps_per_epoch: int, codec: Codec, feature_channels: int,
                 perceptual):
        network = recipe.network
        super().__init__(recipe, steps_per_epoch, EnhancerGenerator(
            network.channels, network.largest_channels, feature_channels))
        self.discriminator = None
        if network.adversarial_weight:
            self.discriminator = PatchDiscriminator(network.discriminator_channels)
        self.register_buffer('mse_weight', torch.tensor(network.mse_weight))
        self.codec = codec
        self._perceptual = perceptual
        self._lpips = Lpips()

    def on_fit_start(self):
        """Move what is no part of the state to the device."""
        self._perceptual.to(self.device)
        self._lpips.to(self.device)

    def training_step(self, batch, _):
        """Return the sum of both networks' losses of a batch of DecodedBatches."""
        images, decoded, features = _inputs(batch)
        network = self.recipe.network
        enhanced = self.network(decoded, features)
        generator = np.random.default_rng((self.recipe.optimization.seed, self.global_step, 2))
        top, left = generator.integers(0, LARGEST_SHIFT, 2)
        losses = {
            'perceptual': self._perceptual.distances(
                enhanced[:, :, top:, left:], images[:, :, top:, left:]).mean(),
            'l1': functional.l1_loss(enhanced, images),
            'mse': functional.mse_loss(enhanced, images)}
        if self.discriminator is not None:
            # the generator must not move the discriminator, nor the other way round
            frozen = {name: value.detach() for name, value in
                      self.discriminator.named_parameters()}
            judged = functional_call(self.discriminator, frozen, (enhanced, decoded))
            losses['adversarial'] = (judged - 1).square().mean()
        for name, value in losses.items():
            self.log(f'train_{name}', value, prog_bar=True, sync_dist=True)
        if network.mse_limit:
            errors = torch.stack([losses['mse'].detach(), functional.mse_loss(decoded, images)])
            enhanced_mse, decoded_mse = self.trainer.strategy.reduce(errors, reduce_op='mean')
            excess = enhanced_mse / decoded_mse
            self.mse_weight *= torch.exp(LIMIT_RATE * (excess - network.mse_limit).clamp(-1, 1))
            self.mse_weight.clamp_(*MSE_WEIGHTS)
            self.log('mse_weight', self.mse_weight)
        weights = {name: getattr(network, f'{name}_weight') for name in losses}
        # a copy: the next step changes the weight in place
        weights['mse'] = self.mse_weight.clone()
        loss = sum(weights[name] * value for name, value in losses.items())
        self.log('train_loss', loss, sync_dist=True)
        if self.discriminator is None:
            return loss
        clear = self.discriminator(images, decoded)
        made = self.discriminator(enhanced.detach(), decoded)
        judging = ((clear - 1).square().mean() + made.square().mean()) / 2
        self.log('train_discriminator', judging, prog_bar=True, sync_dist=True)
        return loss + judging

    def validation_step(self, batch, _):
        """
        Log errors, LPIPS, and the loss without its adversarial part.

        With an mse_limit, what exceeds it counts in the place of the whole squared error, at the
        weight that training gives it now.
        """
        images, decoded, features = _inputs(batch)
        network = self.recipe.network
        enhanced = self.averaged(decoded, features).clamp(0, 1).float()
        errors = (enhanced - images).square().mean((1, 2, 3))
        lpips = self._lpips.distances(enhanced, images)
        perceptual = lpips if network.perceptual == 'lpips' else self._perceptual.distances(
            enhanced, images)
        allowed = network.mse_limit * (decoded - images).square().mean((1, 2, 3))
        loss = (network.perceptual_weight * perceptual + self.mse_weight * (errors - allowed)
                + network.l1_weight * (enhanced - images).abs().mean((1, 2, 3)))
        self.log_validation(loss=loss, mse=errors, lpips=lpips)

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None,
                                    gradient_clip_algorithm=None):
        """Clip each network's gradients by their own norm."""
        if gradient_clip_val:
            for group in optimizer.param_groups:
                torch.nn.utils.clip_grad_norm_(group['params'], gradient_clip_val)

    def preview(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 images [N, H, W, 3], coded, decoded and enhanced, as float in 0..1."""
        batch = [images.cpu()]
        latents = [self.codec.encode(image.numpy(), DEFAULT_MAX_BYTES) for image in batch[0]]
        batch.append(torch.from_numpy(np.stack([
            self.codec.decode(latent, self.codec.input_size) for latent in latents])))
        if self.network.feature_channels:
            batch.append(torch.from_numpy(np.stack([
                self.codec.features(latent).transpose(1, 2, 0) for latent in latents])))
        _, decoded, features = _inputs([part.to(self.device) for part in batch])
        return self.averaged(decoded, features).clamp(0, 1)

    def parameter_groups(self) -> list[dict]:
        """Return both networks."""
        groups = super().parameter_groups()
        if self.discriminator is not None:
            groups.append({'params': list(self.discriminator.parameters())})
        return groups

    def on_save_checkpoint(self, checkpoint):
        """Note also which codec's images this checkpoint learned from."""
        super().on_save_checkpoint(checkpoint)
        checkpoint['codec_model_id'] = self.codec.model_id

    def on_load_checkpoint(self, checkpoint):
        """
        Refuse a checkpoint that learned from another codec's images.

        :raises WeightsError: if it did.
        """
        super().on_load_checkpoint(checkpoint)
        found = checkpoint['codec_model_id']
        if found != self.codec.model_id:
            raise WeightsError(
                f'this run began with model {found:08x} of codec {self.codec.name!r}, which is '
                f'now model {self.codec.model_id:08x}; give another run directory')


def _inputs(batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return a batch of DecodedBatches as the networks take it."""
    images, decoded = (as_network_input(part).contiguous(memory_format=torch.channels_last)
                       for part in batch[:2])
    features = batch[2].permute(0, 3, 1, 2).float() if len(batch) > 2 else None
    return images, decoded, features


@torch.inference_mode()
def _strength(network: EnhancerGenerator, images: DecodedImages, limit: float) -> float:
    """Return the largest share of the detail, at most 1, that keeps to an mse_limit."""
    constant = linear = square = 0.0
    for index in range(len(images)):
        clear, decoded, features = _inputs([torch.from_numpy(np.array(part))[None]
                                            for part in images[index]])
        error, detail = decoded - clear, network(decoded, features) - decoded
        constant += float(error.square().mean())
        linear += 2 * float((error * detail).mean())
        square += float(detail.square().mean())
    # the squared error at a share s of the detail: constant + linear s + square s^2
    if square == 0 or constant + linear + square <= limit * constant:
        return 1.0
    excess = (1 - limit) * constant
    root = max(0.0, linear ** 2 - 4 * square * excess) ** 0.5
    return max(0.0, (root - linear) / (2 * square))


class EnhancerTask(Task):
    """The enhancer of one codec."""

    NetworkRecipe = EnhancerRecipe
    monitor = 'validation_loss'
    divides_batches = True
    curves = Curves('train_loss', 'training loss of the generator', 'validation_lpips',
                    'validation LPIPS')

    def __init__(self, recipe, files):
        super().__init__(recipe, files)
        network, augmentation = recipe.network, recipe.augmentation
        for name in ('smallest_crop', 'colour_jitter', 'turbidity'):
            if getattr(augmentation, name) != type(augmentation).__dict__[name]:
                raise RecipeError(f'{recipe.name}: augmentation.{name}: an enhancer learns from '
                                  'what a codec made of whole images: leave it out')
        for name, side in (('augmentation.crop_size', augmentation.crop_size),
                           ('data.input_size', recipe.data.input_size)):
            if side % SCALE:
                raise RecipeError(f'{recipe.name}: {name}: is {side}, must be a multiple of '
                                  f'{SCALE}')
        weights = network.codec_weights
        self.codec = create_codec(network.codec, files.resolve(weights) if weights else None)
        if self.codec.input_size != (recipe.data.input_size,) * 2:
            raise RecipeError(
                f'{recipe.name}: data.input_size: is {recipe.data.input_size}, but codec '
                f'{network.codec} takes {"x".join(map(str, self.codec.input_size))}')

    def load_images(self, name: str) -> DecodedArray:
        """Return the images of a shard and what the codec makes of them."""
        return decode_array(super().load_images(name), self.codec)

    def training_batches(self, training, weights, first_step):
        """Return batches of images, reconstructions and features."""
        return DecodedBatches(training, weights, self.recipe.optimization.batch_size,
                              self.recipe.optimization.seed, first_step,
                              crop_size=self.recipe.augmentation.crop_size)

    def validation_images(self, validation):
        """Return images, reconstructions and features, as many as the recipe wants."""
        return DecodedImages(validation, self.recipe.network.validation_limit)

    def create_module(self, steps_per_epoch: int) -> EnhancerTraining:
        """Return generator and discriminator, at a start that changes no image."""
        network = self.recipe.network
        path = network.perceptual_weights
        perceptual = load_perceptual(network.perceptual,
                                     self.files.resolve(path) if path else None,
                                     network.perceptual_input)
        width, height = self.codec.input_size
        features = self.codec.features(self.codec.encode(np.zeros((height, width, 3), np.uint8)))
        return EnhancerTraining(self.recipe, steps_per_epoch, self.codec,
                                0 if features is None else len(features), perceptual)

    def start_from_weights(self, module: EnhancerTraining, weights: Path) -> str:
        """Start with the generator of an enhancer, of any weights of the same codec."""
        try:
            generator = generator_of(read_weights(weights, self.codec.name, PART))
            module.network.load_state_dict(generator.state_dict())
        except (TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(
                f"{weights}: the enhancer does not fit the recipe's network: {error}") from error
        return start_of_weights(weights, PART)

    def export(self, module: EnhancerTraining, training: list[ImageArray],
               weights: Path) -> None:
        """
        Write enhancer.safetensors.

        Training keeps to the mse_limit on training images. Where validation images exceed it,
        the detail is scaled down until they do not.
        """
        network = module.averaged.eval()
        self.strength = 1.0
        if self.recipe.network.mse_limit:
            validation = self.load_images(self.recipe.data.validation)
            self.strength = _strength(network, self.validation_images(validation),
                                      self.recipe.network.mse_limit)
            # the detail is a linear function of the last layer
            with torch.no_grad():
                network.head.weight *= self.strength
                network.head.bias *= self.strength
        write_enhancer_weights(
            weights, self.codec.name, self.codec.model_id,
            {'channels': self.recipe.network.channels,
             'largest_channels': self.recipe.network.largest_channels,
             'feature_channels': network.feature_channels},
            {NETWORK_PREFIX + key: tensor.contiguous().numpy()
             for key, tensor in network.state_dict().items()})

    def write_card(self, weights: Path, recipe_path: Path, run: RunSummary,
                   sets: dict[str, ImageArray]) -> dict:
        """Measure decoded and enhanced images of the exported weights."""
        enhancer = Enhancer(self.codec, weights)
        network = self.recipe.network
        parts = [f'{getattr(network, f"{name}_weight"):g} x {label}' for name, label in (
            ('adversarial', 'LSGAN'), ('perceptual', network.perceptual), ('l1', 'L1'),
            ('mse', 'MSE')) if getattr(network, f'{name}_weight')]
        if network.mse_limit:
            parts[-1] = f"MSE, weighed to stay at {network.mse_limit:g} of the decoded images'"
        lines = card_heading(self.recipe, recipe_path, run, {
            'enhances': f'codec {self.codec.name}, model `{self.codec.model_id:08x}`',
            'network': f'U-Net of {network.channels} to {network.largest_channels} channels',
            'loss': ' + '.join(parts),
            'start': run.start or 'no change to any image',
            'strength': f'{self.strength:.3f} of the learned detail, so that validation images '
            'keep to the limit' if self.strength < 1 else 'all of the learned detail'})
        lines += [
            'Detail in enhanced images is synthesised: it was not sent, and need not be there.',
            '', f'Packets of at most {DEFAULT_MAX_BYTES} bytes; means over images at '
            f'{"x".join(map(str, self.codec.input_size))}, RGB values of 0 to 1, ± standard '
            'deviation over images.', '',
            '| set | images | | LPIPS | MSE | PSNR, dB | SSIM |', '|---|---|---|---|---|---|---|']
        results = {}
        lpips = Lpips()
        for name, images in sets.items():
            rows = {'decoded': [], 'enhanced': []}
            for index in tqdm(range(len(images)), desc='measuring', leave=False):
                image, decoded = (np.ascontiguousarray(array[index])
                                  for array in (images.images, images.decoded))
                features = None
                if images.features is not None:
                    features = images.features[index].astype(np.float32).transpose(2, 0, 1)
                for kind, shown in (('decoded', decoded),
                                    ('enhanced', enhancer.enhance_decoded(decoded, features))):
                    rows[kind].append((lpips(image, shown), mse(image, shown),
                                       psnr_db(image, shown), ssim(image, shown)))
            results[name] = {}
            for kind, values in rows.items():
                means, deviations = np.mean(values, 0), np.std(values, 0, ddof=1)
                results[name][kind] = dict(zip(('lpips', 'mse', 'psnr_db', 'ssim'),
                                               means.tolist()))
                stem = Path(getattr(self.recipe.data, name)).stem
                lines.append(f'| {name} ({stem}) | {len(values)} | {kind} | ' + ' | '.join(
                    f'{mean:.{digits}f} ± {deviation:.{digits}f}' for mean, deviation, digits in
                    zip(means, deviations, (3, 5, 2, 3))) + ' |')
        if network.perceptual == 'lpips':
            lines += ['', 'LPIPS is also what was trained on: it flatters the enhanced images.']
        lines += card_provenance(self.recipe, run)
        (Path(weights) / 'model_card.md').write_text('\n'.join(lines) + '\n')
        return results
