"""TRANSITION: old names, until the last file that imports them is rewritten."""

from manyscale.deployment.predict import CHUNK as CHUNK
from manyscale.runs.train import build_model as build_model
from manyscale.runs.train import dropped_tokens as dropped_tokens
from manyscale.runs.train import fit_features as fit_features
from manyscale.runs.train import model_settings as model_settings
from manyscale.runs.train import open_data as open_data
