"""Autoencoders: the encoder that turns a private sample into an embedding and the decoder that makes the bridge sample.

`artefact` is the file (numpy only), `layout` says what an embedding's bytes mean, `quality` measures a reconstruction.
`networks`, `train` and `torch_bridge` need torch and are imported only by whoever trains or runs an autoencoder.
An embedding is decodable by anyone who holds the decoder: an autoencoder is no privacy mechanism.
"""
