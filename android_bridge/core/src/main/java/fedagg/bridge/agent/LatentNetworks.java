package fedagg.bridge.agent;

import java.nio.ByteBuffer;

/** The two networks of an autoencoder, without the byte code. Buffers are direct, in the machine's order, from 0 on. */
public interface LatentNetworks {
  /** Numbers of a sample. */
  int sampleFloats();

  /** Numbers of an embedding before it becomes bytes. */
  int latentFloats();

  /** binary32 [rows, sampleFloats] to binary32 [rows, latentFloats]. */
  void encode(ByteBuffer samples, int rows, ByteBuffer latents);

  /** binary32 [rows, latentFloats] to binary32 [rows, sampleFloats]. */
  void decode(ByteBuffer latents, int rows, ByteBuffer samples);
}
