"""Networks to and from others: NIR files, and live networks of snnTorch and norse."""

from spikekit.interop.nir_read import from_nir
from spikekit.interop.nir_write import to_nir
from spikekit.interop.norse import from_norse
from spikekit.interop.snntorch import from_snntorch

__all__ = ["from_nir", "from_norse", "from_snntorch", "to_nir"]
