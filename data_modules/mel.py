"""Bands of frequencies as the ear takes them apart, for spectra of speech."""

import numpy as np
from numpy.typing import NDArray


def mel_bands(hertz: int, bands: int, bins: int) -> NDArray[np.float64]:
    """Triangular bands of Slaney's auditory toolbox from 0 to half the sampling rate, each of unit area.

    Args:
        hertz: the sampling rate.
        bands: how many.
        bins: frequencies of a spectrum, from 0 to half the sampling rate.

    Returns:
        ``(bands, bins)``, what each frequency adds to each band.

    Example:
        >>> made = mel_bands(16_000, 40, 201)
        >>> made.shape, bool((made >= 0).all())
        ((40, 201), True)
    """
    step = np.log(6.4) / 27

    def of_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(mel < 15, 200 / 3 * mel, 1000 * np.exp(step * (mel - 15)))

    top = 15 + np.log(hertz / 2 / 1000) / step
    edges, frequencies = of_mel(np.linspace(0, top, bands + 2)), np.linspace(0, hertz / 2, bins)
    rise = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    areas: NDArray[np.float64] = np.clip(np.minimum(rise, fall), 0, None) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return areas
