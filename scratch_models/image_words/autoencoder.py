"""An autoencoder whose middle is a few numbers of a codebook: an image becomes four codes, four codes an image.

Source: van den Oord et al. 2017, "Neural Discrete Representation Learning", section 3, whose three losses these are;
Esser, Rombach and Ommer 2021, "Taming Transformers for High-Resolution Image Synthesis", has a transformer write such
codes. Their perceptual and adversarial losses are left out: 8 x 8 pixels have no texture.

Shapes: N images, P = 4 codes of an image, C codes of the codebook, D width of a code.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PLACES = 4
"""Codes of an image: one for each quarter of it, though each sees some of the others."""
COMMITMENT = 0.25  # beta of van den Oord et al., equation 3
CODE_WIDTH = 16


class Autoencoder(nn.Module):
    """Images to codes and back."""

    def __init__(self, codes: int, width: int = 32) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(1, width, 3, padding=1), nn.ReLU()),  # (N, width, 8, 8)
            *(nn.Conv2d(width, width, 4, stride=2, padding=1), nn.ReLU()),  # (N, width, 4, 4)
            *(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.ReLU()),  # (N, 2 * width, 2, 2)
            nn.Conv2d(2 * width, CODE_WIDTH, 1),  # (N, D, 2, 2)
        )
        self.codebook = nn.Embedding(codes, CODE_WIDTH)
        self.decoder = nn.Sequential(
            *(nn.Conv2d(CODE_WIDTH, 2 * width, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.ReLU()),
            *(nn.ConvTranspose2d(width, width, 4, stride=2, padding=1), nn.ReLU()),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, images: Tensor, *, quantise: bool = True) -> tuple[Tensor, Tensor]:
        """The loss, and the codes that were used, (N, P): reconstruction, codebook and commitment, means over numbers.

        Without `quantise` it is a plain autoencoder, whose middle may be anything.
        """
        middle = self.middle(images)  # (N, P, D)
        codes = self.nearest(middle)  # (N, P)
        if not quantise:
            return F.mse_loss(self.paint(middle), images), codes
        rows = self.codebook(codes)  # (N, P, D)
        # The choice of a code has no gradient: the decoder's goes to the encoder as if there had been none.
        passed = middle + (rows - middle).detach()
        moved = F.mse_loss(rows, middle.detach()) + COMMITMENT * F.mse_loss(middle, rows.detach())
        return F.mse_loss(self.paint(passed), images) + moved, codes

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """The codes of images: (N, 8, 8) -> (N, P)."""
        return self.nearest(self.middle(images))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """The images of codes, every pixel from 0 to 1: (N, P) -> (N, 8, 8)."""
        return self.paint(self.codebook(codes)).clamp(0, 1)

    def middle(self, images: Tensor) -> Tensor:
        """What the encoder makes of images, before codes are chosen: (N, 8, 8) -> (N, P, D)."""
        encoded: Tensor = self.encoder(images.unsqueeze(1))  # (N, D, 2, 2)
        return encoded.flatten(2).transpose(1, 2)

    def nearest(self, middle: Tensor) -> Tensor:
        """The nearest code of each: (N, P, D) -> (N, P)."""
        return torch.cdist(middle, self.codebook.weight.expand(len(middle), -1, -1)).argmin(dim=-1)

    def paint(self, middle: Tensor) -> Tensor:
        """What the decoder makes of codes' rows: (N, P, D) -> (N, 8, 8)."""
        painted: Tensor = self.decoder(middle.transpose(1, 2).unflatten(2, (2, 2)))  # (N, 1, 8, 8)
        return painted.squeeze(1)


def fit_autoencoder(images: Tensor, codes: int, *, steps: int, learning_rate: float, seed: int) -> Autoencoder:
    """The autoencoder of these images.

    The first tenth of the steps trains without a codebook. Then its rows start at what the encoder makes of images, and
    those that no image used for a while start anew in the same way: else most codes would stay unused.
    """
    torch.manual_seed(seed)
    model = Autoencoder(codes)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    plain_steps, uses = steps // 10, torch.zeros(codes)
    for step in range(steps):
        batch = images[torch.randint(len(images), (IMAGES_PER_BATCH,))]
        if step >= plain_steps and (step - plain_steps) % RENEWAL_STEPS == 0 and step < LAST_RENEWAL * steps:
            _renew_unused(model, images, uses)
            uses.zero_()
        loss, used = model(batch, quantise=step >= plain_steps)
        uses += torch.bincount(used.flatten(), minlength=codes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - 0.95 * (step + 1) / steps)
    return model.eval()


IMAGES_PER_BATCH = 64
RENEWAL_STEPS = 100
LAST_RENEWAL = 0.7  # share of the steps after which codes stay where they are


@torch.no_grad()
def _renew_unused(model: Autoencoder, images: Tensor, uses: Tensor) -> None:
    unused = uses == 0 if uses.any() else torch.ones_like(uses, dtype=torch.bool)
    some = model.middle(images[torch.randperm(len(images))[:512]]).flatten(0, 1)  # (512 * P, D)
    model.codebook.weight[unused] = some[torch.randperm(len(some))[: int(unused.sum())]]
