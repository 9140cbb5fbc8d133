"""Results behind a URL: a folder of this machine stands for each URL and is kept equal to what the store holds."""
