"""The key INTENSITY_WINDOW, where readers look for it."""

from utils.intensity import IntensityWindow as IntensityWindow
