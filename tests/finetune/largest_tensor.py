"""A hook that sees every tensor that an operation makes, in the forward pass, the backward pass and the optimizer."""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LargestTensor(TorchDispatchMode):
    """The elements of the largest memory that is taken inside, beside the tensors that are held already."""

    def __init__(self, *held: Tensor) -> None:
        super().__init__()
        self.held = {tensor.untyped_storage().data_ptr() for tensor in held}
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in self.held:
                self.elements = max(self.elements, leaf.untyped_storage().nbytes() // leaf.element_size())
        return result
