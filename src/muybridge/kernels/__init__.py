"""How convolutions run on a device: forms, Winograd filtering, temporal convolution."""
