package fedagg.bridge.agent;

import java.nio.ByteBuffer;

/**
 * Samples into embeddings and embeddings into bridge samples, by the autoencoder that the federation pins. Buffers are
 * direct, in the machine's byte order, read and written from their start. One thread at a time.
 */
public interface Bridge {
  /** SHA-256 of the autoencoder's file, which must be the one that the parent names. */
  byte[] digest();

  /** Numbers of a sample on the model's scale. */
  int sampleFloats();

  /** Bytes of an embedding. */
  int embeddingBytes();

  /** Embeddings [rows, embeddingBytes] of samples, binary32 [rows, sampleFloats] in 0 to 1. */
  void encode(ByteBuffer samples, int rows, ByteBuffer codes);

  /** Bridge samples, binary32 [rows, sampleFloats], of embeddings; any bytes decode to something. */
  void decode(ByteBuffer codes, int rows, ByteBuffer samples);
}
