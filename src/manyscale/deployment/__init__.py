"""The model folder and the files of scores."""
