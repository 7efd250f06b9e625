"""The two halves of a CLIP as they are exported: pixels to a unit vector, token ids to a unit vector.

The towers take the weights of an eager ``CLIPModel`` and compute what its ``get_image_features`` and
``get_text_features`` compute, L2-normalised. They are written out here, rather than traced through transformers, for
what an export needs: inputs named as the Triton config names them, uint8 pixels in, no constant that carries a device,
and nothing that depends on the batch or the length of the example. ``scripts.export.parity`` compares every export
with the eager model.

These rewrites change the order of rounding and nothing else:

- mean and standard deviation are folded into the patch projection, and that projection (a convolution whose stride is
  its kernel) is one matrix product over patches;
- the query, key and value projections of a layer are one matrix product, with attention's 1/sqrt(head_dim) in the
  query's part;
- QuickGELU, x * sigmoid(1.702 x), is SiLU(1.702 x) / 1.702: one operation in place of three, with the factors in the
  weights on both sides;
- what a layer adds to the hidden states is added in place, by the matrix product itself where its weights lie as
  ``products.Laid`` lays them;
- of the last layer only the token that is read later is computed: every token gives its key and value, that one alone
  its query and what follows;
- attention in the text tower is causal, so what all rows of a batch begin with ("a photo of the large ...") comes out
  the same in all of them: it is computed once, and every row attends to it.

No value of an input can fail a batch, on any server: every uint8 is a pixel, and a row of ids that is no text (an id
that the vocabulary lacks, no end token, or more of them than the context holds) gets NaN in place of a vector, which
every client's check of unit length notices. Its neighbours get theirs.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPModel
from transformers.activations import QuickGELUActivation
from transformers.models.clip.modeling_clip import CLIPMLP, CLIPAttention, CLIPEncoderLayer

from scripts.export.formats.products import add_product

QUICK_GELU = 1.702
"""The factor in QuickGELU, from OpenAI's ``clip/model.py``."""
NEVER = -60_000.0
"""Added to a logit that must not count: within half precision, and its exponential is 0."""
WORTH_SHARING = 40
"""Tokens less to compute from which a common beginning is computed by itself: that is one more pass over the weights.
Measured on a CPU with ViT-B/32 and 10 tokens: 8 rows with one common token were a tenth slower for it, 8 with six were
7 % faster, 64 with six twice as fast."""


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, eager: CLIPAttention) -> None:
        super().__init__()
        self.heads = int(eager.num_heads)
        self.head_dim = int(eager.head_dim)
        self.qkv = _stacked(_scaled(eager.q_proj, self.head_dim**-0.5), eager.k_proj, eager.v_proj)
        self.out = _copied(eager.out_proj)

    def forward(self, hidden: torch.Tensor, seen: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Add to hidden states [N, S, width], in place, what each token sees in ``seen`` [N, S, width].

        mask: [S, S], added to the logits; None where every token may look everywhere.
        """
        query, key, value = self.project(seen)
        return self.mix(hidden, query, key, value, mask)

    def project(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries, keys and values, each [N, heads, S, head_dim], of hidden states [N, S, width]."""
        batch, length = seen.shape[0], seen.shape[1]
        # [N, S, 3 * width] -> [3, N, heads, S, head_dim]
        qkv = self.qkv(seen).view(batch, length, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        return qkv[0], qkv[1], qkv[2]

    def mix(
        self,
        hidden: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Add to hidden states [N, S, width], in place, what queries [N, heads, S, head_dim] find in T keys and values.

        mask: [S, T], added to the logits; None where every token may look everywhere.
        """
        batch, length = query.shape[0], query.shape[2]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
        return add_product(hidden, self.out, mixed.transpose(1, 2).reshape(batch, length, self.heads * self.head_dim))


class AttentionOfOne(nn.Module):
    """Multi-head attention of one token a row to all of them."""

    def __init__(self, eager: CLIPAttention) -> None:
        super().__init__()
        self.heads = int(eager.num_heads)
        self.head_dim = int(eager.head_dim)
        self.query = _scaled(eager.q_proj, self.head_dim**-0.5)
        self.key_value = _stacked(eager.k_proj, eager.v_proj)
        self.out = _copied(eager.out_proj)

    def forward(self, one: torch.Tensor, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return [N, 1, width] for one token [N, 1, width] among hidden states [N, S, width].

        mask: bool [N, 1, 1, S], true where the token may look; None where it may look everywhere.
        """
        batch, length = hidden.shape[0], hidden.shape[1]
        query = self.query(one).view(batch, 1, self.heads, self.head_dim).transpose(1, 2)
        # [N, S, 2 * width] -> [2, N, heads, S, head_dim]
        both = self.key_value(hidden).view(batch, length, 2, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, both[0], both[1], attn_mask=mask, scale=1.0)
        return self.out(mixed.transpose(1, 2).reshape(batch, 1, self.heads * self.head_dim))  # type: ignore[no-any-return]


class Feedforward(nn.Module):
    """The two matrix products of a layer with the activation between them."""

    def __init__(self, eager: CLIPMLP) -> None:
        super().__init__()
        self.fc1, self.fc2 = _copied(eager.fc1), _copied(eager.fc2)
        self.activation = eager.activation_fn
        if isinstance(eager.activation_fn, QuickGELUActivation):
            self.activation = nn.SiLU(inplace=True)
            self.fc1 = _scaled(eager.fc1, QUICK_GELU)
            self.fc2.weight.data = (eager.fc2.weight.data.double() / QUICK_GELU).float()

    def forward(self, hidden: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Add to hidden states [N, S, width], in place, what comes of ``seen`` [N, S, width]."""
        return add_product(hidden, self.fc2, self.activation(self.fc1(seen)))


class Layer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, eager: CLIPEncoderLayer) -> None:
        super().__init__()
        self.norm1 = eager.layer_norm1
        self.attention = Attention(eager.self_attn)
        self.norm2 = eager.layer_norm2
        self.feedforward = Feedforward(eager.mlp)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map hidden states [N, S, width] in place to the next ones; for mask see ``Attention``."""
        hidden = self.attention(hidden, self.norm1(hidden), mask)
        return self.feedforward(hidden, self.norm2(hidden))  # type: ignore[no-any-return]

    def after(
        self, common: torch.Tensor, hidden: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map what all rows begin with [1, C, width] and each row's own rest [N, R, width] in place to the next ones.

        mask: [C + R, C + R], added to the logits; causal, or the beginning would not be the same in all rows.
        """
        shared = common.shape[1]
        query, key, value = self.attention.project(self.norm1(common))
        own_query, own_key, own_value = self.attention.project(self.norm1(hidden))
        rows = hidden.shape[0]
        keys = torch.cat([key.expand(rows, -1, -1, -1), own_key], dim=2)
        values = torch.cat([value.expand(rows, -1, -1, -1), own_value], dim=2)
        common = self.attention.mix(common, query, key, value, mask[:shared, :shared])
        hidden = self.attention.mix(hidden, own_query, keys, values, mask[shared:])
        return self.feedforward(common, self.norm2(common)), self.feedforward(hidden, self.norm2(hidden))


class LastLayer(nn.Module):
    """The last layer, for the one token of each row that is read afterwards."""

    def __init__(self, eager: CLIPEncoderLayer) -> None:
        super().__init__()
        self.norm1 = eager.layer_norm1
        self.attention = AttentionOfOne(eager.self_attn)
        self.norm2 = eager.layer_norm2
        self.feedforward = Feedforward(eager.mlp)

    def forward(self, one: torch.Tensor, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return [N, 1, width] for the token [N, 1, width] of hidden states [N, S, width]; see ``AttentionOfOne``."""
        one = one + self.attention(self.norm1(one), self.norm1(hidden), mask)
        return self.feedforward(one, self.norm2(one))  # type: ignore[no-any-return]


def _copied(linear: nn.Linear) -> nn.Linear:
    """Return a linear layer of its own with the same weights."""
    return _stacked(linear)


def _scaled(linear: nn.Linear, factor: float) -> nn.Linear:
    """Return a linear layer whose output is ``factor`` times that of another."""
    made = _copied(linear)
    made.weight.data = (linear.weight.data.double() * factor).float()
    made.bias.data = (linear.bias.data.double() * factor).float()
    return made


def _stacked(*parts: nn.Linear) -> nn.Linear:
    """Return one linear layer that gives the outputs of several, one behind the other."""
    made = nn.Linear(parts[0].in_features, sum(part.out_features for part in parts))
    made.weight.data = torch.cat([part.weight.data for part in parts])
    made.bias.data = torch.cat([part.bias.data for part in parts])
    return made


class ImageTower(nn.Module):
    """uint8 pixels [N, H, W, 3] to unit vectors fp32 [N, D].

    Args:
        eager: a ``CLIPModel`` in evaluation mode, fp32.
        mean: per RGB channel, on the 0..1 scale.
        std: per RGB channel, on the 0..1 scale.
    """

    def __init__(self, eager: CLIPModel, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        vision = eager.vision_model
        kernel = vision.embeddings.patch_embedding.weight.data.double()  # [width, 3, P, P]
        self.patch = int(kernel.shape[-1])
        self.grid = int(vision.embeddings.image_size) // self.patch
        scale = 255.0 * torch.tensor(std, dtype=torch.float64)
        shift = torch.tensor(mean, dtype=torch.float64) / torch.tensor(std, dtype=torch.float64)
        self.project_patches = nn.Linear(3 * self.patch**2, int(kernel.shape[0]))
        # The pixels of a patch come as [P, P, 3].
        folded = (kernel / scale.view(1, 3, 1, 1)).permute(0, 2, 3, 1).flatten(1)
        self.project_patches.weight.data = folded.float().contiguous()
        self.project_patches.bias.data = -(kernel * shift.view(1, 3, 1, 1)).sum((1, 2, 3)).float()
        position = vision.embeddings.position_embedding.weight.data
        self.class_token = nn.Parameter(vision.embeddings.class_embedding.data + position[0])
        self.position = nn.Parameter(position[1:].clone())
        self.pre_norm = vision.pre_layrnorm
        *layers, last = vision.encoder.layers
        self.layers = nn.ModuleList(Layer(layer) for layer in layers)
        self.last = LastLayer(last)
        self.post_norm = vision.post_layernorm
        self.projection = eager.visual_projection

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode RGB pixels, already resized and cropped, uint8 [N, H, W, 3] as unit vectors fp32 [N, D]."""
        grid, patch = self.grid, self.patch
        whole = pixels[:, : grid * patch, : grid * patch]  # a convolution leaves an incomplete last patch out
        patches = whole.reshape(-1, grid, patch, grid, patch, 3).transpose(2, 3).reshape(-1, grid**2, 3 * patch**2)
        hidden = self.project_patches(patches.to(self.project_patches.weight.dtype)).to(self.position.dtype)
        hidden = hidden + self.position
        first = self.class_token.expand(hidden.shape[0], 1, -1)
        hidden = self.pre_norm(torch.cat([first, hidden], dim=1))  # [N, 1 + grid^2, width]
        for layer in self.layers:
            hidden = layer(hidden)
        seen = self.last(hidden[:, :1], hidden, None).squeeze(1)
        return functional.normalize(self.projection(self.post_norm(seen)).float(), dim=-1)


class TextTower(nn.Module):
    """Token ids int64 [N, L] to unit vectors fp32 [N, D].

    The vector is read at the first end token, found by its id. Attention is causal, so that what stands behind the
    end token changes nothing, and no mask is needed. A row without an end token, with an id outside the vocabulary, or
    longer than the context gets NaN.

    Args:
        eager: a ``CLIPModel`` in evaluation mode, fp32.
        eos_id: id of the end token, as the tokenizer has it.
        sharing: compute what all rows begin with once. For CPUs: on a GPU it would only double the number of kernels.
    """

    def __init__(self, eager: CLIPModel, eos_id: int, *, sharing: bool) -> None:
        super().__init__()
        self.sharing = sharing
        text = eager.text_model
        self.eos_id = eos_id
        self.token = text.embeddings.token_embedding
        self.words = int(self.token.num_embeddings)
        self.position = nn.Parameter(text.embeddings.position_embedding.weight.data.clone())
        *layers, last = text.encoder.layers
        self.layers = nn.ModuleList(Layer(layer) for layer in layers)
        self.last = LastLayer(last)
        self.final_norm = text.final_layer_norm
        self.projection = eager.text_projection

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Encode ids int64 [N, L], L at most the context length, as unit vectors fp32 [N, D]."""
        fits = torch.ones_like(input_ids[:1]).sum() <= self.position.shape[0]
        input_ids = input_ids[:, : self.position.shape[0]]  # what is computed is bounded, whatever is sent
        ends = input_ids == self.eos_id
        end = ends.int().argmax(dim=-1, keepdim=True)  # [N, 1], the first of equals
        known = input_ids.clamp(0, self.words - 1)
        is_text = (known == input_ids).all(dim=-1, keepdim=True) & ends.any(dim=-1, keepdim=True) & fits  # [N, 1]
        places = torch.ones_like(input_ids[0]).cumsum(0)  # 1, 2, ...: no arange, which would keep a device constant
        hidden = self.token(known) + self.position[: input_ids.shape[1]]  # [N, L, width]
        mask = (places > places.unsqueeze(1)).to(hidden.dtype) * NEVER  # [L, L], row by column
        if self.sharing:
            shared = self.begins_alike(input_ids, end)
            common, hidden = hidden[:1, :shared].contiguous(), hidden[:, shared:].contiguous()
            for layer in self.layers:
                common, hidden = cast("Layer", layer).after(common, hidden, mask)
            hidden = torch.cat([common.expand(hidden.shape[0], -1, -1), hidden], dim=1)
        else:
            for layer in self.layers:
                hidden = layer(hidden, mask)
        at_end = hidden.gather(1, end.unsqueeze(2).expand(-1, -1, hidden.shape[2]))  # [N, 1, width]
        read = self.last(at_end, hidden, (places <= end + 1).view(-1, 1, 1, input_ids.shape[1])).squeeze(1)
        vectors = functional.normalize(self.projection(self.final_norm(read)).float(), dim=-1)
        return vectors.masked_fill(~is_text, float("nan"))

    @staticmethod
    def begins_alike(input_ids: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """Return how many tokens of all rows are computed once, 0 where that is not worth it.

        It is a tensor and used in slices alone, so that tracing records it: a number would be that of the example.

        end: [N, 1], place of each row's end token, from 0; it is never among them.
        """
        alike = (input_ids == input_ids[:1]).all(dim=0).int().cumprod(0).sum()
        shared = torch.minimum(alike, end.min())
        others = torch.ones_like(input_ids[:, 0]).sum() - 1
        return shared * (shared * others >= WORTH_SHARING)
