"""The two halves of a CLIP as they are exported: pixels to a unit vector, token ids to a unit vector.

The towers take the weights of an eager ``CLIPModel`` and compute what its ``get_image_features`` and
``get_text_features`` compute, L2-normalised. They are written out here, rather than traced through transformers, for
what an export needs: inputs named as the Triton config names them, uint8 pixels in, no constant that carries a device,
and nothing that depends on the batch or the length of the example. ``scripts.export.parity`` compares every export
with the eager model.

Three rewrites change the order of rounding and nothing else: mean and standard deviation are folded into the patch
projection, that projection (a convolution whose stride is its kernel) is one matrix product over patches, and the
query, key and value projections of a layer are one matrix product.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPModel
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, eager: CLIPAttention, *, causal: bool) -> None:
        super().__init__()
        self.heads = int(eager.num_heads)
        self.head_dim = int(eager.head_dim)
        self.causal = causal
        width = int(eager.embed_dim)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        parts = (eager.q_proj, eager.k_proj, eager.v_proj)
        self.qkv.weight.data = torch.cat([part.weight.data for part in parts])
        self.qkv.bias.data = torch.cat([part.bias.data for part in parts])
        self.out.load_state_dict(eager.out_proj.state_dict())

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map hidden states [N, S, width] to [N, S, width]; causal attention sees no later position."""
        batch, length = hidden.shape[0], hidden.shape[1]
        # [N, S, 3 * width] -> [3, N, heads, S, head_dim]
        qkv = self.qkv(hidden).view(batch, length, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, self.heads * self.head_dim))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, eager: CLIPEncoderLayer, *, causal: bool) -> None:
        super().__init__()
        self.norm1 = eager.layer_norm1
        self.attention = Attention(eager.self_attn, causal=causal)
        self.norm2 = eager.layer_norm2
        self.fc1 = eager.mlp.fc1
        self.activation = eager.mlp.activation_fn
        self.fc2 = eager.mlp.fc2

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map hidden states [N, S, width] to [N, S, width]."""
        hidden = hidden + self.attention(self.norm1(hidden))
        return hidden + self.fc2(self.activation(self.fc1(self.norm2(hidden))))  # type: ignore[no-any-return]


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
        self.layers = nn.ModuleList(Layer(layer, causal=False) for layer in vision.encoder.layers)
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
        return functional.normalize(self.projection(self.post_norm(hidden[:, 0])).float(), dim=-1)


class TextTower(nn.Module):
    """Token ids int64 [N, L] to unit vectors fp32 [N, D].

    The vector is read at the first end token, found by its id. Attention is causal, so that what stands behind the
    end token changes nothing, and no mask is needed.

    Args:
        eager: a ``CLIPModel`` in evaluation mode, fp32.
        eos_id: id of the end token, as the tokenizer has it.
    """

    def __init__(self, eager: CLIPModel, eos_id: int) -> None:
        super().__init__()
        text = eager.text_model
        self.eos_id = eos_id
        self.token = text.embeddings.token_embedding
        self.position = nn.Parameter(text.embeddings.position_embedding.weight.data.clone())
        self.layers = nn.ModuleList(Layer(layer, causal=True) for layer in text.encoder.layers)
        self.final_norm = text.final_layer_norm
        self.projection = eager.text_projection

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Encode ids int64 [N, L], L at most the context length, as unit vectors fp32 [N, D]."""
        hidden = self.token(input_ids) + self.position[: input_ids.shape[1]]  # [N, L, width]
        for layer in self.layers:
            hidden = layer(hidden)
        end = (input_ids == self.eos_id).int().argmax(dim=-1)  # [N], the first of equals
        at_end = hidden.gather(1, end.view(-1, 1, 1).expand(-1, 1, hidden.shape[2])).squeeze(1)
        return functional.normalize(self.projection(self.final_norm(at_end)).float(), dim=-1)
